import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.scans.foreground import MARGIN_VOXELS, foreground_box


def ball(shape, centre, radius, *, inside=1000.0, outside=0.0, noise=0.0):
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
    distance = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True)))
    volume = np.where(distance <= radius, inside, outside)
    return (volume + np.random.default_rng(0).normal(scale=noise, size=shape)).astype(np.float32)


def test_empty_border_is_cut_up_to_a_margin():
    box = foreground_box(ball((60, 70, 80), (30, 20, 50), 12))
    for kept, middle in zip(box, (30, 20, 50), strict=True):
        assert middle - 12 - MARGIN_VOXELS <= kept.start <= middle - 12
        assert middle + 12 < kept.stop <= middle + 13 + MARGIN_VOXELS


@pytest.mark.parametrize(("inside", "outside"), [(40, -1000), (1.7e6, 0), (0.02, 0.001)])
def test_intensity_scale_does_not_matter(inside, outside):
    box = foreground_box(ball((60, 60, 60), (30, 30, 30), 15, inside=inside, outside=outside))
    assert box == foreground_box(ball((60, 60, 60), (30, 30, 30), 15))


def test_noise_in_the_air_does_not_hide_the_border():
    noisy = foreground_box(ball((60, 60, 60), (30, 30, 30), 15, noise=30))
    assert noisy == foreground_box(ball((60, 60, 60), (30, 30, 30), 15))


def test_isolated_bright_voxels_do_not_hide_the_border():
    volume = ball((60, 60, 60), (30, 30, 30), 15)
    volume[1, 1, 1] = volume[58, 3, 58] = 1e6
    assert foreground_box(volume)[0].start > 5


@pytest.mark.parametrize("shape", [(31, 40, 24), (44, 44, 6), (3, 3, 3)])
def test_volume_without_background_is_kept_whole(shape):
    volume = np.random.default_rng(0).normal(500, 100, shape).astype(np.float32)
    assert volume[foreground_box(volume)].shape == shape


def test_constant_volume_is_kept_whole():
    assert foreground_box(np.zeros((4, 5, 6), np.float32)) == (slice(0, 4), slice(0, 5), slice(0, 6))


@settings(max_examples=30, deadline=None)
@given(centre=st.tuples(*[st.integers(0, 39)] * 3), radius=st.integers(6, 15))
def test_box_holds_the_whole_object(centre, radius):
    volume = ball((40, 40, 40), centre, radius)
    assert volume[foreground_box(volume)].sum() == volume.sum()


def test_hippocampus_crops_are_kept_whole(shared_data):
    paths = sorted((shared_data / "hippocampus").rglob("imagesTr/*.nii.gz"))[::10]
    assert paths
    for path in paths:
        volume = nib.load(path).get_fdata(dtype=np.float32)
        assert volume[foreground_box(volume)].shape == volume.shape
