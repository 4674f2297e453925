import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices
from monai.inferers import sliding_window_inference
from torch import nn

from medssl.finetune.windows import SlabPlan, predict_slabs, window_weights
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
def test_slabs_equal_the_sliding_window_over_the_whole_volume(network, volume, shape):
    image = volume(*shape)
    found, n_slabs = predict(network, image, SlabPlan.make(shape, crop_size=WINDOW))
    assert n_slabs > 4
    missing = max(0, WINDOW[0] - shape[0])
    padded = nn.functional.pad(image[None], (0, 0, 0, 0, 0, missing), mode="replicate")
    weights = window_weights(WINDOW)
    expected = sliding_window_inference(
        padded, WINDOW, 2, lambda crops: network(crops).softmax(1), overlap=0.5, roi_weight_map=weights
    )
    torch.testing.assert_close(found, expected[0, :, : shape[0]], atol=1e-5, rtol=0)


@given(length=st.integers(1, 200), window=st.integers(1, 12))
def test_windows_stand_where_monai_has_them(length, window):
    plan = SlabPlan(0, length, (window, 4, 4))
    padded = max(length, window)
    step = max(window // 2, 1)
    expected = {place[0].start for place in dense_patch_slices((padded, 4, 4), (window, 4, 4), (step, 4, 4))}
    assert plan.starts == sorted(expected)


def test_a_volume_hardly_larger_than_a_crop_passes_in_one_piece(network, volume):
    shape = (9, 6, 4)
    found, n_slabs = predict(network, volume(*shape), SlabPlan.make(shape, crop_size=WINDOW))
    padded = nn.functional.pad(volume(*shape)[None], (0, 3, 0, 0, 0, 0), mode="replicate")
    torch.testing.assert_close(found, network(padded).softmax(1)[0, ..., :4])
    assert n_slabs == 1


def test_mirror_images_are_averaged(network, volume):
    image = volume(9, 6, 7)
    plan = SlabPlan.make((9, 6, 7), crop_size=WINDOW)
    found, _ = predict(network, image, plan, flip_axes=(0, 2))
    each = [network(image[None].flip(axes)).softmax(1).flip(axes) for axes in [(), (2,), (4,), (2, 4)]]
    torch.testing.assert_close(found, torch.stack(each).mean(0)[0])
    assert not torch.allclose(found, each[0][0])


def test_every_window_is_seen_once(network, volume):
    shape = (50, 9, 9)
    seen = []

    def count(crops):
        seen.append(len(crops))
        return network(crops)

    predict(count, volume(*shape), SlabPlan.make(shape, crop_size=WINDOW))
    once = []
    sliding_window_inference(
        volume(*shape)[None], WINDOW, 2, lambda crops: once.append(len(crops)) or network(crops), overlap=0.5
    )
    assert sum(seen) == sum(once)


def test_memory_does_not_grow_with_the_volume(network):
    """What is read at once has the same size."""
    longest = []
    for length in (100, 1000):
        plan, planes = SlabPlan.make((length, 6, 7), crop_size=WINDOW), []

        def read(start, stop, planes=planes):
            planes.append(stop - start)
            return torch.zeros(1, stop - start, 6, 7)

        slabs = predict_slabs(network, read, plan, settings=CPU)
        longest.append((max(slab.shape[1] for slab in slabs), max(planes)))
    assert longest[0] == longest[1] == (WINDOW[0], WINDOW[0])
