"""Making batches in threads ahead of time, in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

Request = TypeVar("Request")
Read = TypeVar("Read")
Made = TypeVar("Made")
Batched = TypeVar("Batched")
T = TypeVar("T")
Share = Sequence[tuple[int, T]]
"""What stands at some places of a batch."""

BATCHES_AHEAD = 2
"""One being made while the next one waits: more costs memory and hides no more."""


def batches_in_order(
    requests: Iterable[Sequence[Request]],
    *,
    begin: Callable[[int], Batched],
    read: Callable[[Request], Read],
    make: Callable[[Read], Made],
    put: Callable[[Batched, int, Made], object],
    threads: int,
) -> Generator[Batched]:
    """Yield one batch for each list of requests, made in threads but handed out in order.

    Threads, not processes: reading and transforming release the interpreter lock for most of their time, and
    nothing has to be copied between processes. Threads come in pairs: one computes, and one beside it moves
    what it computes with, from the disk and to its place in the batch, which takes about as long. Each pair
    makes an equal share of every batch, and hands on the whole of it at once: to wake each other for every
    sample would take a fifth of their time.

    Args:
        requests: What each batch is made of; may be endless.
        begin: Returns a batch for so many samples.
        read: Reads what one sample is made of; called from several threads at once, as the next two are.
        make: Makes the sample.
        put: Adds a sample to a batch at a place.
        threads: How many pairs.

    Raises:
        Exception: Whatever ``begin``, ``read``, ``make`` or ``put`` raised for the batch that is due. Closing
            the generator drops what is not begun and waits for what is.
    """

    def read_share(share: Share[Request]) -> Share[Read]:
        return [(place, read(request)) for place, request in share]

    def make_share(share: Future[Share[Read]], batch: Batched) -> Future[None]:
        made = [(place, make(source)) for place, source in share.result()]
        return movers.submit(put_share, made, batch)

    def put_share(share: Share[Made], batch: Batched) -> None:
        for place, sample in share:
            put(batch, place, sample)

    def begin_shares(wanted: Sequence[Request]) -> tuple[Batched, list[Future[Future[None]]]]:
        batch, placed = begin(len(wanted)), list(enumerate(wanted))
        size = -(-len(wanted) // threads)
        shares = [placed[first : first + size] for first in range(0, len(wanted), size)]
        return batch, [makers.submit(make_share, movers.submit(read_share, share), batch) for share in shares]

    def finish(batch: Batched, shares: Sequence[Future[Future[None]]]) -> Batched:
        for share in shares:
            share.result().result()
        return batch

    makers = ThreadPoolExecutor(threads, thread_name_prefix="make", initializer=_compute_alone)
    movers = ThreadPoolExecutor(threads, thread_name_prefix="move", initializer=_compute_alone)
    pending: deque[tuple[Batched, list[Future[Future[None]]]]] = deque()
    try:
        for wanted in requests:
            pending.append(begin_shares(wanted))
            if len(pending) > BATCHES_AHEAD:
                yield finish(*pending.popleft())
        while pending:
            yield finish(*pending.popleft())
    finally:
        movers.shutdown(cancel_futures=True)  # makers that wait for them end as well
        makers.shutdown(cancel_futures=True)


def _compute_alone() -> None:
    """Keep what torch computes in this thread from taking more cores, which the training step needs.

    ``torch.set_num_threads`` would reach threads that begin later, too.
    """
    torch.get_num_threads()  # a thread takes torch's number when first asked, which would undo the limit
    threadpool_limits(1, user_api="openmp")
