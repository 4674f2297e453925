"""What is remembered of DICOM folders, and reading many of them in processes."""

import os
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import FileDataset

from medssl.config.schema import DataConfig
from medssl.progress import SilentProgress
from medssl.scans import check_headers, find_dicom
from medssl.scans.check_headers import check_scans, header_memory
from medssl.scans.dicom.series import series_in
from medssl.scans.find import find_scans
from medssl.scans.find_dicom import series_memory
from medssl.scans.processes import Died, run_batches
from medssl.scans.record import Found, SkippedScan
from tests.scans.dicom.conftest import WriteSeries, compress

Edit = Callable[[int, FileDataset], Any]


def of(patient: str) -> Edit:
    """Return an edit that names the patient."""
    return lambda _, dataset: setattr(dataset, "PatientID", patient)


@pytest.fixture
def root(write_series: WriteSeries, tmp_path: Path) -> Path:
    """A folder of series of two patients, and one with a slice missing."""
    write_series("scans/first", edit=of("A"))
    write_series("scans/second", edit=of("B"))
    write_series("scans/third", edit=of("A"), heights_mm=[0, 1, 2, 4, 5])
    write_series("scans/fourth", edit=of("A"))
    (tmp_path / "scans" / "fourth" / "IM1").write_text("no image")
    return tmp_path / "scans"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders whose headers are all read, as they are."""
    names: list[str] = []
    monkeypatch.setattr(
        find_dicom, "series_in", lambda folder: names.append(folder.name) or series_in(folder)
    )
    return names


def find_again(root: Path) -> Found:
    """Find scans with what earlier searches remembered, and remember more."""
    return find_scans(root, memory=series_memory(root.parent / "store"))


def test_unchanged_folders_are_not_read_again(root: Path, read: list[str]) -> None:
    expected = find_scans(root)
    subjects = [scan.subject_id for scan in expected.scans]
    assert subjects == ["first", "first", "second"]
    assert "A slice is missing" in expected.skipped[0].reason
    read.clear()
    assert find_again(root) == expected
    assert sorted(read) == ["first", "fourth", "second", "third"]
    read.clear()
    assert find_again(root) == expected
    assert read == []


def change(folder: Path) -> None:
    file = folder / "IM0010.dcm"
    dataset = pydicom.dcmread(file)
    dataset.PatientID = "B"  # as many bytes as before
    dataset.save_as(file)


def swap(folder: Path) -> None:
    one, other, between = folder / "IM0000.dcm", folder / "IM0007.dcm", folder / "x"
    one.rename(between)
    other.rename(one)
    between.rename(other)


@pytest.mark.parametrize(
    "alter",
    [
        change,
        swap,
        lambda folder: (folder / "IM0007.dcm").unlink(),
        lambda folder: (folder / "IM0000.dcm").rename(folder / "last.dcm"),
        lambda folder: (folder / "more").write_bytes((folder / "IM0000.dcm").read_bytes()),
    ],
)
def test_what_changed_is_read_again(root: Path, read: list[str], alter: Callable[[Path], None]) -> None:
    find_again(root)
    alter(root / "first")
    read.clear()
    found = find_again(root)
    assert read == ["first"]
    assert found == find_scans(root)


def test_a_new_folder_shares_its_patient_with_remembered_ones(root: Path, write_series: WriteSeries) -> None:
    find_again(root)
    write_series("scans/later", edit=of("B"))
    found = find_again(root)
    assert found == find_scans(root)
    assert [scan.subject_id for scan in found.scans if scan.scan_id in ("later", "second")] == ["later"] * 2


def test_an_archive_is_remembered_until_it_changes(root: Path, read: list[str]) -> None:
    def pack(*folders: str) -> None:
        with zipfile.ZipFile(root.parent / "export.zip", "w") as archive:
            for folder in folders:
                for file in (root / folder).iterdir():
                    archive.write(file, f"{folder}/{file.name}")

    pack("first")
    before = find_again(root.parent / "export.zip")
    read.clear()
    assert find_again(root.parent / "export.zip") == before
    assert read == []
    pack("first", "second")
    assert find_again(root.parent / "export.zip") == find_scans(root.parent / "export.zip") != before


@pytest.mark.parametrize("fact", ["no JSON", '[["IM0000.dcm"]]', '[["gone.dcm", null]]'])
def test_what_is_remembered_wrongly_is_read_anew(root: Path, fact: str) -> None:
    expected = find_again(root)
    signature = find_dicom.folder_signature(root / "first")
    series_memory(root.parent / "store").remember(root / "first", signature, fact)
    assert find_again(root) == expected


def test_a_missing_decoder_is_not_remembered(
    root: Path, write_series: WriteSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Decoder:
        is_available = False

    write_series("scans/first", edit=compress)
    monkeypatch.setattr("medssl.scans.dicom.slices.get_decoder", lambda _: Decoder)
    assert "pip install" in find_again(root).skipped[0].reason
    monkeypatch.setattr(Decoder, "is_available", True)
    series_in.__globals__["_series_in"].cache_clear()
    assert "first" in [scan.scan_id for scan in find_again(root).scans]


def test_what_is_remembered_does_not_depend_on_the_patient(write_series: WriteSeries, tmp_path: Path) -> None:
    def of_one_size(patient: str, index: int, dataset: FileDataset) -> None:
        dataset.PatientID = patient
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{index}"

    remembered = []
    for patient in ("1234", "9876"):
        for file in write_series("scans/ct", edit=partial(of_one_size, patient)):
            os.utime(file, (1, 1))
        found = find_again(tmp_path / "scans")
        check_scans(found, progress=SilentProgress(), memory=header_memory(tmp_path / "store"))
        lists = sorted((tmp_path / "store").iterdir())
        remembered.append([file.read_bytes() for file in lists])
        for file in lists:
            file.unlink()
    assert len(remembered[0]) == 2
    assert remembered[0] == remembered[1]


def test_headers_of_unchanged_series_are_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check_again() -> tuple[object, object]:
        memory = header_memory(root.parent / "store")
        return check_scans(find_scans(root), progress=SilentProgress(), memory=memory)

    opened: list[str] = []
    open_image = check_headers.open_image
    monkeypatch.setattr(
        check_headers, "open_image", lambda path: opened.append(path.parent.name) or open_image(path)
    )
    expected = check_again()
    opened.clear()
    assert check_again() == expected
    assert opened == []
    (root / "second" / "IM0010.dcm").write_bytes((root / "second" / "IM0010.dcm").read_bytes() + b"\0\0")
    check_again()
    assert opened == ["second"]


def test_many_folders_are_read_in_processes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = find_scans(root)
    monkeypatch.setattr(find_dicom, "WORTH_PROCESSES", 10)
    monkeypatch.setattr(find_dicom, "_FILES_IN_A_BATCH", 10)
    counted: list[int] = []

    def counting(function: Callable[..., Any], batches: list[Any], *, processes: int) -> Iterator[object]:
        counted.append(len(batches))
        return run_batches(function, batches, processes=processes)

    monkeypatch.setattr(find_dicom, "run_batches", counting)
    assert find_scans(root, data=DataConfig(prepare_workers=2)) == expected
    assert counted == [2]


def test_a_folder_that_ends_the_process_is_skipped_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(function: object, batches: list[list[Path]], *, processes: int) -> Iterator[object]:
        folders = [folder for batch in batches for folder in batch]
        return ((each, Died() if each.name == "first" else find_dicom._read(each)) for each in folders)

    monkeypatch.setattr(find_dicom, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(find_dicom, "run_batches", dying)
    found = find_scans(root, data=DataConfig(prepare_workers=1))
    assert [scan.scan_id for scan in found.scans] == ["fourth", "second"]
    assert found.skipped[0] == SkippedScan(root / "first", "Reading its DICOM headers ended the process.")
