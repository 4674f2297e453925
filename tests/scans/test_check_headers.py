import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medssl.config.schema import DataConfig
from medssl.progress import SilentProgress
from medssl.scans import check_headers
from medssl.scans.check_headers import check_scans
from medssl.scans.find import find_scans
from medssl.scans.processes import Died, run_batches
from medssl.scans.read import open_image, read_volume
from medssl.scans.record import CheckedScan, Found, ScanHeader, ScanRecord, SkippedScan

WriteScan = Callable[..., Path]

SOUND = check_headers._Outcome(check_headers._as_text(ScanHeader((9, 9, 9), (1, 1, 1), "RAS", "int16", ())))


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
        def slow_for_the_first(path: Path, **_: object) -> check_headers._Outcome:
            time.sleep(0.05 if path.name == "0" else 0)
            return SOUND

        monkeypatch.setattr(check_headers, "_check", slow_for_the_first)
        records = tuple(ScanRecord(Path(str(number)), str(number), "s") for number in range(20))
        early = SkippedScan(Path("x"), "early")
        checked, skipped = check_scans(Found("plain", records, (early,)), progress=SilentProgress())
        assert tuple(scan.record for scan in checked) == records
        assert skipped == [early]

    def test_an_error_drops_what_was_not_begun(self, monkeypatch: pytest.MonkeyPatch) -> None:
        begun = []

        def slow(path: Path, **_: object) -> check_headers._Outcome:
            begun.append(path)
            time.sleep(0.01)
            return SOUND

        class Interrupting(SilentProgress):
            @contextmanager
            def track(self, description: str, *, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
                def advance(steps: int = 1, *, detail: str = "") -> None:
                    raise KeyboardInterrupt

                yield advance

        monkeypatch.setattr(check_headers, "_check", slow)
        records = tuple(ScanRecord(Path(str(number)), str(number), "s") for number in range(500))
        with pytest.raises(KeyboardInterrupt):
            check_scans(Found("plain", records, ()), progress=Interrupting())
        assert len(begun) < 100


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
    checked, _ = check_scans(
        find_scans(tmp_path), progress=SilentProgress(), data=DataConfig(time_points=time_points)
    )
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
    assert check_scans(found, progress=SilentProgress(), data=DataConfig(max_scan_gb=1.01 * size_gb))[1] == []
    (skipped,) = check_scans(found, progress=SilentProgress(), data=DataConfig(max_scan_gb=0.99 * size_gb))[1]
    assert "data.max_scan_gb" in skipped.reason


def test_unchanged_headers_are_not_read_again(
    write_scan: WriteScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scan("in/a.nii.gz")
    write_scan("in/b.nii.gz", affine=np.diag([2.0, 2, 2, 1]))
    found = find_scans(tmp_path / "in")

    def check_again() -> list[CheckedScan]:
        memory = check_headers.header_memory(tmp_path / "store")
        return check_scans(found, progress=SilentProgress(), memory=memory)[0]

    opened = []
    monkeypatch.setattr(
        check_headers, "open_image", lambda path: opened.append(path.name) or open_image(path)
    )
    first = check_again()
    assert sorted(opened) == ["a.nii.gz", "b.nii.gz"]
    assert check_again() == first
    assert len(opened) == 2
    write_scan("in/b.nii.gz", affine=np.diag([3.0, 3, 3, 1]))
    assert [scan.header.spacing_mm[0] for scan in check_again()] == [1, 3]
    assert opened[2:] == ["b.nii.gz"]


@pytest.mark.parametrize("fact", ['"no header"', '{"shape": [9, 9, 9]}', "3"])
def test_what_is_remembered_wrongly_is_read_anew(fact: str, write_scan: WriteScan, tmp_path: Path) -> None:
    path = write_scan("in/a.nii.gz")
    found = find_scans(tmp_path / "in")
    memory = check_headers.header_memory(tmp_path / "store")
    expected = check_scans(found, progress=SilentProgress(), memory=memory)
    (listed,) = (tmp_path / "store").glob("headers*")
    stat = path.stat()
    listed.write_text(f'["{path}", {stat.st_size}, {stat.st_mtime_ns}, {fact}]\n')
    memory = check_headers.header_memory(tmp_path / "store")
    assert check_scans(found, progress=SilentProgress(), memory=memory) == expected


def test_many_headers_are_parsed_in_processes(
    write_scan: WriteScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        write_scan(f"in/{number}.nii.gz", affine=np.diag([1 + number, 2, 2, 1]))
    (tmp_path / "in" / "5.nii.gz").write_text("hello")
    found = find_scans(tmp_path / "in")
    here = check_scans(found, progress=SilentProgress())
    monkeypatch.setattr(check_headers, "WORTH_PROCESSES", 5)
    monkeypatch.setattr(check_headers, "_IN_A_BATCH", 2)
    counted: list[int] = []

    def counting(function: Callable[..., Any], batches: list[Any], *, processes: int) -> Iterator[object]:
        counted.append(processes)
        return run_batches(function, batches, processes=processes)

    monkeypatch.setattr(check_headers, "run_batches", counting)
    assert check_scans(found, progress=SilentProgress(), data=DataConfig(prepare_workers=2)) == here
    assert counted == [2]


def test_a_header_that_ends_the_process_is_skipped_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(function: object, batches: list[Any], *, processes: int) -> Iterator[object]:
        return ((item, Died() if item[0] == 3 else SOUND) for batch in batches for item in batch)

    monkeypatch.setattr(check_headers, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(check_headers, "run_batches", dying)
    records = tuple(ScanRecord(Path(str(number)), str(number), "s") for number in range(6))
    found = Found("plain", records, ())
    checked, skipped = check_scans(found, progress=SilentProgress(), data=DataConfig(prepare_workers=1))
    assert [scan.record.scan_id for scan in checked] == ["0", "1", "2", "4", "5"]
    assert skipped == [SkippedScan(Path("3"), "Reading its header ended the process.")]


def test_memory_for_many_scans_stays_small(write_scan: WriteScan, tmp_path: Path) -> None:
    count = 2000
    first = write_scan("in/0.nii")
    for number in range(1, count):
        (tmp_path / "in" / f"{number}.nii").hardlink_to(first)
    found = find_scans(tmp_path / "in")
    for _ in ("first", "again"):
        tracemalloc.start()
        memory = check_headers.header_memory(tmp_path / "store")
        checked, _ = check_scans(found, progress=SilentProgress(), memory=memory)
        held_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len({id(scan.header) for scan in checked}) == 1
        assert held_bytes < 800 * count


def test_numbers_are_shared_with_their_signs() -> None:
    affine = ((-0.0, 2.0, 0.0, 5.5), (2.0, -0.0, 0.0, -5.5))
    headers = [ScanHeader((9, 9, 9 + n), (1.0, 1.0, 1.0), "RAS", "int16", affine) for n in range(2)]
    parsed = [check_headers._parse_header(check_headers._as_text(header)) for header in headers]
    assert [repr(header) for header in parsed] == [repr(header) for header in headers]
    assert parsed[0].affine[0][3] is parsed[1].affine[0][3]
