"""One process or many, started by torchrun: the same code, the same numbers."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar, cast

import ignite.distributed as idist
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

LONGEST_WAIT = timedelta(days=1)
"""How long processes wait for the first one, which prepares all scans; torch itself allows ten minutes."""


def launched_processes() -> int:
    """Return how many processes torchrun started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started, if it did, while the context is open.

    Args:
        device: Where this process trains; GPUs talk through NCCL, CPUs through gloo.
    """
    if launched_processes() == 1:
        yield
        return
    idist.initialize("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    try:
        yield
    finally:
        idist.finalize()


def rank() -> int:
    """Return the number of this process."""
    return idist.get_rank()


def world_size() -> int:
    """Return the number of processes."""
    return idist.get_world_size()


def is_first() -> bool:
    """Return whether this is the process that writes and speaks."""
    return rank() == 0


def gather(value: T) -> list[T]:
    """Return every process's ``value``, in the order of their ranks."""
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    torch.distributed.all_gather_object(values, value)
    return cast(list[T], values)


def from_first(make: Callable[[], T]) -> T:
    """Return what ``make`` gives in the first process, in all of them; the others wait and do not call it.

    torchrun ends the others when the first one fails.
    """
    made = gather(make() if is_first() else None)[0]
    return cast(T, made)


def mean_over_processes(values: Tensor) -> Tensor:
    """Return the element-wise mean of a tensor over the processes."""
    if world_size() == 1:
        return values
    return cast(Tensor, idist.all_reduce(values.clone())) / world_size()


def any_process(flags: Sequence[bool]) -> list[bool]:
    """Return for each flag whether it is set in any process, so that all of them act alike."""
    if world_size() == 1:
        return list(flags)
    counts = cast(Tensor, idist.all_reduce(torch.tensor(flags, dtype=torch.float32)))
    return [bool(count) for count in counts.tolist()]


def wait_for_all() -> None:
    """Return once every process has come here."""
    idist.barrier()


def synchronised(model: nn.Module, device: torch.device) -> nn.Module:
    """Return a network whose gradients are averaged over the processes; the same one if there is but one.

    The graph of a step never changes, and telling so lets parameters that a choice of tasks leaves unused
    stay without a gradient.
    """
    if world_size() == 1:
        return model
    if device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, static_graph=True)
