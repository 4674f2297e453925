import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.transform import resize

from medssl.scans.resample import combine_planes, resample

ONE_MM = (1.0, 1.0, 1.0)


def centres_mm(n, spacing_mm):
    """Positions of voxel centres, measured from the outer corner of the first voxel."""
    return (np.arange(n) + 0.5) * spacing_mm


def waves(shape, spacing_mm):
    """A smooth function of position, with mirror symmetry at the corners of a 24 x 36 x 30 mm box."""
    x, y, z = np.meshgrid(*map(centres_mm, shape, spacing_mm), indexing="ij")
    pi = np.pi
    return (np.cos(pi * x / 12) * np.cos(pi * y / 18) + np.cos(pi * z / 15)).astype(np.float32)


def test_identity_returns_the_same_voxels():
    volume = np.random.default_rng(0).random((5, 6, 7), dtype=np.float32)
    np.testing.assert_array_equal(resample(volume, (0.9, 1.3, 2), (0.9, 1.3, 2)), volume)


@pytest.mark.parametrize("spacing_to", [(0.5, 0.5, 0.5), (0.75, 1.0, 0.6), (0.8, 0.9, 1.0)])
def test_refining_gives_the_function_at_the_new_voxel_centres(spacing_to):
    volume = resample(waves((24, 36, 30), ONE_MM), ONE_MM, spacing_to)
    expected = waves(volume.shape, spacing_to)
    np.testing.assert_allclose(volume, expected, atol=2e-3)


def test_coarsening_gives_the_slightly_smoothed_function():
    volume = resample(waves((48, 72, 60), (0.5, 0.5, 0.5)), (0.5, 0.5, 0.5), (1.0, 1.5, 2.0))
    np.testing.assert_allclose(volume, waves((24, 24, 15), (1.0, 1.5, 2.0)), atol=0.05)


def test_detail_below_the_new_spacing_is_averaged_not_aliased():
    stripes = np.tile(np.float32([0, 1]), 32)[:, None, None] * np.ones((1, 4, 4), np.float32)
    volume = resample(stripes, ONE_MM, (4.0, 1.0, 1.0))
    np.testing.assert_allclose(volume[2:-2], 0.5, atol=0.02)


@pytest.mark.parametrize(
    ("shape", "shape_to"),
    [
        ((20, 22, 18), (30, 11, 21)),
        ((20, 22, 18), (9, 40, 20)),
        ((20, 22, 18), (20, 20, 20)),
        ((90, 5, 70), (130, 5, 100)),  # rows are made in several turns, of a part of the planes each
        ((5, 90, 70), (5, 33, 64)),
    ],
)
def test_equals_scipy_zoom_after_gaussian_smoothing(shape, shape_to):
    volume = np.random.default_rng(0).random(shape, dtype=np.float32)
    factors = np.divide(volume.shape, shape_to)
    smooth = ndimage.gaussian_filter(volume.astype(float), np.maximum(0, (factors - 1) / 2), mode="reflect")
    expected = ndimage.zoom(smooth, 1 / factors, order=3, mode="reflect", grid_mode=True)
    np.testing.assert_allclose(resample(volume, ONE_MM, tuple(factors)), expected, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_planes_are_combined_as_by_one_product(axis):
    rng = np.random.default_rng(axis)
    volume = rng.random((50, 60, 70), dtype=np.float32).transpose(2, 0, 1)
    for weights in (rng.random((75, volume.shape[axis]), dtype=np.float32), np.eye(volume.shape[axis])[1:]):
        expected = np.moveaxis(np.tensordot(weights, volume, axes=(1, axis)), 0, axis)
        np.testing.assert_allclose(combine_planes(volume, weights, axis), expected, rtol=1e-5)


def test_equals_scikit_image_where_borders_do_not_matter():
    volume = ndimage.gaussian_filter(np.random.default_rng(0).random((40, 40, 40)), 2).astype(np.float32)
    expected = resize(volume, (20, 60, 30), order=3, mode="reflect", anti_aliasing=True)
    result = resample(volume, ONE_MM, (2.0, 2 / 3, 4 / 3))
    np.testing.assert_allclose(result[4:-4, 8:-8, 6:-6], expected[4:-4, 8:-8, 6:-6], atol=1e-3)


@settings(max_examples=50)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    spacing_from=st.tuples(*[st.floats(0.3, 6)] * 3),
    spacing_to=st.tuples(*[st.floats(0.3, 6)] * 3),
)
def test_field_of_view_and_constants_are_kept(shape, spacing_from, spacing_to):
    volume = resample(np.full(shape, 7, np.float32), spacing_from, spacing_to)
    extent_from, extent_to = np.multiply(shape, spacing_from), np.multiply(volume.shape, spacing_to)
    assert np.all(
        (np.abs(extent_from - extent_to) <= np.divide(spacing_to, 2) + 1e-9) | (np.array(volume.shape) == 1)
    )
    np.testing.assert_allclose(volume, 7, rtol=1e-5)
    assert volume.dtype == np.float32
    assert volume.flags.c_contiguous
