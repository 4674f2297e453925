"""Find the scans a user points at: a file, a folder of any depth, or a table."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from medssl.config.schema import DataConfig
from medssl.errors import NoUsableScanError, UsageError
from medssl.progress import Progress, SilentProgress
from medssl.scans.dicom.places import ARCHIVE_SUFFIX, is_archive, may_be_dicom
from medssl.scans.file_memory import FileMemory
from medssl.scans.find_dicom import FoundSeries, find_series, share_subjects
from medssl.scans.layouts import (
    DATASET_FILE,
    NNUNET,
    case_name,
    label_map_reason,
    recognise_layout,
    without_suffix,
)
from medssl.scans.read import image_suffix, is_series
from medssl.scans.record import Found, ScanRecord, SkippedScan
from medssl.scans.subjects import bids_session, bids_subject, name_at_level, naming_level
from medssl.scans.table import TABLE_SUFFIXES, TableRow, read_scan_table
from medssl.scans.walk import walk_files


class FindSeries(Protocol):
    """`find_series`, told how to."""

    def __call__(self, root: Path, files: Iterable[str]) -> tuple[list[FoundSeries], list[SkippedScan]]:
        """Find the series that files belong to."""


def find_scans(
    source: Path,
    *,
    progress: Progress | None = None,
    data: DataConfig | None = None,
    memory: FileMemory | None = None,
) -> Found:
    """Find scans without opening them, but for the headers of DICOM files, which alone tell the series.

    In a folder, label maps (by folder name, file name or ``dataset.json``) and DICOM files that show no
    volume are skipped with a reason; files that are no images, and hidden ones, are passed over. A file that
    is itself the source, or listed in a table, is taken for a scan whatever its name says.

    A table's ``subject_id`` names the subject; else a BIDS ``sub-...`` in the path; else the case in nnU-Net
    raw; else, in DICOM, what the headers say of the patient (see `share_subjects`); else the file name or,
    where those repeat, the folder (see `naming_level`).

    Args:
        source: An image file, a folder, a zip archive of DICOM series, or a CSV with an ``image`` column
            (see `read_scan_table`).
        progress: Gets a bar where there may be DICOM; nobody by default.
        data: In how many processes many DICOM headers are read; None for the defaults.
        memory: Of DICOM folders, so that those that did not change need not be read; see
            `medssl.scans.find_dicom.series_memory`.

    Raises:
        MedsslError: If what was found out cannot be remembered, or no process can be started.
        UsageError: If ``source`` does not exist, or is a table that cannot be read.
        NoUsableScanError: If there is no image file at all.
    """
    find = partial(
        find_series,
        progress=progress or SilentProgress(),
        workers=(data or DataConfig()).prepare_workers,
        memory=memory,
    )
    if not source.exists():
        raise UsageError(f"{source} does not exist.")
    if source.is_dir():
        found = _find_in_folder(source, find)
    elif source.suffix.lower() in TABLE_SUFFIXES:
        listed, notes = find_in_table(source)
        found = Found("CSV", tuple(record for record, _ in listed), (), notes)
    else:
        found = _find_file(source, find)
    if not found.scans and not found.skipped:
        raise NoUsableScanError(
            f"No scan in {source}: nothing there is DICOM or ends in .nii.gz, .nii, .mha, .nrrd or .mgz."
        )
    return found


def _find_in_folder(root: Path, find: FindSeries) -> Found:
    files, skipped = walk_files(root, _is_wanted)
    layout = recognise_layout(root, files)
    images, others = [], []
    for file in files:
        if file.endswith(DATASET_FILE):
            continue
        if not image_suffix(file):
            others.append(file)
        elif reason := label_map_reason(file, layout):
            skipped.append(SkippedScan(root / file, reason))
        else:
            images.append(file)
    records, notes = _name_all(root, images, others, skipped, is_nnunet=layout.name == NNUNET, find=find)
    return Found(layout.name, records, tuple(skipped), (*layout.notes, *notes))


def _is_wanted(name: str) -> bool:
    is_zip = name.lower().endswith(ARCHIVE_SUFFIX)
    return name == DATASET_FILE or image_suffix(name) is not None or is_zip or may_be_dicom(name)


def _name_all(
    root: Path,
    images: Sequence[str],
    others: Sequence[str],
    skipped: list[SkippedScan],
    *,
    find: FindSeries,
    is_nnunet: bool = False,
) -> tuple[tuple[ScanRecord, ...], tuple[str, ...]]:
    """Name images and the DICOM series that other files belong to; add to what is skipped."""
    series, unusable = find(root, others)
    skipped += unusable
    names = [*images, *(each.name for each in series)]
    records, notes = name_scans(root, names, is_nnunet=is_nnunet)
    placed = [
        replace(record, path=root / each.file)
        for record, each in zip(records[len(images) :], series, strict=True)
    ]
    shared, more_notes = share_subjects(placed, [each.patient_id for each in series])
    return (*records[: len(images)], *shared), (*notes, *more_notes)


def find_in_table(table: Path) -> tuple[list[tuple[ScanRecord, TableRow]], tuple[str, ...]]:
    """Return what a table lists, each scan with the row that names it; and notes.

    Raises:
        UsageError: If the table cannot be read, or has no column ``image``.
    """
    rows, table_notes = read_scan_table(table)
    root = _root_of_names(table, [row.path for row in rows])
    names = [Path(os.path.relpath(row.path, root)).as_posix() for row in rows]
    records, notes = name_scans(table.parent, names, is_nnunet=False)
    scans = [
        replace(
            record,
            path=row.path,
            subject_id=row.subject_id or record.subject_id,
            session_id=row.session_id or record.session_id,
            split=row.split,
        )
        for record, row in zip(records, rows, strict=True)
    ]
    has_subjects = all(row.subject_id for row in rows)
    return list(zip(scans, rows, strict=True)), table_notes if has_subjects else (*table_notes, *notes)


def _find_file(path: Path, find: FindSeries) -> Found:
    if is_archive(path):
        skipped: list[SkippedScan] = []
        records, notes = _name_all(path.parent, [], [path.name], skipped, find=find)
        return Found("file", records, tuple(skipped), notes)
    if image_suffix(path.name) is None and not is_series(path):
        return Found("file", (), ())
    records, _ = name_scans(path.parent, [path.name], is_nnunet=False)
    return Found("file", records, ())


def name_scans(
    root: Path, files: Sequence[str], *, is_nnunet: bool
) -> tuple[tuple[ScanRecord, ...], tuple[str, ...]]:
    """Name scan and subject of each file, and tell what that rests on.

    Args:
        root: Where ids and subjects begin.
        files: Image files, relative to ``root``.
        is_nnunet: Whether their names end in a channel number, which names no one.
    """
    stems = [case_name(without_suffix(file)) if is_nnunet else without_suffix(file) for file in files]
    nameless = [stem for stem in stems if bids_subject(stem) is None]
    level = 0 if is_nnunet else naming_level(nameless)
    records = tuple(
        ScanRecord(
            path=root / file,
            scan_id=scan_id,
            subject_id=bids_subject(stem) or name_at_level(stem, level),
            session_id=bids_session(stem),
        )
        for file, scan_id, stem in zip(files, _unique_ids(files), stems, strict=True)
    )
    if not level:
        return records, ()
    example = name_at_level(nameless[0], level)
    return records, (
        f"File names repeat between folders, so a folder such as {example} counts as one subject; "
        "a CSV with a subject_id column would say otherwise.",
    )


def _unique_ids(files: Sequence[str]) -> list[str]:
    """Return each file without its suffix, but with it where two would be the same."""
    ids = [without_suffix(file) for file in files]
    while repeated := {scan_id for scan_id, count in Counter(ids).items() if count > 1}:
        ids = [file if scan_id in repeated else scan_id for file, scan_id in zip(files, ids, strict=True)]
    return ids


def _root_of_names(table: Path, images: Sequence[Path]) -> Path:
    """Return the folder that names of a table's images begin below: the table's, or one that holds them all.

    So names, and the crops that are drawn by them, depend neither on the working directory nor on where the
    data lie.
    """
    home, *folders = (os.path.normpath(file.parent.absolute()) for file in (table, *images))
    if os.path.commonpath([home, *folders]) == home:
        return Path(home)
    root = Path(os.path.commonpath(folders))
    return next(folder for folder in (root, *root.parents) if bids_subject(folder.as_posix()) is None)
