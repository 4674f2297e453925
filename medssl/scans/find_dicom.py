"""Find DICOM series among the files of a folder, and whom they show."""

import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from medssl.errors import ScanError
from medssl.progress import Progress
from medssl.scans.dicom.places import ARCHIVE_SUFFIX, list_archive, may_be_dicom
from medssl.scans.dicom.series import Series, series_in
from medssl.scans.record import ScanRecord, SkippedScan
from medssl.scans.subjects import bids_subject

SHARED_IDENTIFIER = (
    "All DICOM headers hold the same patient identifier, so subjects are told by folder and file names; "
    "a CSV with a subject_id column would say otherwise."
)


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series that may be read.

    Attributes:
        file: The file that stands for it, relative to the searched folder.
        name: What names it there: the folder, or the file where the folder holds several series.
        patient_id: Whom it shows; to compare, never to tell.
    """

    file: str
    name: str
    patient_id: str


def find_series(
    root: Path, files: Iterable[str], *, progress: Progress
) -> tuple[list[FoundSeries], list[SkippedScan]]:
    """Find the series that files belong to, by their headers.

    Args:
        root: The searched folder.
        files: Archives, and files that may be DICOM, relative to ``root``, sorted.
        progress: Gets a bar, if there are any.

    Returns:
        Series, in the order of the files that stand for them; and what is DICOM and cannot be read.
    """
    found: list[FoundSeries] = []
    skipped: list[SkippedScan] = []
    folders = list(dict.fromkeys(_folders(root, files, skipped)))
    bar = progress.track("Reading DICOM headers", total=len(folders)) if folders else nullcontext()
    with bar as advance:
        for folder in folders:
            series, unusable = _in_folder(root, folder)
            found += series
            skipped += unusable
            if advance:
                advance(detail=folder)
    return found, skipped


def _in_folder(root: Path, folder: str) -> tuple[list[FoundSeries], list[SkippedScan]]:
    try:
        all_series = series_in(root / folder)
    except ScanError as error:
        return [], [SkippedScan(root / folder, str(error))]
    usable = [series for series in all_series if not series.reason]
    return [_found(folder, series, is_alone=len(usable) == 1) for series in usable], [
        SkippedScan(root / folder / series.files[0], series.reason) for series in all_series if series.reason
    ]


def share_subjects(
    records: Sequence[ScanRecord], patient_ids: Sequence[str]
) -> tuple[list[ScanRecord], tuple[str, ...]]:
    """Give series of one patient the same subject, which is named after the first of them.

    So no identifier leaves the headers, and a subject keeps its name from run to run.

    Args:
        records: Of series, in a stable order.
        patient_ids: Identifier of each, empty where the header holds none.

    Returns:
        The records, and a note where the identifiers tell nothing.
    """
    if len(records) > 1 and len(set(patient_ids)) == 1 and patient_ids[0]:
        return list(records), (SHARED_IDENTIFIER,)
    first: dict[str, str] = {}
    shared = []
    for record, patient_id in zip(records, patient_ids, strict=True):
        is_named = bids_subject(record.scan_id) is not None
        subject_id = first.setdefault(patient_id, record.subject_id) if patient_id else record.subject_id
        shared.append(record if is_named else replace(record, subject_id=subject_id))
    return shared, ()


def _folders(root: Path, files: Iterable[str], skipped: list[SkippedScan]) -> Iterable[str]:
    """Yield the folders, on disk and in archives, that hold files which may be DICOM."""
    for file in files:
        if not file.lower().endswith(ARCHIVE_SUFFIX):
            yield posixpath.dirname(file)
            continue
        try:
            inside = Counter(folder for folder, name in list_archive(root / file) if may_be_dicom(name))
        except ScanError as error:
            skipped.append(SkippedScan(root / file, str(error)))
            continue
        yield from (posixpath.join(file, folder).rstrip("/") for folder in sorted(inside))


def _found(folder: str, series: Series, *, is_alone: bool) -> FoundSeries:
    file = posixpath.join(folder, series.files[0])
    return FoundSeries(file, folder if is_alone and folder else file, series.patient_id)
