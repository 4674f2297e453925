import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import Compose

from medssl.pretext.crop import CropOrPadd
from medssl.pretext.turns import allowed_turns, apply_turn

SIDES = st.tuples(*[st.integers(3, 14)] * 3)
SPACINGS = st.sampled_from([(1.0, 1.0, 1.0), (1.0, 1.0, 3.0), (2.0, 0.8, 2.0), (1.0, 2.0, 3.0)])


def numbered(shape: tuple[int, int, int]) -> np.ndarray:
    """Every voxel has its own value, so that a crop tells where it came from."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)


def checkerboard(shape: tuple[int, int, int]) -> np.ndarray:
    """Zeros and ones: padding with their mean stands out."""
    return (np.indices(shape).sum(axis=0) % 2).astype(np.float32)[None]


@settings(deadline=None)
@given(SIDES, SIDES, SPACINGS, st.integers(0, 1000))
def test_padding_looks_the_same_after_every_turn(window, crop_size, spacing_mm, seed):
    transform = CropOrPadd("image", crop_size, spacing_mm=spacing_mm).set_random_state(seed)
    crop = transform({"image": checkerboard(window)})["image"]
    assert crop.shape == (1, *crop_size)
    is_padding = ~np.isin(crop, (0, 1))
    for turn in allowed_turns(crop_size, spacing_mm):
        assert np.array_equal(apply_turn(is_padding, turn), is_padding)


def test_a_crop_that_fits_is_a_plain_block_of_the_window():
    window = numbered((10, 9, 8))
    result = CropOrPadd("image", (4, 4, 4)).set_random_state(3)({"image": window})
    x, y, z = np.argwhere(window[0] == result["image"][0, 0, 0, 0])[0]
    assert np.array_equal(result["image"], window[:, x : x + 4, y : y + 4, z : z + 4])
    assert np.array_equal(result["window"], window)


def test_crops_reach_both_ends_of_the_window():
    transform = CropOrPadd("image", (4, 4, 4)).set_random_state(0)
    crops = [transform({"image": numbered((6, 6, 6))})["image"] for _ in range(200)]
    assert min(crop.min() for crop in crops) == 0
    assert max(crop.max() for crop in crops) == 6**3 - 1


def test_what_lies_around_a_small_window_is_its_mean():
    transform = CropOrPadd("image", (8, 8, 8)).set_random_state(0)
    crop = transform({"image": np.stack([numbered((4, 6, 8))[0], -numbered((4, 6, 8))[0]])})["image"]
    content = crop[:, 2:6, 2:6, 2:6]
    assert np.allclose(crop[:, 0, 0, 0], content.mean(axis=(1, 2, 3)))
    assert len(np.unique(content[0])) == 4**3


def test_axes_of_other_spacing_keep_all_they_have():
    transform = CropOrPadd("image", (8, 8, 8), spacing_mm=(1.0, 1.0, 4.0)).set_random_state(0)
    crop = transform({"image": checkerboard((4, 8, 8))})["image"]
    extents = np.ptp(np.argwhere(np.isin(crop[0], (0, 1))), axis=0) + 1
    assert extents.tolist() == [4, 4, 8]


def test_the_same_seed_draws_the_same_crop_also_in_a_copy():
    transform = Compose([CropOrPadd("image", (4, 4, 4))])
    twin = copy.deepcopy(transform)
    sample = {"image": numbered((9, 9, 9))}
    first = transform.set_random_state(5)(sample)["image"]
    assert np.array_equal(first, twin.set_random_state(5)(sample)["image"])
    assert not np.array_equal(first, twin.set_random_state(6)(sample)["image"])


def test_applying_is_apart_from_drawing():
    transform = CropOrPadd("image", (4, 4, 4)).set_random_state(0)
    window = numbered((9, 9, 9))
    box = transform.draw(window.shape[1:])
    results = [transform.apply(window, box, key="image")["image"] for _ in range(2)]
    assert np.array_equal(*results)
    assert np.array_equal(results[0], window[:, *box])


@pytest.mark.parametrize("window", [(1, 9, 9), (1, 1, 1)])
def test_a_single_plane_still_makes_a_crop(window):
    crop = CropOrPadd("image", (4, 4, 4)).set_random_state(0)({"image": numbered(window)})["image"]
    assert crop.shape == (1, 4, 4, 4)
    assert np.isfinite(crop).all()
