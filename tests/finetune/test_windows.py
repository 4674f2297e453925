import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from torch import nn

from medssl.finetune import windows
from medssl.finetune.windows import SlabPlan, predict_slabs
from medssl.training.settings import StepSettings

CPU = StepSettings("cpu")
WINDOW = (8, 6, 7)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Conv3d(1, 3, 3, padding=1).requires_grad_(False)


@pytest.fixture
def volume():
    return lambda *shape: torch.rand(1, *shape, generator=torch.Generator().manual_seed(1))


def predict(network, volume, plan, **options):
    def read(start, stop):
        return volume.narrow(1 + plan.axis, start, stop - start)

    slabs = list(predict_slabs(network, read, plan, settings=CPU, **options))
    return torch.cat(slabs, dim=1 + plan.axis), len(slabs)


@pytest.mark.parametrize("shape", [(60, 9, 9), (5, 47, 20), (9, 8, 50), (33, 33, 33)])
def test_slabs_equal_the_sliding_window_over_the_whole_volume(network, volume, shape, monkeypatch):
    monkeypatch.setattr(windows, "SLAB_BYTES", 1)
    image = volume(*shape)
    found, n_slabs = predict(network, image, SlabPlan.make(shape, crop_size=WINDOW, classes=3))
    assert n_slabs > 4
    missing = max(0, WINDOW[0] - shape[0])
    padded = nn.functional.pad(image[None], (0, 0, 0, 0, 0, missing), mode="replicate")
    expected = sliding_window_inference(
        padded, WINDOW, 2, lambda crops: network(crops).softmax(1), overlap=0.5, mode="gaussian"
    )
    torch.testing.assert_close(found, expected[0, :, : shape[0]], atol=1e-5, rtol=0)


@given(length=st.integers(13, 200), planes=st.integers(0, 50), window=st.integers(1, 12))
def test_slabs_are_disjoint_and_their_windows_those_of_the_whole(length, planes, window):
    plan = SlabPlan(0, (length, 4, 4), (window, 4, 4), planes)
    slabs = list(plan.slabs())
    assert [plane for start, stop in slabs for plane in range(start, stop)] == [*range(length)]
    step = max(window // 2, 1)
    starts = {*range(0, length - window, step), length - window}
    for start, stop in slabs:
        first, last = plan.seen_by(start, stop)
        touching = {place for place in starts if place < stop and place + window > start}
        seen = {*range(first, last - window, step), last - window}
        assert touching <= seen <= starts


def test_a_volume_hardly_larger_than_a_crop_passes_in_one_piece(network, volume):
    shape = (9, 6, 4)
    found, n_slabs = predict(network, volume(*shape), SlabPlan.make(shape, crop_size=WINDOW, classes=3))
    padded = nn.functional.pad(volume(*shape)[None], (0, 3, 0, 0, 0, 0), mode="replicate")
    torch.testing.assert_close(found, network(padded).softmax(1)[0, ..., :4])
    assert n_slabs == 1


def test_mirror_images_are_averaged(network, volume):
    image = volume(9, 6, 7)
    plan = SlabPlan.make((9, 6, 7), crop_size=WINDOW, classes=3)
    found, _ = predict(network, image, plan, flip_axes=(0, 2))
    each = [network(image[None].flip(axes)).softmax(1).flip(axes) for axes in [(), (2,), (4,), (2, 4)]]
    torch.testing.assert_close(found, torch.stack(each).mean(0)[0])
    assert not torch.allclose(found, each[0][0])


def test_memory_does_not_grow_with_the_volume(monkeypatch):
    """What is read and predicted at once has the same size."""
    monkeypatch.setattr(windows, "SLAB_BYTES", 4 * 3 * 16 * 16 * 20)
    longest = []
    for length in (100, 1000):
        plan = SlabPlan.make((length, 16, 16), crop_size=WINDOW, classes=3)
        seen = [plan.seen_by(*slab) for slab in plan.slabs()]
        longest.append(max(last - first for first, last in seen))
    assert longest[0] == longest[1] < 20 + 3 * WINDOW[0]
