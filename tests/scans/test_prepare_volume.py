from pathlib import Path

import numpy as np
import pytest

from medssl.config.schema import DataConfig
from medssl.errors import ScanError
from medssl.scans.prepare_volume import prepare_volume
from medssl.scans.record import ScanHeader

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def prepare(volume, *, foreground=None, stated=None, **settings):
    """Prepare a volume, whose header tells the modality ``stated``."""
    header = ScanHeader(volume.shape, (2.0, 2.0, 2.0), "RAS", "int16", tuple(map(tuple, AFFINE)), stated)
    return prepare_volume(
        volume.astype(np.float32),
        AFFINE,
        header=header,
        path=Path("scan.nii.gz"),
        spacing_mm=(1.0, 1.0, 1.0),
        data=DataConfig(**settings),
        foreground=foreground,
    )


def body_in_air(smooth_volume):
    """A CT of a body of 12 x 14 x 16 voxels, of -100 to 100 HU, amid 10 voxels of air."""
    return np.pad(smooth_volume / 5 - 100, 10, constant_values=-1000)


def test_the_result_is_resampled_and_normalised(smooth_volume):
    prepared = prepare(smooth_volume)
    assert prepared.voxels.shape == (24, 28, 32)
    assert (prepared.voxels.min(), prepared.voxels.max()) == (0, 1)
    assert prepared.recipe.modality == "mr"


def test_the_foreground_is_told_in_voxels_of_the_source(smooth_volume):
    in_air = np.pad(smooth_volume + 500, [(20, 7), (0, 0), (9, 9)])
    expected = ((17, 35), (0, 14), (6, 28))
    assert prepare(in_air).foreground == expected
    whole = prepare(in_air, crop_to_foreground=False)
    assert whole.foreground == tuple((0, length) for length in in_air.shape)


def test_a_given_foreground_is_kept_as_it_is(smooth_volume):
    box = ((1, 9), (0, 14), (4, 16))
    prepared = prepare(smooth_volume, foreground=box)
    assert prepared.foreground == box
    assert prepared.voxels.shape == (16, 28, 24)


def test_a_chosen_modality_overrules_the_guess(smooth_volume):
    prepared = prepare(smooth_volume, modality="ct", ct_window_hu=(-500, 1500))
    recipe = prepared.recipe
    assert (recipe.modality, recipe.lower, recipe.upper) == ("ct", -500, 1500)
    assert prepared.voxels.mean() == pytest.approx((smooth_volume.mean() + 500) / 2000, abs=0.01)


def test_padding_outside_a_ct_field_of_view_counts_as_air(smooth_volume):
    in_air = body_in_air(smooth_volume)
    padded = np.pad(in_air, 5, constant_values=-3024)
    expected = prepare(in_air, modality="ct")
    actual = prepare(padded, modality="ct")
    np.testing.assert_allclose(actual.voxels, expected.voxels, atol=1e-3)


def test_resampling_does_not_change_what_the_background_is(smooth_volume):
    """Cubic splines undershoot at edges, so percentiles of the foreground are those before resampling."""
    prepared = prepare(np.pad(smooth_volume + 400, 10), modality="mr", percentiles=(1, 99))
    assert prepared.recipe.lower == pytest.approx(np.percentile(smooth_volume + 400, 1), rel=0.01)


def test_voxels_that_are_no_scan_are_refused():
    with pytest.raises(ScanError, match="same value"):
        prepare(np.full((10, 10, 10), 5.0))


def test_what_the_header_says_of_the_modality_outweighs_the_range(smooth_volume):
    assert prepare(smooth_volume, stated="mr").recipe.modality == "mr"
    assert prepare(smooth_volume, stated="other").recipe.modality == "other"
