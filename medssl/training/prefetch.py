"""Making batches in threads ahead of time, in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

Request = TypeVar("Request")
Made = TypeVar("Made")
Batched = TypeVar("Batched")

BATCHES_AHEAD = 2
"""One being made while the next one waits: more costs memory and hides no more."""


def batches_in_order(
    requests: Iterable[Sequence[Request]],
    *,
    begin: Callable[[int], Batched],
    make: Callable[[Request], Made],
    put: Callable[[Batched, int, Made], object],
    threads: int,
) -> Generator[Batched]:
    """Yield one batch for each list of requests, made in threads but handed out in order.

    Threads, not processes: reading and transforming release the interpreter lock for most of their time, and
    nothing has to be copied between processes. Each thread makes an equal share of every batch, and a second
    one beside it puts what was made where it belongs.

    Args:
        requests: What each batch is made of; may be endless.
        begin: Returns a batch for so many samples.
        make: Makes one sample; called from several threads at once, as ``put`` is.
        put: Adds a sample to a batch at a place.
        threads: How many samples are made at once.

    Raises:
        Exception: Whatever ``begin``, ``make`` or ``put`` raised for the batch that is due. Closing the
            generator drops what is not begun and waits for what is.
    """

    def make_share(batch: Batched, share: Sequence[tuple[int, Request]]) -> list[Future[object]]:
        return [placers.submit(put, batch, place, make(request)) for place, request in share]

    def finished(batch: Batched, shares: Sequence[Future[list[Future[object]]]]) -> Batched:
        for share in shares:
            for placed in share.result():
                placed.result()
        return batch

    makers = ThreadPoolExecutor(threads, thread_name_prefix="crop", initializer=_compute_alone)
    placers = ThreadPoolExecutor(threads, thread_name_prefix="place", initializer=_compute_alone)
    pending: deque[tuple[Batched, list[Future[list[Future[object]]]]]] = deque()
    try:
        for wanted in requests:
            batch, placed = begin(len(wanted)), list(enumerate(wanted))
            size = -(-len(placed) // threads)
            shares = [placed[first : first + size] for first in range(0, len(placed), size)]
            pending.append((batch, [makers.submit(make_share, batch, share) for share in shares]))
            if len(pending) > BATCHES_AHEAD:
                yield finished(*pending.popleft())
        while pending:
            yield finished(*pending.popleft())
    finally:
        makers.shutdown(cancel_futures=True)
        placers.shutdown(cancel_futures=True)


def _compute_alone() -> None:
    """Keep what torch computes in this thread from taking more cores, which the training step needs.

    ``torch.set_num_threads`` would reach threads that begin later, too.
    """
    torch.get_num_threads()  # a thread takes torch's number when first asked, which would undo the limit
    threadpool_limits(1, user_api="openmp")
