import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medssl.training.batch import GrowingBatch, collate


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        (np.zeros((1, 2, 3), dtype=np.float64), torch.float32, (2, 1, 2, 3)),
        (np.zeros((1, 2, 3), dtype=np.float16)[:, ::-1], torch.float32, (2, 1, 2, 3)),
        (torch.zeros(1, 2, 3).transpose(0, 2), torch.float32, (2, 3, 2, 1)),
        (MetaTensor(torch.zeros(1, 2, 3)), torch.float32, (2, 1, 2, 3)),
        (np.ones((1, 2), dtype=bool), torch.bool, (2, 1, 2)),
        (np.uint8(3), torch.int64, (2,)),
        (3, torch.int64, (2,)),
        (0.5, torch.float32, (2,)),
    ],
)
def test_everything_becomes_a_plain_tensor(value: object, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    batch = collate([{"key": value, "other": "text"}] * 2, ["key"])
    assert type(batch["key"]) is torch.Tensor
    assert (batch["key"].dtype, tuple(batch["key"].shape)) == (dtype, shape)
    assert batch["key"].is_contiguous()
    assert set(batch) == {"key"}


def test_samples_may_come_in_any_order() -> None:
    samples = [{"image": np.full((1, 2), place, dtype=np.float16)} for place in range(3)]
    batch = GrowingBatch(3, ["image"])
    for place in (2, 0, 1):
        batch.put(place, samples[place])
    assert torch.equal(batch.tensors["image"], collate(samples, ["image"])["image"])
    assert batch.tensors["image"][:, 0, 0].tolist() == [0, 1, 2]
