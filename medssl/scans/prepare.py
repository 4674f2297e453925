"""Turn checked scans into prepared ones in a store: once, in parallel, and only what is not there yet."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from medssl.config.schema import DataConfig
from medssl.errors import MedsslError, ScanError
from medssl.progress import Progress
from medssl.scans.hashing import content_hash
from medssl.scans.prepare_volume import prepare_volume
from medssl.scans.processes import Died, run_jobs
from medssl.scans.read import read_volume
from medssl.scans.record import CheckedScan, PreparedScan, SkippedScan
from medssl.scans.source_hashes import Signature, SourceHashes, file_signature
from medssl.scans.store import ScanStore, recipe_key

Spacing = tuple[float, float, float]
Outcome = PreparedScan | SkippedScan


@dataclass(frozen=True, slots=True)
class Recipe:
    """How every scan of one run is prepared."""

    store: ScanStore
    spacing_mm: Spacing
    data: DataConfig

    @property
    def key(self) -> str:
        """Name of this recipe in the store."""
        return recipe_key(self.spacing_mm, self.data)


@dataclass(frozen=True, slots=True)
class Job:
    """One scan to prepare.

    Attributes:
        index: Its place in the input.
        scan: What to prepare.
        signature: Of its file when the run began.
        content_hash: Of its file, where it is known already.
    """

    index: int
    scan: CheckedScan
    signature: Signature
    content_hash: str | None


def prepare_scans(
    scans: Sequence[CheckedScan],
    *,
    store: ScanStore,
    spacing_mm: Spacing,
    data: DataConfig,
    progress: Progress,
) -> tuple[list[PreparedScan], list[SkippedScan]]:
    """Read, check, crop, resample and normalise scans into a store, unless they lie there already.

    A scan that cannot be prepared, whatever the cause, is skipped with its reason; so is a second scan of the
    same content. Both lists keep the order of ``scans``.

    Args:
        scans: From `medssl.scans.check.check_scans`.
        store: Where prepared scans lie; other runs may use it at the same time.
        spacing_mm: The spacing to resample to, along R, A and S.
        data: Intensity settings, whether to crop, and how many processes to use.
        progress: Gets a bar with the name of each scan.

    Raises:
        MedsslError: If the store cannot be written to, or no process can be started.
    """
    recipe = Recipe(store, spacing_mm, data)
    hashes = SourceHashes(store.folder)
    outcomes: dict[int, Outcome] = {}
    jobs = []
    for index, scan in enumerate(scans):
        planned = _plan_job(index, scan, recipe, hashes)
        if isinstance(planned, Job):
            jobs.append(planned)
        else:
            outcomes[index] = planned
    with progress.track("Preparing scans", total=len(scans), done=len(outcomes)) as advance:
        for job, outcome in _run(jobs, recipe):
            if isinstance(outcome, PreparedScan):
                hashes.remember(job.scan.record.path, job.signature, outcome.content_hash)
            outcomes[job.index] = outcome
            advance(detail=job.scan.record.scan_id)
    return _sort_out([outcomes[index] for index in range(len(scans))])


def _plan_job(index: int, scan: CheckedScan, recipe: Recipe, hashes: SourceHashes) -> Job | Outcome:
    """Return what is known of a scan without reading it, or else the job to find out."""
    path = scan.record.path
    try:
        signature = file_signature(path)
    except OSError:
        return SkippedScan(path, "It is no longer there, or can no longer be reached.")
    known = hashes.look_up(path, signature)
    prepared = known and recipe.store.find(scan.record, key=recipe.key, content_hash=known)
    return prepared or Job(index, scan, signature, known)


def _run(jobs: Sequence[Job], recipe: Recipe) -> Iterator[tuple[Job, Outcome]]:
    processes = recipe.data.prepare_workers
    if processes == "auto":
        processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for job, outcome in run_jobs(partial(_prepare_or_skip, recipe), jobs, processes=processes):
        if isinstance(outcome, Died):
            reason = "The process that prepared it was ended by the system, most likely for want of memory."
            outcome = SkippedScan(job.scan.record.path, reason)
        yield job, outcome


def _prepare_or_skip(recipe: Recipe, job: Job) -> Outcome:
    try:
        return _prepare(recipe, job)
    except ScanError as error:
        reason = str(error)
    except MedsslError:  # the store's fault, not the scan's
        raise
    except MemoryError:
        reason = "Preparing it needs more memory than there is."
    except Exception as error:
        reason = f"Preparing it failed ({type(error).__name__}: {error})."
    return SkippedScan(job.scan.record.path, reason)


def _prepare(recipe: Recipe, job: Job) -> PreparedScan:
    record, header = job.scan.record, job.scan.header
    hashed = job.content_hash or content_hash(record.path)
    prepared = recipe.store.find(record, key=recipe.key, content_hash=hashed)
    if prepared is not None:
        return prepared
    volume, affine = read_volume(record.path)
    if file_signature(record.path) != job.signature:
        raise ScanError("It changed while it was being read; run again when it is complete.")
    volume, intensity = prepare_volume(
        volume,
        affine,
        dtype=header.dtype,
        path=record.path,
        spacing_mm=recipe.spacing_mm,
        data=recipe.data,
    )
    return recipe.store.write(
        record,
        volume,
        key=recipe.key,
        content_hash=hashed,
        spacing_mm=recipe.spacing_mm,
        recipe=intensity,
        source=header,
    )


def _sort_out(outcomes: Sequence[Outcome]) -> tuple[list[PreparedScan], list[SkippedScan]]:
    """Part prepared from skipped, and skip all but the first scan of each content."""
    first: dict[str, PreparedScan] = {}
    skipped = []
    for outcome in outcomes:
        if isinstance(outcome, SkippedScan):
            skipped.append(outcome)
        elif outcome.voxels_hash in first:
            same_as = first[outcome.voxels_hash].record.scan_id
            skipped.append(SkippedScan(outcome.record.path, f"It has the same content as {same_as}."))
        else:
            first[outcome.voxels_hash] = outcome
    return list(first.values()), skipped
