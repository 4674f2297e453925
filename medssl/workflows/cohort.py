"""The scans of one run: found, checked, prepared and split, and the records of that in the run folder."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medssl.config.schema import DataConfig
from medssl.errors import NoUsableScanError
from medssl.progress import Progress
from medssl.scans.check_headers import check_scans, header_memory
from medssl.scans.find import find_scans
from medssl.scans.find_dicom import series_memory
from medssl.scans.manifest import read_manifest, read_skipped, write_manifest, write_skipped
from medssl.scans.plan import plan_spacing
from medssl.scans.prepare import prepare_scans
from medssl.scans.record import CheckedScan, Found, PreparedScan, SkippedScan
from medssl.scans.split import read_held_out, split_by_subject, write_split
from medssl.scans.store import ScanStore
from medssl.training.run_folder import RunFolder


@dataclass(frozen=True)
class Candidates:
    """Scans whose headers are sound, before any voxel was read.

    Attributes:
        scans: What can be prepared.
        skipped: What is left out so far.
        spacing_mm: The spacing they will be resampled to, along R, A and S.
        layout: How the folder is organised, such as "BIDS".
    """

    scans: list[CheckedScan]
    skipped: list[SkippedScan]
    spacing_mm: tuple[float, float, float]
    layout: str


@dataclass(frozen=True)
class Cohort:
    """Prepared scans, split by subject.

    Attributes:
        train: Scans to learn from.
        val: Held-out scans of other subjects.
        skipped: Every file that was left out, with its reason.
    """

    train: list[PreparedScan]
    val: list[PreparedScan]
    skipped: list[SkippedScan]

    @property
    def scans(self) -> list[PreparedScan]:
        """All prepared scans."""
        return [*self.train, *self.val]


TEST_SPLIT = "test"


def find_candidates(
    source: Path,
    *,
    data: DataConfig,
    progress: Progress,
    has_test_scans: bool = False,
    store: Path | None = None,
) -> Candidates:
    """Find the scans below ``source``, check their headers and plan the spacing.

    Args:
        source: A folder, file or CSV.
        data: What 4-D and large scans count as, the spacing if it is set, and the number of processes.
        progress: Who is told.
        has_test_scans: Whether to keep scans that a table sets aside as test cases; an encoder must not have
            seen what it will be tested on.
        store: Where headers are remembered; None to write nothing.

    Raises:
        NoUsableScanError: If no header is sound.
    """
    folders = series_memory(store) if store else None
    found = find_scans(source, progress=progress, data=data, memory=folders)
    for note in found.notes:
        progress.say(note)
    if not has_test_scans:
        found = _without_test_scans(found)
    memory = header_memory(store) if store else None
    scans, skipped = check_scans(found, progress=progress, data=data, memory=memory)
    if not scans:
        raise NoUsableScanError(none_usable(source, skipped))
    spacing_mm = plan_spacing([scan.header for scan in scans], data)
    return Candidates(scans=scans, skipped=skipped, spacing_mm=spacing_mm, layout=found.layout)


def prepare_cohort(
    candidates: Candidates, *, source: Path, store: ScanStore, data: DataConfig, seed: int, progress: Progress
) -> Cohort:
    """Prepare every candidate that can be, and split the result by subject.

    Raises:
        NoUsableScanError: If no scan could be prepared, or none is left to train on.
    """
    prepared, unreadable = prepare_scans(
        candidates.scans, store=store, spacing_mm=candidates.spacing_mm, data=data, progress=progress
    )
    skipped = [*candidates.skipped, *unreadable]
    if not prepared:
        raise NoUsableScanError(none_usable(source, skipped))
    train, val = split_by_subject(prepared, val_fraction=data.val_fraction, seed=seed)
    return Cohort(train=train, val=val, skipped=skipped)


def prepare_as_recorded(
    source: Path,
    *,
    provenance: Mapping[str, Any],
    store: ScanStore,
    progress: Progress,
    has_test_scans: bool = False,
) -> tuple[list[PreparedScan], list[SkippedScan]]:
    """Prepare scans as they were for the training of some weights.

    Args:
        source: A folder, file or CSV.
        provenance: What the weights say of themselves.
        store: Where the scans will lie.
        progress: Who is told.
        has_test_scans: As in `find_candidates`.

    Returns:
        What was prepared, and what was left out.

    Raises:
        NoUsableScanError: If no header is sound.
    """
    data = DataConfig(**provenance["data"])
    candidates = find_candidates(source, data=data, progress=progress, has_test_scans=has_test_scans)
    prepared, unreadable = prepare_scans(
        candidates.scans, store=store, spacing_mm=candidates.spacing_mm, data=data, progress=progress
    )
    return prepared, [*candidates.skipped, *unreadable]


def _without_test_scans(found: Found) -> Found:
    reason = "Its table sets it aside as a test case."
    set_aside = [SkippedScan(scan.path, reason) for scan in found.scans if scan.split == TEST_SPLIT]
    kept = tuple(scan for scan in found.scans if scan.split != TEST_SPLIT)
    return replace(found, scans=kept, skipped=(*found.skipped, *set_aside))


def none_usable(source: Path, skipped: Sequence[SkippedScan]) -> str:
    """Return a sentence that says why nothing was found, with the first reason where there is one."""
    if not skipped:
        return f"No scan was found in {source}."
    example = skipped[0]
    return (
        f"None of the {len(skipped)} files in {source} that look like scans can be used; "
        f"the first, {example.path.name}: {example.reason}"
    )


def tell_skipped(skipped: Sequence[SkippedScan], *, table: Path) -> str:
    """Return a sentence with the number of skipped files, the commonest reason and where the rest stand."""
    reason, count = Counter(scan.reason for scan in skipped).most_common(1)[0]
    return f'{len(skipped)} files were skipped, {count} of them because "{reason}" {table} tells of each.'


def write_cohort(run: RunFolder, cohort: Cohort) -> None:
    """Record a cohort in the run folder; the split last, so that its presence makes the record whole."""
    write_manifest(run.manifest, cohort.scans)
    write_skipped(run.skipped, cohort.skipped)
    write_split(run.split, cohort.train, cohort.val)


def read_cohort(run: RunFolder) -> Cohort | None:
    """Return the cohort that a run recorded, or None where it did not get so far or its store has lost scans.

    A resumed run goes on with exactly these scans, whatever was added to the folder since.
    """
    if not run.split.exists():
        return None
    scans = read_manifest(run.manifest)
    if not all(scan.store_path.exists() for scan in scans):
        return None
    held_out = read_held_out(run.split)
    return Cohort(
        train=[scan for scan in scans if scan.record.scan_id not in held_out],
        val=[scan for scan in scans if scan.record.scan_id in held_out],
        skipped=read_skipped(run.skipped),
    )
