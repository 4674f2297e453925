import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from medssl.errors import ScanError
from medssl.progress import SilentProgress
from medssl.scans import check
from medssl.scans.check import check_scans, check_voxels, random_voxels
from medssl.scans.find import find_scans
from medssl.scans.read import open_image, read_volume
from medssl.scans.record import CheckedScan, Found, ScanHeader, ScanRecord, SkippedScan

WriteScan = Callable[..., Path]

HEADER = ScanHeader((9, 9, 9), (1, 1, 1), "RAS", "int16", ())


class TestHeaders:
    def test_sound_and_broken_headers_part_in_order(self, write_scan: WriteScan, tmp_path: Path) -> None:
        write_scan("c.nii.gz")
        write_scan("a.nii.gz")
        (tmp_path / "b.nii.gz").write_text("hello")
        (tmp_path / "a_mask.nii.gz").touch()
        checked, skipped = check_scans(find_scans(tmp_path), progress=SilentProgress())
        assert [scan.record.scan_id for scan in checked] == ["a", "c"]
        assert checked[0].header.shape == (12, 14, 16)
        assert [(scan.path.name, scan.reason) for scan in skipped] == [
            ("a_mask.nii.gz", "Its name says that it is a label map."),
            ("b.nii.gz", "The content is not NIfTI, although the name says so."),
        ]

    def test_order_is_that_of_finding_not_of_finishing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def slow_for_the_first(record: ScanRecord, **_: object) -> check._Outcome:
            time.sleep(0.05 if record.scan_id == "0" else 0)
            return check._Outcome([CheckedScan(record, HEADER)])

        monkeypatch.setattr(check, "_check", slow_for_the_first)
        records = tuple(ScanRecord(Path(str(number)), str(number), "s") for number in range(20))
        early = SkippedScan(Path("x"), "early")
        checked, skipped = check_scans(Found("plain", records, (early,)), progress=SilentProgress())
        assert tuple(scan.record for scan in checked) == records
        assert skipped == [early]

    def test_an_error_drops_what_was_not_begun(self, monkeypatch: pytest.MonkeyPatch) -> None:
        begun = []

        def slow(record: ScanRecord, **_: object) -> check._Outcome:
            begun.append(record)
            time.sleep(0.01)
            return check._Outcome([CheckedScan(record, HEADER)])

        class Interrupting(SilentProgress):
            @contextmanager
            def track(self, description: str, *, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
                def advance(steps: int = 1, *, detail: str = "") -> None:
                    raise KeyboardInterrupt

                yield advance

        monkeypatch.setattr(check, "_check", slow)
        records = tuple(ScanRecord(Path(str(number)), str(number), "s") for number in range(500))
        with pytest.raises(KeyboardInterrupt):
            check_scans(Found("plain", records, ()), progress=Interrupting())
        assert len(begun) < 100


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
        monkeypatch.setattr(check, "_SAMPLED_VOXELS", 100)
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
        monkeypatch.setattr(check, "_SAMPLED_VOXELS", 500)
        volume = np.arange(27000, dtype=np.float32).reshape(30, 30, 30)
        voxels = random_voxels(volume)
        assert voxels.shape == (500,)
        assert abs(voxels.mean() / volume.mean() - 1) < 0.1
        np.testing.assert_array_equal(voxels, random_voxels(volume))


@pytest.mark.parametrize(
    ("time_points", "ids", "expected"),
    [
        ("first", ["4d"], [lambda series: series[..., 0]]),
        ("mean", ["4d"], [lambda series: series.mean(axis=3)]),
        ("all", ["4d@0", "4d@1", "4d@2"], [lambda series, t=t: series[..., t] for t in range(3)]),
    ],
)
def test_the_user_chooses_what_a_4d_scan_counts_as(
    write_scan: WriteScan,
    smooth_volume: NDArray[np.float32],
    tmp_path: Path,
    time_points: str,
    ids: list[str],
    expected: list[Callable[[NDArray[np.float32]], NDArray[np.float32]]],
) -> None:
    series = np.stack([smooth_volume, smooth_volume[::-1], smooth_volume[:, ::-1]], axis=3)
    write_scan("4d.nii.gz", volume=series)
    write_scan("3d.nii.gz")
    checked, _ = check_scans(find_scans(tmp_path), progress=SilentProgress(), time_points=time_points)
    assert [scan.record.scan_id for scan in checked] == ["3d", *ids]
    assert {scan.record.subject_id for scan in checked} == {"3d", "4d"}
    for scan, of_series in zip(checked[1:], expected, strict=True):
        volume, _ = read_volume(scan.record.path, time_point=scan.record.time_point)
        np.testing.assert_array_equal(volume, of_series(series))
    skipped = check_scans(find_scans(tmp_path), progress=SilentProgress())[1]
    assert "data.time_points" in skipped[0].reason


def test_a_scan_above_the_memory_limit_is_skipped(write_scan: WriteScan, tmp_path: Path) -> None:
    write_scan("scan.nii.gz")
    size_gb = 12 * 14 * 16 * 4 / 1e9
    found = find_scans(tmp_path)
    assert check_scans(found, progress=SilentProgress(), max_scan_gb=1.01 * size_gb)[1] == []
    (skipped,) = check_scans(found, progress=SilentProgress(), max_scan_gb=0.99 * size_gb)[1]
    assert "data.max_scan_gb" in skipped.reason


def test_unchanged_headers_are_not_read_again(
    write_scan: WriteScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scan("in/a.nii.gz")
    write_scan("in/b.nii.gz", affine=np.diag([2.0, 2, 2, 1]))
    found = find_scans(tmp_path / "in")

    def check_again() -> list[CheckedScan]:
        memory = check.header_memory(tmp_path / "store")
        return check_scans(found, progress=SilentProgress(), memory=memory)[0]

    opened = []
    monkeypatch.setattr(check, "open_image", lambda path: opened.append(path.name) or open_image(path))
    first = check_again()
    assert sorted(opened) == ["a.nii.gz", "b.nii.gz"]
    assert check_again() == first
    assert len(opened) == 2
    write_scan("in/b.nii.gz", affine=np.diag([3.0, 3, 3, 1]))
    assert [scan.header.spacing_mm[0] for scan in check_again()] == [1, 3]
    assert opened[2:] == ["b.nii.gz"]
