"""Tell scans that can be used from files that only look like it, by their headers."""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from medssl import __version__
from medssl.config.schema import DataConfig
from medssl.errors import ScanError
from medssl.progress import Progress
from medssl.scans.dicom.series import folder_signature, series_folder
from medssl.scans.file_memory import FileMemory, Signature
from medssl.scans.geometry import describe
from medssl.scans.processes import Died, count_processes, make_batches, run_batches
from medssl.scans.read import image_suffix, open_image
from medssl.scans.record import CheckedScan, Found, ScanHeader, ScanRecord, SkippedScan
from medssl.scans.sources import source_signature
from medssl.scans.stored import MEAN, AtTimePoint

HEADER_THREADS = 4
"""Files opened at once in each process: opening them waits for the disk or the network."""

WORTH_PROCESSES = 5000
"""Headers from which processes are started to parse them: a second of starting saves several."""

FILES_OF_A_SERIES = 50
"""How many headers a DICOM series counts as, of which there is one in each of its files."""

_IN_A_BATCH = 200
_HEADER = TypeAdapter(ScanHeader)

Checked = tuple[CheckedScan, ...] | SkippedScan
"""The scans in a file, or why there is none."""


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
    checked: list[Checked | None] = [None] * len(found.scans)

    def settle(outcomes: Iterable[tuple[_Item, _Outcome]]) -> Iterator[tuple[Path, Signature, str]]:
        """Keep what became of each file, and yield what is worth remembering."""
        for (index, path), outcome in outcomes:
            checked[index] = _scans(found.scans[index], outcome)
            advance()
            if outcome.signature:
                yield path, outcome.signature, outcome.header

    items = [(index, record.path) for index, record in enumerate(found.scans)]
    with progress.track("Checking headers", total=len(items)) as advance:
        if memory:
            deque(settle(_recall_all(items, memory, data)), maxlen=0)
        new = [item for item, each in zip(items, checked, strict=True) if each is None]
        with closing(_check_all(new, data)) as outcomes:
            facts = settle(outcomes)
            if memory:
                memory.remember_all(facts)
            else:
                deque(facts, maxlen=0)
    scans = [scan for each in checked if isinstance(each, tuple) for scan in each]
    return scans, [*found.skipped, *(each for each in checked if isinstance(each, SkippedScan))]


def header_memory(store: Path) -> FileMemory:
    """Return the headers that runs with one store remember; each version reads them anew."""
    return FileMemory(store / f"headers-{__version__}.jsonl")


_Item = tuple[int, Path]
"""A file to check, and its number among all."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What the header of a file tells, in little that can come from another process.

    Attributes:
        header: A sound one as JSON, else empty.
        time_points: Which volumes of a 4-D file count, else empty.
        reason: Why the file cannot be used, else None.
        signature: Of the file before it was opened, where its header is worth remembering.
    """

    header: str = ""
    time_points: tuple[str, ...] = ()
    reason: str | None = None
    signature: Signature | None = None


def _scans(record: ScanRecord, outcome: _Outcome) -> Checked:
    """Return the scans in a file, or why there is none."""
    if outcome.reason is not None:
        return SkippedScan(record.path, outcome.reason)
    header = _parse_header(outcome.header)
    if not outcome.time_points:
        return (CheckedScan(record, header),)
    is_one = len(outcome.time_points) == 1
    return tuple(
        CheckedScan(_at_time_point(record, number, is_one=is_one), header) for number in outcome.time_points
    )


@lru_cache(maxsize=1024)
def _parse_header(text: str) -> ScanHeader:
    """Return a header from JSON; scans that have the same share one in memory, others the numbers in it."""
    header = _HEADER.validate_json(text)
    affine = tuple(tuple(_share(value, math.copysign(1, value)) for value in row) for row in header.affine)
    return replace(header, affine=affine)


@lru_cache(maxsize=1024)
def _share(value: float, sign: float) -> float:
    """Return the same number, as an object that exists already where it was asked for before."""
    return value


