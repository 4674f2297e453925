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
    make: Callable[[Request], Made],
    collate: Callable[[list[Made]], Batched],
    threads: int,
) -> Generator[Batched]:
    """Yield one batch for each list of requests, made in threads but handed out in order.

    Threads, not processes: reading and transforming release the interpreter lock for most of their time, and
    nothing has to be copied between processes. Each thread makes an equal share of every batch. Collation has
    a thread of its own, so that it too is done by the time a batch is asked for.

    Args:
        requests: What each batch is made of; may be endless.
        make: Makes one sample; called from several threads at once.
        collate: Puts a batch together.
        threads: How many samples are made at once.

    Raises:
        Exception: Whatever ``make`` or ``collate`` raised for the batch that is due. Closing the generator
            drops what is not begun and waits for what is.
    """

    def make_share(share: Sequence[Request]) -> list[Made]:
        return [make(request) for request in share]

    def join(futures: list[Future[list[Made]]]) -> Batched:
        return collate([sample for future in futures for sample in future.result()])

    makers = ThreadPoolExecutor(threads, thread_name_prefix="crop", initializer=_compute_alone)
    collator = ThreadPoolExecutor(1, thread_name_prefix="collate", initializer=_compute_alone)
    pending: deque[Future[Batched]] = deque()
    try:
        for batch in requests:
            size = -(-len(batch) // threads)
            shares = [batch[begin : begin + size] for begin in range(0, len(batch), size)]
            futures = [makers.submit(make_share, share) for share in shares]
            pending.append(collator.submit(join, futures))
            if len(pending) > BATCHES_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        makers.shutdown(cancel_futures=True)
        collator.shutdown(cancel_futures=True)


def _compute_alone() -> None:
    """Keep what torch computes in this thread from taking more cores, which the training step needs.

    ``torch.set_num_threads`` would reach threads that begin later, too.
    """
    torch.get_num_threads()  # a thread takes torch's number when first asked, which would undo the limit
    threadpool_limits(1, user_api="openmp")
