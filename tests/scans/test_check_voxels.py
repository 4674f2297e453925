from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from medssl.errors import ScanError
from medssl.scans import check_voxels as module
from medssl.scans.check_voxels import check_voxels, random_voxels
from medssl.scans.read import read_volume


class TestVoxels:
    def test_a_scan_passes(self, smooth_volume: NDArray[np.float32]) -> None:
        check_voxels(smooth_volume)

    def test_non_finite_voxels(self, smooth_volume: NDArray[np.float32]) -> None:
        smooth_volume[:3] = np.nan
        smooth_volume[3, :, :8] = np.inf
        smooth_volume[3, :, 8:] = np.finfo(np.float32).min
        with pytest.raises(ScanError, match=r"^33\.3% of its voxels are NaN or infinite\.$"):
            check_voxels(smooth_volume)

    def test_constant(self) -> None:
        with pytest.raises(ScanError, match=r"same value \(7\)"):
            check_voxels(np.full((8, 9, 10), 7, dtype=np.float32))

    def test_nearly_empty(self) -> None:
        volume = np.zeros((40, 40, 40), dtype=np.float32)
        volume[:3, :3, :3] = np.arange(27).reshape(3, 3, 3)
        with pytest.raises(ScanError, match="nearly empty"):
            check_voxels(volume)

    def test_a_large_nearly_empty_volume_is_told_from_a_constant_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_SAMPLED_VOXELS", 100)
        volume = np.zeros((30, 30, 30), dtype=np.float32)
        volume[0, 0, 0] = 1
        with pytest.raises(ScanError, match="nearly empty"):
            check_voxels(volume)

    @pytest.mark.parametrize("scale", [1, 0.37])
    def test_label_map(self, smooth_volume: NDArray[np.float32], scale: float) -> None:
        labels = np.digitize(smooth_volume, np.linspace(100, 900, 19)) * np.float32(scale)
        with pytest.raises(ScanError, match="only 20 distinct values"):
            check_voxels(labels.astype(np.float32))

    @settings(max_examples=30, deadline=None)
    @given(
        st.tuples(*[st.integers(2, 20)] * 3).filter(lambda shape: np.prod(shape) > 1000), st.integers(0, 99)
    )
    def test_noise_is_refused_and_its_smoothing_is_not(self, shape: tuple[int, ...], seed: int) -> None:
        noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        with pytest.raises(ScanError, match="noise"):
            check_voxels(noise)
        check_voxels(ndimage.gaussian_filter(noise, 0.7))

    def test_smooth_along_one_axis_is_enough(self) -> None:
        rows = np.random.default_rng(0).normal(size=(20, 20, 1))
        check_voxels(np.broadcast_to(rows, (20, 20, 6)).astype(np.float32))

    @pytest.mark.parametrize(
        "folder", ["hippocampus/imagesTr", "hippocampus/imagesTs", "lidc_nodules/images"]
    )
    def test_no_real_crop_is_refused(self, shared_data: Path, folder: str) -> None:
        for path in sorted((shared_data / folder).glob("*.nii.gz"))[::10]:
            check_voxels(read_volume(path)[0])

    def test_real_label_maps_are_refused(self, shared_data: Path) -> None:
        for path in sorted((shared_data / "hippocampus" / "labelsTr").glob("*.nii.gz"))[::50]:
            with pytest.raises(ScanError, match="label map"):
                check_voxels(read_volume(path)[0])


class TestRandomVoxels:
    def test_small_volumes_are_taken_whole(self, smooth_volume: NDArray[np.float32]) -> None:
        np.testing.assert_array_equal(random_voxels(smooth_volume), smooth_volume.ravel())

    def test_large_ones_are_sampled_the_same_way_each_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_SAMPLED_VOXELS", 500)
        volume = np.arange(27000, dtype=np.float32).reshape(30, 30, 30)
        voxels = random_voxels(volume)
        assert voxels.shape == (500,)
        assert abs(voxels.mean() / volume.mean() - 1) < 0.1
        np.testing.assert_array_equal(voxels, random_voxels(volume))
