from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from medssl.config.schema import DataConfig
from medssl.errors import ScanError
from medssl.scans.modality import guess_modality, normalise, plan_intensity
from medssl.scans.read import read_volume
from medssl.scans.record import IntensityRecipe

Volume = NDArray[np.float32]
SCAN = Path("folder/scan.nii.gz")


@pytest.fixture
def ct() -> Volume:
    """Air, fat, soft tissue and bone in whole Hounsfield units."""
    rng = np.random.default_rng(0)
    volume = rng.normal(-990, 10, (20, 20, 20))
    volume[4:16, 4:16, 4:16] = rng.normal(40, 20, (12, 12, 12))
    volume[8:11, 8:11, 8:11] = 900
    return np.round(volume).astype(np.float32)


@pytest.fixture
def head() -> Volume:
    """A smooth bright ball on a blank background that fills most of the volume."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(axis=0))
    return np.where(radius < 0.6, 300 + 100 * np.cos(9 * radius), 0).astype(np.float32)


class TestGuess:
    @pytest.mark.parametrize(("dtype", "shift"), [("int16", 0), ("float32", 0), ("uint8", 0.4)])
    def test_hounsfield_units_are_ct(self, ct: Volume, dtype: str, shift: float) -> None:
        assert guess_modality(ct + np.float32(shift), dtype, SCAN) == "ct"

    def test_interpolated_hounsfield_units_need_the_name(self, ct: Volume) -> None:
        resampled = ct + np.float32(0.4)
        assert guess_modality(resampled, "float32", SCAN) == "other"
        assert guess_modality(resampled, "float32", Path("chest_CT_01.nii")) == "ct"

    def test_ct_on_another_scale_gets_no_hounsfield_window(self, ct: Volume) -> None:
        assert guess_modality(ct - ct.min(), "uint16", Path("CT_1.nii")) == "other"

    @pytest.mark.parametrize(("name", "modality"), [("sub-1_T1w.nii", "mr"), ("sub-1_pet.nii.gz", "other")])
    def test_the_name_of_another_modality_overrules(self, ct: Volume, name: str, modality: str) -> None:
        assert guess_modality(ct, "int16", Path(name)) == modality

    def test_mr_phase_is_no_ct(self) -> None:
        phase = np.random.default_rng(0).integers(-4096, 4096, (20, 20, 20)).astype(np.float32)
        assert guess_modality(phase, "int16", SCAN) == "other"

    def test_positive_intensities_are_mr_even_with_slight_ringing(self, head: Volume) -> None:
        assert guess_modality(head, "float32", SCAN) == "mr"
        assert guess_modality(ndimage.zoom(head, 1.3), "float32", SCAN) == "mr"

    def test_standardised_intensities_are_other(self, smooth_volume: Volume) -> None:
        standardised = (smooth_volume - smooth_volume.mean()) / smooth_volume.std()
        assert guess_modality(standardised, "float32", SCAN) == "other"

    @pytest.mark.parametrize(
        ("folder", "modality"), [("hippocampus/imagesTr", "mr"), ("lidc_nodules/images", "ct")]
    )
    def test_real_scans(self, shared_data: Path, folder: str, modality: str) -> None:
        for path in sorted((shared_data / folder).glob("*.nii.gz"))[::10]:
            assert guess_modality(read_volume(path)[0], "int16", path) == modality

    @pytest.mark.parametrize(
        ("name", "modality"),
        [
            ("000001_01_01_103-115_dep0.nii.gz", "ct"),
            ("CT_pitch.nii.gz", "other"),
            ("anatomical.nii", "mr"),
            ("t1w_cervical.nii.gz", "mr"),
            ("spmMotor.nii.gz", "other"),
        ],
    )
    def test_messy_scans(self, shared_data: Path, name: str, modality: str) -> None:
        path = shared_data / "messy" / name
        assert guess_modality(read_volume(path)[0], "int16", path) == modality


class TestPlan:
    def test_ct_takes_the_window(self, ct: Volume) -> None:
        data = DataConfig(ct_window_hu=(-160, 240))
        assert plan_intensity(ct, "ct", data=data) == IntensityRecipe("ct", -160, 240)

    def test_the_config_overrules_the_guess(self, ct: Volume) -> None:
        assert plan_intensity(ct, "mr", data=DataConfig(modality="ct")).modality == "ct"
        assert plan_intensity(ct, "ct", data=DataConfig(modality="other")).modality == "other"

    def test_percentiles_leave_out_the_background(self, head: Volume) -> None:
        recipe = plan_intensity(head, "mr", data=DataConfig(percentiles=(10, 90)))
        expected = np.percentile(head[head > 0], (10, 90))
        assert (recipe.lower, recipe.upper) == pytest.approx(expected)

    def test_a_background_that_rings_after_resampling_is_left_out_too(self, head: Volume) -> None:
        head = ndimage.gaussian_filter(head, 1)
        rung = ndimage.zoom(head, 1.3)
        assert rung.min() < 0
        data = DataConfig(percentiles=(50, 99))
        before = plan_intensity(head, "mr", data=data)
        after = plan_intensity(rung, "mr", data=data)
        assert (after.lower, after.upper) == pytest.approx((before.lower, before.upper), rel=0.1)

    def test_a_background_between_dark_and_bright_voxels_is_left_out(self, head: Volume) -> None:
        brain = head > 0
        head[brain] -= head[brain].mean()
        recipe = plan_intensity(head, "mr", data=DataConfig())
        expected = np.percentile(head[brain], (0.5, 99.5))
        assert (recipe.lower, recipe.upper) == pytest.approx(expected, rel=0.02)

    def test_one_bright_voxel_does_not_matter(self, head: Volume) -> None:
        plain = plan_intensity(head, "mr", data=DataConfig())
        head[0, 0, 0] = 1e7
        assert plan_intensity(head, "mr", data=DataConfig()).upper == pytest.approx(plain.upper, rel=0.01)

    @given(scale=st.floats(1e-3, 1e6), shift=st.floats(-100, 100))
    @settings(max_examples=30, deadline=None)
    def test_the_scale_of_mr_does_not_matter(self, scale: float, shift: float) -> None:
        volume = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(9, 9, 9)), 1)
        moved = (volume * scale + shift * scale).astype(np.float32)
        reference = normalise(volume.astype(np.float32), plan_intensity(volume, "mr", data=DataConfig()))
        result = normalise(moved, plan_intensity(moved, "mr", data=DataConfig()))
        np.testing.assert_allclose(result, reference, atol=2e-3)

    @pytest.mark.parametrize("modality", ["mr", "ct"])
    @pytest.mark.parametrize("value", [-3000, 0, 5000])
    def test_no_contrast_is_a_reason(self, modality: str, value: float) -> None:
        if modality == "ct" and value == 0:
            return
        with pytest.raises(ScanError, match="do not vary between"):
            plan_intensity(np.full((9, 9, 9), value, dtype=np.float32), modality, data=DataConfig())


class TestNormalise:
    def test_exact_values(self) -> None:
        volume = np.array([[[-2000, -1000, 0, 500, 1000, 3000]]], dtype=np.float32)
        result = normalise(volume, IntensityRecipe("ct", -1000, 1000))
        np.testing.assert_array_equal(result, [[[0, 0, 0.5, 0.75, 1, 1]]])

    @given(hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(-1e6, 1e6, width=32)))
    def test_range_type_and_input_stay(self, volume: Volume) -> None:
        before = volume.copy()
        result = normalise(volume, IntensityRecipe("mr", -10, 90))
        assert result.dtype == np.float32
        assert 0 <= result.min() <= result.max() <= 1
        np.testing.assert_array_equal(volume, before)
