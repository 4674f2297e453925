from types import SimpleNamespace

import pytest
import torch

from medssl.config.schema import AugmentationConfig
from medssl.training.augment import IntensityAugmentation

STILL = AugmentationConfig(gamma=0, scale=0, shift=0, noise=0)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    image = torch.rand(4, 1, 5, 6, 7)
    return {
        "image": image,
        "target": image.clone(),
        "mask": torch.rand(4, 1, 5, 6, 7) > 0.5,
        "views": torch.randn(4, 2, 1, 3, 3, 3),
        "seed": torch.tensor([5, 6, 7, 5]),
    }


def augmentation(**changes: float) -> IntensityAugmentation:
    config = STILL.model_copy(update=changes)
    return IntensityAugmentation(config, inputs=("image", "views"), targets=("target",))


def test_zeros_change_nothing(batch: dict[str, torch.Tensor]) -> None:
    changed = augmentation()(batch)
    assert all(torch.equal(changed[key], batch[key]) for key in batch)


def test_it_depends_on_a_samples_own_seed_alone(batch: dict[str, torch.Tensor]) -> None:
    augment = augmentation(gamma=0.2, scale=0.1, shift=0.1, noise=0.1)
    whole = augment(batch)
    last = augment({key: value[3:] for key, value in batch.items()})
    assert all(torch.equal(last[key][0], whole[key][3]) for key in batch)
    first, fourth = whole["image"][0] - batch["image"][0], whole["image"][3] - batch["image"][3]
    assert not torch.equal(first, fourth)  # same seed, other image: gamma acts on the values
    torch.manual_seed(1)
    assert torch.equal(augment(batch)["image"], whole["image"])


def test_the_target_follows_the_input_in_contrast(batch: dict[str, torch.Tensor]) -> None:
    changed = augmentation(gamma=0.2, scale=0.1, shift=0.1)(batch)
    assert torch.equal(changed["image"], changed["target"])
    assert not torch.allclose(changed["image"], batch["image"], atol=1e-3)


def test_noise_is_on_the_inputs_alone_and_within_its_bound(batch: dict[str, torch.Tensor]) -> None:
    changed = augmentation(noise=0.1)(batch)
    assert torch.equal(changed["target"], batch["target"])
    deviation = (changed["image"] - batch["image"]).flatten(1).std(dim=1)
    assert (deviation > 0).all()
    assert (deviation < 0.12).all()
    assert not torch.equal(changed["views"], batch["views"])


def test_views_keep_their_normalisation(batch: dict[str, torch.Tensor]) -> None:
    changed = augmentation(gamma=0.5, scale=0.5, shift=0.5)(batch)
    assert torch.equal(changed["views"], batch["views"])


@pytest.mark.parametrize(("name", "low", "high"), [("scale", 0.9, 1.1), ("shift", -0.1, 0.1)])
def test_draws_fill_their_range(name: str, low: float, high: float) -> None:
    count = 500
    ones = torch.ones(count, 1, 1, 1, 1)
    batch = {"image": ones, "seed": torch.arange(count)}
    augment = IntensityAugmentation(STILL.model_copy(update={name: 0.1}), inputs=("image",), targets=())
    drawn = augment(batch)["image"].flatten() - (1 if name == "shift" else 0)
    assert low <= drawn.min() < low + 0.01
    assert high - 0.01 < drawn.max() <= high
    assert drawn.mean() == pytest.approx((low + high) / 2, abs=0.01)


def test_gamma_is_a_power_and_keeps_both_ends() -> None:
    volume = torch.tensor([0.0, 0.25, 1.0]).reshape(1, 1, 3, 1, 1)
    augment = IntensityAugmentation(STILL.model_copy(update={"gamma": 0.5}), inputs=("image",), targets=())
    changed = augment({"image": volume, "seed": torch.tensor([3])})["image"].flatten()
    assert changed[0] == 0
    assert changed[2] == 1
    assert 0.25**1.5 <= changed[1] <= 0.25**0.5
    assert changed[1] != 0.25


def test_it_finds_its_keys_from_the_tasks(standins: SimpleNamespace) -> None:
    augment = IntensityAugmentation.of_tasks(standins.TinyMixture.tasks, STILL)
    assert augment.inputs == ("image",)
    assert augment.targets == ("whole",)
