"""Tell scans that can be used from files that only look like it, by their headers."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from medssl import __version__
from medssl.config.schema import DataConfig
from medssl.errors import ScanError
from medssl.progress import Progress
from medssl.scans.file_memory import FileMemory, Signature
from medssl.scans.geometry import describe
from medssl.scans.processes import Died, count_processes, run_jobs
from medssl.scans.read import image_suffix, open_image
from medssl.scans.record import CheckedScan, Found, ScanHeader, ScanRecord, SkippedScan
from medssl.scans.sources import source_signature
from medssl.scans.stored import MEAN, AtTimePoint

HEADER_THREADS = 4
"""Files opened at once in each process: opening them waits for the disk or the network."""

WORTH_PROCESSES = 5000
"""Headers from which processes are started to parse them: a second of starting saves several."""

_IN_A_JOB = 200
_HEADER = TypeAdapter(ScanHeader)


def check_scans(
    found: Found,
    *,
    progress: Progress,
    data: DataConfig | None = None,
    memory: FileMemory | None = None,
) -> tuple[list[CheckedScan], list[SkippedScan]]:
    """Check the header of every scan that was found; reads no voxels.

    Args:
        found: From `medssl.scans.find.find_scans`.
        progress: Gets a bar.
        data: What 4-D and large scans count as, and in how many processes many headers are parsed; None for
            the defaults.
        memory: Of headers, so that files that did not change need not be opened; see `header_memory`.

    Returns:
        The scans with sound headers, in the order found, of which one file can hold several; and all that is
        left out so far: what `find_scans` skipped, then the rest, in the same order.

    Raises:
        MedsslError: If what was found out cannot be remembered, or no process can be started.
    """
    data = data or DataConfig()
    outcomes: dict[int, _Outcome] = {}
    with progress.track("Checking headers", total=len(found.scans)) as advance:
        for index, outcome in _recall_all(found.scans, memory, data) if memory else ():
            outcomes[index] = outcome
            advance()
        new = {index: record for index, record in enumerate(found.scans) if index not in outcomes}
        with closing(_check_all(new, data)) as checked:
            for index, outcome in checked:
                outcomes[index] = outcome
                advance()
    if memory:
        memory.remember_all(_facts(new, outcomes))
    in_order = [outcomes[index] for index in range(len(found.scans))]
    skipped = [outcome.skipped for outcome in in_order if outcome.skipped]
    return [scan for outcome in in_order for scan in outcome.scans], [*found.skipped, *skipped]


def header_memory(store: Path) -> FileMemory:
    """Return the headers that runs with one store remember; each version reads them anew."""
    return FileMemory(store / f"headers-{__version__}.jsonl")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The scans in a file, or why there is none.

    Attributes:
        scans: With sound headers.
        skipped: Why there is none, else None.
        signature: Of the file before it was opened, where its header is worth remembering.
    """

    scans: tuple[CheckedScan, ...] = ()
    skipped: SkippedScan | None = None
    signature: Signature | None = None


def _recall_all(
    records: Sequence[ScanRecord], memory: FileMemory, data: DataConfig
) -> Iterator[tuple[int, _Outcome]]:
    """Yield what is remembered of the scans whose files did not change."""
    for index, record in enumerate(records):
        signature = _signature(record.path)
        known = memory.look_up(record.path, signature) if signature else None
        if known is None:
            continue
        try:
            header = _HEADER.validate_json(known)
            _refuse_larger(header.shape, data.max_scan_gb)
        except ValidationError:  # the list is damaged here
            continue
        except ScanError as error:
            yield index, _Outcome(skipped=SkippedScan(record.path, str(error)))
        else:
            yield index, _Outcome((CheckedScan(record, header),))


def _facts(
    records: dict[int, ScanRecord], outcomes: dict[int, _Outcome]
) -> Iterator[tuple[Path, Signature, str]]:
    """Yield what is worth remembering of the scans that were opened."""
    for index, record in records.items():
        outcome = outcomes[index]
        if outcome.signature:
            header = _HEADER.dump_json(outcome.scans[0].header).decode()
            yield record.path, outcome.signature, header


@dataclass(frozen=True, slots=True)
class _Job:
    """Scans whose headers one process checks, by their index."""

    records: dict[int, ScanRecord]
    data: DataConfig


def _check_all(
    records: dict[int, ScanRecord], data: DataConfig
) -> Generator[tuple[int, _Outcome], None, None]:
    """Yield the outcome of each scan with its index."""
    processes = count_processes(data.prepare_workers) if len(records) >= WORTH_PROCESSES else 0
    if not processes:
        yield from _check_here(_Job(records, data))
        return
    items = list(records.items())
    jobs = [_Job(dict(items[at : at + _IN_A_JOB]), data) for at in range(0, len(items), _IN_A_JOB)]
    for job, outcomes in run_jobs(_check_job, jobs, processes=processes):
        yield from _blame(job) if isinstance(outcomes, Died) else outcomes


def _check_here(job: _Job) -> Iterator[tuple[int, _Outcome]]:
    pool = ThreadPoolExecutor(HEADER_THREADS)
    try:
        outcomes = pool.map(partial(_check, data=job.data), job.records.values())
        yield from zip(job.records, outcomes, strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _check_job(job: _Job) -> list[tuple[int, _Outcome]]:
    return list(_check_here(job))


def _blame(job: _Job) -> Iterator[tuple[int, _Outcome]]:
    """Check scans one by one of which some end the process that opens them."""
    singles = [_Job({index: record}, job.data) for index, record in job.records.items()]
    for single, outcomes in run_jobs(_check_job, singles, processes=1):
        ((index, record),) = single.records.items()
        if isinstance(outcomes, Died):
            yield index, _Outcome(skipped=SkippedScan(record.path, "Reading its header ended the process."))
        else:
            yield from outcomes


def _check(record: ScanRecord, *, data: DataConfig) -> _Outcome:
    """Return the scans in a file, or why it cannot be used."""
    signature = _signature(record.path)
    try:
        image = open_image(record.path)
        _refuse_larger(image.shape, data.max_scan_gb)
        if data.time_points == "skip" or len(image.shape) != 4 or image.shape[3] == 1:
            return _Outcome((CheckedScan(record, describe(image)),), signature=signature)
        numbers = [str(number) for number in range(image.shape[3])]
        wanted = {"first": numbers[:1], "mean": [MEAN], "all": numbers}[data.time_points]
        header = describe(AtTimePoint(image, wanted[0]))
    except ScanError as error:
        return _Outcome(skipped=SkippedScan(record.path, str(error)))
    is_one = len(wanted) == 1
    return _Outcome(
        tuple(CheckedScan(_at_time_point(record, number, is_one=is_one), header) for number in wanted)
    )


def _signature(path: Path) -> Signature | None:
    """Return the signature of a file that is a scan by itself; the headers of DICOM are read to find them."""
    try:
        return source_signature(path) if image_suffix(path.name) else None
    except OSError:
        return None


def _refuse_larger(shape: tuple[int, ...], max_scan_gb: float) -> None:
    size_gb = prod(shape) * np.dtype(np.float32).itemsize / 1e9
    if size_gb > max_scan_gb:
        raise ScanError(f"It takes {size_gb:.3g} GB in memory, and data.max_scan_gb allows {max_scan_gb:g}.")


def _at_time_point(record: ScanRecord, number: str, *, is_one: bool) -> ScanRecord:
    scan_id = record.scan_id if is_one else f"{record.scan_id}@{number}"
    return replace(record, scan_id=scan_id, time_point=number)
