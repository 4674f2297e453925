"""Spread jobs over processes, of which any may die."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Literal, TypeVar

from threadpoolctl import threadpool_limits

from medssl.errors import MedsslError

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Died:
    """Stands for the result of a job whose process ended without one, as one that ran out of memory does."""


def count_processes(workers: int | Literal["auto"]) -> int:
    """Return how many processes ``data.prepare_workers`` asks for; "auto" is one for each usable core."""
    return count_cores() if workers == "auto" else workers


def count_cores() -> int:
    """Return how many cores this process may use, which a cluster's scheduler sets below what there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    function: Callable[[J], R], jobs: Sequence[J], *, processes: int
) -> Iterator[tuple[J, R | Died]]:
    """Yield each job with its result, in the order in which they finish.

    When a process dies, the jobs that were running are tried again, each alone, so that only the one to blame
    is given up; the others go on in new processes.

    Args:
        function: Importable by its name; an exception it raises ends the run.
        jobs: Its arguments, small enough to be sent to another process.
        processes: How many run at once; 0 runs the jobs here, one after the other.

    Raises:
        MedsslError: If no process can be started.
    """
    if processes == 0:
        yield from ((job, function(job)) for job in jobs)
        return
    waiting = deque(jobs)
    while waiting:
        suspects = yield from _run_until_one_dies(function, waiting, min(processes, len(waiting)))
        for job in suspects:
            died = yield from _run_until_one_dies(function, deque([job]), 1)
            if died:
                yield job, Died()


def run_batches(
    function: Callable[[Sequence[J]], Sequence[R]], batches: Sequence[Sequence[J]], *, processes: int
) -> Iterator[tuple[J, R | Died]]:
    """Yield each of many small jobs with its result; they are sent to other processes in batches.

    A batch that ends its process is tried again job by job, so that only the one to blame is given up.

    Args:
        function: Importable by its name; returns a result for each job, in their order.
        batches: The jobs.
        processes: How many run at once, at least one.

    Raises:
        MedsslError: If no process can be started.
    """
    for batch, results in run_jobs(function, batches, processes=processes):
        if not isinstance(results, Died):
            yield from zip(batch, results, strict=True)
            continue
        for (job,), result in run_jobs(function, [[job] for job in batch], processes=1):
            yield job, result if isinstance(result, Died) else result[0]


def make_batches(jobs: Iterable[tuple[J, int]], *, size: int) -> list[list[J]]:
    """Deal jobs out to batches, in their order.

    Args:
        jobs: Each with its size.
        size: What a batch is full at; a job that is larger fills one.
    """
    batches: list[list[J]] = []
    filled = size
    for job, its_size in jobs:
        if filled >= size:
            batches.append([])
            filled = 0
        batches[-1].append(job)
        filled += its_size
    return batches


def _run_until_one_dies(
    function: Callable[[J], R], waiting: deque[J], processes: int
) -> Generator[tuple[J, R | Died], None, list[J]]:
    """Take jobs off ``waiting`` and yield their results; return those without one when a process dies."""
    running: dict[Future[R], J] = {}
    pool = _start_pool(processes)
    try:
        while waiting or running:
            while waiting and len(running) < processes:  # no more, so that whatever dies is among the running
                running[pool.submit(_run_on_one_core, function, waiting[0])] = waiting[0]
                waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                result = future.result()
                yield running.pop(future), result
    except BrokenProcessPool:
        return list(running.values())
    finally:
        pool.shutdown(cancel_futures=True)
    return []


def _start_pool(processes: int) -> ProcessPoolExecutor:
    """Start a pool of fresh interpreters: forked ones would inherit locks that other threads hold."""
    pool = ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_tie_to_parent
    )
    try:
        first, *_ = [pool.submit(os.getpid) for _ in range(processes)]  # so that they start at the same time
        first.result()
    except BrokenProcessPool as error:
        raise MedsslError(
            "No process could be started to prepare scans in; set data.prepare_workers to 0 to do without."
        ) from error
    return pool


def _run_on_one_core(function: Callable[[J], R], job: J) -> R:
    """Run a job with one thread for linear algebra, of which it would have one for each core."""
    with threadpool_limits(1):
        return function(job)


def _tie_to_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it is killed, which pool processes do not do by themselves."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