def _recall_all(
    items: Sequence[_Item], memory: FileMemory, data: DataConfig
) -> Iterator[tuple[_Item, _Outcome]]:
    """Yield what is remembered of the files that did not change."""
    of_folder = cache(folder_signature)  # the files of a folder are those of each of its series
    known = memory.look_up_all((path, _signature(path, of_folder)) for _, path in items)
    for item, header in zip(items, known, strict=True):
        if header is None:
            continue
        try:
            _refuse_larger(_parse_header(header).shape, data.max_scan_gb)
        except ValidationError:  # the list is damaged here
            continue
        except ScanError as error:
            yield item, _Outcome(reason=str(error))
        else:
            yield item, _Outcome(header)


def _check_all(items: Sequence[_Item], data: DataConfig) -> Generator[tuple[_Item, _Outcome], None, None]:
    """Yield the outcome of each file."""
    sizes = [1 if image_suffix(path.name) else FILES_OF_A_SERIES for _, path in items]
    batches = make_batches(zip(items, sizes, strict=True), size=_IN_A_BATCH)
    processes = count_processes(data.prepare_workers) if sum(sizes) >= WORTH_PROCESSES else 0
    if not processes:
        for batch in batches:
            yield from zip(batch, _check_batch(batch, data=data), strict=True)
        return
    check = partial(_check_list, data=data)
    for item, outcome in run_batches(check, batches, processes=processes):
        died = _Outcome(reason="Reading its header ended the process.")
        yield item, died if isinstance(outcome, Died) else outcome


def _check_batch(batch: Sequence[_Item], *, data: DataConfig) -> Iterator[_Outcome]:
    pool = ThreadPoolExecutor(HEADER_THREADS)
    try:
        yield from pool.map(partial(_check, data=data), (path for _, path in batch))
    finally:
        pool.shutdown(cancel_futures=True)


def _check_list(batch: Sequence[_Item], *, data: DataConfig) -> list[_Outcome]:
    return list(_check_batch(batch, data=data))


def _check(path: Path, *, data: DataConfig) -> _Outcome:
    """Return what the header of a file tells."""
    signature = _signature(path)
    try:
        image = open_image(path)
        _refuse_larger(image.shape, data.max_scan_gb)
        if data.time_points == "skip" or len(image.shape) != 4 or image.shape[3] == 1:
            return _Outcome(_as_text(describe(image)), signature=signature)
        numbers = [str(number) for number in range(image.shape[3])]
        wanted = {"first": numbers[:1], "mean": [MEAN], "all": numbers}[data.time_points]
        return _Outcome(_as_text(describe(AtTimePoint(image, wanted[0]))), tuple(wanted))
    except ScanError as error:
        return _Outcome(reason=str(error))


def _as_text(header: ScanHeader) -> str:
    return _HEADER.dump_json(header).decode()


def _signature(path: Path, of_folder: Callable[[Path], Signature] = folder_signature) -> Signature | None:
    """Return the signature of a scan, or None where it is not there.

    Args:
        path: Of the file, or of one of a DICOM series.
        of_folder: Returns that of a folder of DICOM files.
    """
    try:
        return source_signature(path) if image_suffix(path.name) else of_folder(series_folder(path))
    except (OSError, ScanError):
        return None


def _refuse_larger(shape: tuple[int, ...], max_scan_gb: float) -> None:
    size_gb = math.prod(shape) * np.dtype(np.float32).itemsize / 1e9
    if size_gb > max_scan_gb:
        raise ScanError(f"It takes {size_gb:.3g} GB in memory, and data.max_scan_gb allows {max_scan_gb:g}.")


def _at_time_point(record: ScanRecord, number: str, *, is_one: bool) -> ScanRecord:
    scan_id = record.scan_id if is_one else f"{record.scan_id}@{number}"
    return replace(record, scan_id=scan_id, time_point=number)
