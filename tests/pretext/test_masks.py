import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from medssl.errors import ConfigError
from medssl.pretext.masks import draw_mask

SIZES = st.tuples(*[st.integers(2, 20)] * 3)
RATIOS = st.floats(0.05, 0.95)
SEEDS = st.integers(0, 2**31)


def hidden_cells(cells: int, ratio: float) -> int:
    return min(max(round(ratio * cells), 1), cells - 1)


@settings(deadline=None)
@given(SIZES, st.integers(1, 9), RATIOS, SEEDS)
def test_cubes_hide_exactly_the_share_of_cells(size, patch_size, ratio, seed):
    assume(patch_size < max(size))
    mask = draw_mask(
        size, shape="cubes", mask_ratio=ratio, patch_size=patch_size, random=np.random.RandomState(seed)
    )
    assert mask.shape == size
    assert mask.dtype == bool
    first_voxels = mask[::patch_size, ::patch_size, ::patch_size]
    assert first_voxels.sum() == hidden_cells(first_voxels.size, ratio)
    x, y, z = size
    whole_cells = np.kron(first_voxels, np.ones((patch_size,) * 3, dtype=bool))
    assert np.array_equal(mask, whole_cells[:x, :y, :z])


def test_cubes_hide_the_share_of_voxels_where_sizes_divide():
    mask = draw_mask(
        (24, 24, 24), shape="cubes", mask_ratio=0.6, patch_size=4, random=np.random.RandomState(0)
    )
    assert mask.sum() == round(0.6 * 6**3) * 4**3


@settings(deadline=None)
@given(SIZES, st.integers(1, 9), RATIOS, SEEDS)
def test_slabs_hide_whole_planes_along_one_axis(size, patch_size, ratio, seed):
    assume(patch_size < max(size))
    mask = draw_mask(
        size, shape="slabs", mask_ratio=ratio, patch_size=patch_size, random=np.random.RandomState(seed)
    )
    (axis,) = [axis for axis in range(3) if _planes(mask, axis).any()]
    planes = _planes(mask, axis)
    assert mask.sum() == planes.sum() * mask.size / size[axis]
    assert planes[::patch_size].sum() == hidden_cells(len(planes[::patch_size]), ratio)


def _planes(mask: np.ndarray, axis: int) -> np.ndarray:
    return mask.all(axis=tuple(other for other in range(3) if other != axis))


def test_slabs_lie_along_every_axis_in_turn():
    masks = [
        draw_mask((8, 8, 8), shape="slabs", mask_ratio=0.5, patch_size=2, random=np.random.RandomState(seed))
        for seed in range(20)
    ]
    axes = {axis for mask in masks for axis in range(3) if _planes(mask, axis).any()}
    assert axes == {0, 1, 2}


@settings(deadline=None)
@given(st.tuples(*[st.integers(2, 24)] * 3), st.floats(0.01, 0.999), SEEDS)
@example(size=(4, 4, 4), ratio=0.97, seed=0)  # every side rounds up to the whole crop
def test_hole_is_one_box_of_the_wanted_share(size, ratio, seed):
    mask = draw_mask(size, shape="hole", mask_ratio=ratio, patch_size=4, random=np.random.RandomState(seed))
    assert mask.any()
    assert not mask.all()
    corners = np.argwhere(mask)
    sides = corners.max(axis=0) - corners.min(axis=0) + 1
    assert mask.sum() == np.prod(sides)
    a_layer = max(sides[0] * sides[1], mask.size / max(size))
    assert abs(mask.sum() - ratio * mask.size) <= a_layer


def test_holes_reach_every_corner_of_the_crop():
    random = np.random.RandomState(0)
    holes = [
        draw_mask((8, 8, 8), shape="hole", mask_ratio=0.4, patch_size=4, random=random) for _ in range(200)
    ]
    ever_hidden = np.any(holes, axis=0)
    assert ever_hidden[::7, ::7, ::7].all()


@pytest.mark.parametrize("shape", ["cubes", "slabs", "hole"])
def test_the_random_state_alone_decides(shape):
    def draw(seed: int) -> np.ndarray:
        random = np.random.RandomState(seed)
        return draw_mask((12, 12, 12), shape=shape, mask_ratio=0.5, patch_size=3, random=random)

    assert np.array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))


@pytest.mark.parametrize("shape", ["cubes", "slabs"])
def test_a_cell_as_large_as_the_crop_is_refused(shape):
    with pytest.raises(ConfigError, match="at most 6"):
        draw_mask((12, 12, 8), shape=shape, mask_ratio=0.5, patch_size=12, random=np.random.RandomState(0))
