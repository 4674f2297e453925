"""Find DICOM series among the files of a folder, and whom they show."""

import json
import posixpath
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from medssl import __version__
from medssl.errors import ScanError
from medssl.progress import Progress
from medssl.scans.dicom.places import ARCHIVE_SUFFIX, list_archive, may_be_dicom
from medssl.scans.dicom.series import folder_signature, series_in
from medssl.scans.dicom.slices import read_patient_id
from medssl.scans.file_memory import FileMemory, Signature
from medssl.scans.processes import Died, count_processes, make_batches, run_batches
from medssl.scans.record import ScanRecord, SkippedScan
from medssl.scans.subjects import bids_subject

WORTH_PROCESSES = 2000
"""DICOM files from which processes are started to read their headers, 2 ms each."""

_FILES_IN_A_BATCH = 200
_FACT = TypeAdapter(list[tuple[str, str | None]])

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
    patient_id: str = field(repr=False)


def find_series(
    root: Path,
    files: Iterable[str],
    *,
    progress: Progress,
    workers: int | Literal["auto"] = "auto",
    memory: FileMemory | None = None,
) -> tuple[list[FoundSeries], list[SkippedScan]]:
    """Find the series that files belong to, by their headers.

    Args:
        root: The searched folder.
        files: Archives, and files that may be DICOM, relative to ``root``, sorted.
        progress: Gets a bar, if there are any.
        workers: In how many processes headers are read where they are many; "auto" is one a core.
        memory: Of folders, so that only one file of each series need be opened in those that did not change;
            see `series_memory`.

    Returns:
        Series, in the order of the files that stand for them; and what is DICOM and cannot be read.

    Raises:
        MedsslError: If what was found out cannot be remembered, or no process can be started.
    """
    skipped: list[SkippedScan] = []
    sizes = _count_files(root, files, skipped)
    if not sizes:
        return [], skipped
    contents: dict[str, _Contents] = {}
    with progress.track("Reading DICOM headers", total=len(sizes)) as advance:
        for folder, known in _recall_all(root, sizes, memory) if memory else ():
            contents[folder] = known
            advance(detail=folder)
        new = {folder: size for folder, size in sizes.items() if folder not in contents}
        with closing(_read_all(root, new, workers)) as outcomes:
            for folder, outcome in outcomes:
                contents[folder] = outcome
                if memory and outcome.signature:
                    memory.remember(root / folder, outcome.signature, _as_fact(outcome))
                advance(detail=folder)
    found: list[FoundSeries] = []
    for folder in sizes:
        series, unusable = _sort_out(root, folder, contents[folder])
        found += series
        skipped += unusable
    return found, skipped


def series_memory(store: Path) -> FileMemory:
    """Return what runs with one store remember of DICOM folders; each version reads them anew.

    Nothing of it comes from tags that tell who a patient is, nor from a hash of them: of short identifiers
    all hashes can be tried. So whom a series shows is read again from one of its files.
    """
    return FileMemory(store / f"series-{__version__}.jsonl")


@dataclass(frozen=True, slots=True)
class _Listed:
    """A series in a folder.

    Attributes:
        file: Name of the file that stands for it.
        reason: Why it cannot be read as a volume, or None.
        patient_id: As in `FoundSeries`.
    """

    file: str
    reason: str | None
    patient_id: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class _Contents:
    """What lies in a folder.

    Attributes:
        series: In the order of their files.
        reason: Why the folder cannot be opened, or None.
        signature: Of the folder before it was read, where that is worth remembering.
    """

    series: tuple[_Listed, ...] = ()
    reason: str | None = None
    signature: Signature | None = None


def _read(folder: Path) -> _Contents:
    """Read all headers in a folder."""
    try:
        signature = folder_signature(folder)
        found = series_in(folder)
    except OSError as error:
        return _Contents(reason=f"The folder cannot be opened: {error.strerror}.")
    except ScanError as error:
        return _Contents(reason=str(error))
    series = tuple(_Listed(each.files[0], each.reason, each.patient_id) for each in found)
    return _Contents(series, signature=signature if all(each.is_lasting for each in found) else None)


def _read_batch(folders: Sequence[Path]) -> list[_Contents]:
    return [_read(folder) for folder in folders]


def _read_all(
    root: Path, sizes: Mapping[str, int], workers: int | Literal["auto"]
) -> Generator[tuple[str, _Contents], None, None]:
    """Yield what lies in each of some folders, given the number of files in each."""
    processes = count_processes(workers) if sum(sizes.values()) >= WORTH_PROCESSES else 0
    if not processes:
        yield from ((folder, _read(root / folder)) for folder in sizes)
        return
    names = {root / folder: folder for folder in sizes}
    batches = make_batches(zip(names, sizes.values(), strict=True), size=_FILES_IN_A_BATCH)
    for path, contents in run_batches(_read_batch, batches, processes=processes):
        died = _Contents(reason="Reading its DICOM headers ended the process.")
        yield names[path], died if isinstance(contents, Died) else contents


def _as_fact(contents: _Contents) -> str:
    return json.dumps([[each.file, each.reason] for each in contents.series])


def _recall_all(root: Path, folders: Iterable[str], memory: FileMemory) -> Iterator[tuple[str, _Contents]]:
    """Yield what is remembered of the folders that did not change."""
    for folder in folders:
        path = root / folder
        try:
            fact = memory.look_up(path, folder_signature(path))
            if fact is not None:
                series = tuple(_with_patient(path, *each) for each in _FACT.validate_json(fact))
                yield folder, _Contents(series)
        except (OSError, ScanError, ValidationError):  # not there any more, or the list is damaged here
            continue


def _with_patient(folder: Path, file: str, reason: str | None) -> _Listed:
    return _Listed(file, reason, "" if reason else read_patient_id(folder / file))


def _sort_out(root: Path, folder: str, contents: _Contents) -> tuple[list[FoundSeries], list[SkippedScan]]:
    """Part series that may be read from what cannot."""
    if contents.reason:
        return [], [SkippedScan(root / folder, contents.reason)]
    usable = [series for series in contents.series if not series.reason]
    return [_found(folder, series, is_alone=len(usable) == 1) for series in usable], [
        SkippedScan(root / folder / series.file, series.reason) for series in contents.series if series.reason
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


def _count_files(root: Path, files: Iterable[str], skipped: list[SkippedScan]) -> dict[str, int]:
    """Return how many files that may be DICOM lie in each folder, on disk and in archives."""
    sizes: Counter[str] = Counter()
    for file in files:
        if not file.lower().endswith(ARCHIVE_SUFFIX):
            sizes[posixpath.dirname(file)] += 1
            continue
        try:
            inside = Counter(folder for folder, name in list_archive(root / file) if may_be_dicom(name))
        except ScanError as error:
            skipped.append(SkippedScan(root / file, str(error)))
            continue
        sizes.update({posixpath.join(file, folder).rstrip("/"): inside[folder] for folder in sorted(inside)})
    return dict(sizes)


def _found(folder: str, series: _Listed, *, is_alone: bool) -> FoundSeries:
    file = posixpath.join(folder, series.file)
    return FoundSeries(file, folder if is_alone and folder else file, series.patient_id)
