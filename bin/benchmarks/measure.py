"""Times, rates and memory, measured so that a machine which grows busier slows all that is compared."""

import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

POLL_S = 0.02

MEDSSL = [sys.executable, "-m", "medssl"]

T = TypeVar("T")

Measured = dict[str, Any]
"""Numbers, or what `summary` returns, by what they are; printed as rows in this order."""


@contextmanager
def timed(measured: Measured, name: str) -> Iterator[None]:
    """Add the seconds that the block takes."""
    began = time.perf_counter()
    yield
    measured[f"{name}, s"] = time.perf_counter() - began


def take_turns(candidates: Mapping[str, Callable[[], T]], *, repeats: int) -> dict[str, list[T]]:
    """Measure each candidate in turn, again and again."""
    values: dict[str, list[T]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, measure in candidates.items():
            values[name].append(measure())
    return values


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median of repeats and their spread."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def median_ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Return how many times the others the values are, by the median over rounds."""
    return statistics.median(value / other for value, other in zip(values, others, strict=True))


def peak_mb(command: Sequence[str]) -> float:
    """Run a command and return the most memory that its process had for itself at any moment."""
    peak_kb = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text())
            peak_kb = max(peak_kb, int(found[1]) if found else 0)
            time.sleep(POLL_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return peak_kb / 1024


def processor_seconds() -> float:
    """Return the time that processors spent on this process and on the workers it has at the moment."""
    ticks = 0
    for worker in multiprocessing.active_children():
        after_name = Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(after_name[11]) + int(after_name[12])  # in user and in system mode
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Rate:
    """How fast crops are made, and how much of the processors one takes."""

    crops_per_second: float
    processor_ms: float


def take_for(seconds: float, batches: Iterator[Any], *, crops: int) -> Rate:
    """Take batches of so many crops for a while."""
    made, spent, began = 0, processor_seconds(), time.perf_counter()
    while time.perf_counter() - began < seconds:
        next(batches)
        made += crops
    elapsed = time.perf_counter() - began
    return Rate(made / elapsed, 1000 * (processor_seconds() - spent) / made)


def as_rows(measured: Measured) -> list[tuple[str, str]]:
    """Return what is printed of each measurement."""
    return [(name, _as_text(value)) for name, value in measured.items()]


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['median']:,.4g} ({value['lowest']:,.4g} to {value['highest']:,.4g})"
    return value if isinstance(value, str) else f"{value:,.4g}"
