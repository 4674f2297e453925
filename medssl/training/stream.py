"""Endless training batches and fixed validation batches, each a pure function of a seed and a number."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from typing import Any, Generic

import numpy as np
from torch import Tensor

from medssl.errors import ConfigError
from medssl.training.batch import GrowingBatch, collate
from medssl.training.prefetch import batches_in_order
from medssl.training.sampler import CropSampler, OnUnreadable, ReadSample, ReadWindow, ScanT, SeededTransform
from medssl.training.seeds import derive_seed


@dataclass(frozen=True)
class CropRequest:
    """One crop to make.

    Attributes:
        order: Indices of the scans in the order in which they step in for one that cannot be read.
        place: Where in ``order`` the wanted scan stands.
        seed: Decides the window and every draw of the transform.
    """

    order: Sequence[int]
    place: int
    seed: int

    def candidates(self) -> Iterator[int]:
        """Yield the wanted scan's index, then the others."""
        for further in range(len(self.order)):
            yield self.order[(self.place + further) % len(self.order)]


class CropStream(Generic[ScanT]):
    """Batches of transformed crops; what a batch holds is a pure function of (seed, step).

    The crops form one endless sequence: permutation after permutation of the scans. Step ``s`` takes
    positions ``s * batch_size`` to ``(s + 1) * batch_size`` of it, so every batch is full and every scan
    comes equally often. Of each batch a process makes only its own contiguous share.

    Args:
        scans: Training scans, in an order that does not change between runs.
        read_window: Reads part of a scan, such as `medssl.workflows.setup.read_image`.
        transform: Makes inputs and targets of what was read.
        batch_keys: Which entries of a transformed sample reach the batch.
        batch_size: Crops in a step over all processes.
        crops_per_scan: Crops of each scan in an epoch.
        seed: Of the whole run.
        threads: Pairs of threads that make them.
        rank: Number of this process.
        world_size: Number of processes.
        on_unreadable: Told once of each scan that could not be read; the next of the permutation steps in.

    Raises:
        ConfigError: If the batch cannot be shared equally between the processes.
    """

    def __init__(
        self,
        scans: Sequence[ScanT],
        *,
        read_window: ReadWindow[ScanT],
        transform: SeededTransform,
        batch_keys: Sequence[str],
        batch_size: int,
        crops_per_scan: int,
        seed: int,
        threads: int,
        rank: int = 0,
        world_size: int = 1,
        on_unreadable: OnUnreadable = lambda scan, reason: None,
    ) -> None:
        if batch_size % world_size:
            raise ConfigError(
                f"training.batch_size is {batch_size}, which {world_size} processes cannot share equally: "
                f"choose a multiple of {world_size}."
            )
        self.scans = list(scans)
        self.batch_size = batch_size
        self._share = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        self._crops_per_scan = crops_per_scan
        self._seed = seed
        self._threads = threads
        self._keys = (*batch_keys, "seed")
        self._sampler: CropSampler[ScanT] = CropSampler(read_window, transform, on_unreadable=on_unreadable)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which each scan gave about ``crops_per_scan`` crops; the last one is full as well."""
        return -(-len(self.scans) * self._crops_per_scan // self.batch_size)

    def batches(self, start_step: int = 0) -> Generator[dict[str, Tensor]]:
        """Yield this process's share of the batches of ``start_step`` and all later steps, without end.

        Yields:
            Plain tensors of the batch's keys, and ``seed`` ``(B,)`` int64, one a sample.
        """
        requests = (self._requests(step)[self._share] for step in count(start_step))
        return self._make(self.scans, requests)

    def scan_ids(self, step: int) -> list[str]:
        """Return which scans the whole batch of a step is cropped from, each once."""
        wanted = (next(request.candidates()) for request in self._requests(step))
        return list(dict.fromkeys(self.scans[index].record.scan_id for index in wanted))

    def sample(self, scan: ScanT, seed: int) -> dict[str, Any]:
        """Return one crop, transformed but not collated, for pictures and probes.

        Args:
            scan: Any prepared scan.
            seed: Which of the scan's crops, together with the run's seed; crops 0, 1, ... are those of
                `fixed_batches`.
        """
        return self._sampler.sample(scan, self._fixed_seed(scan, seed))

    def collate(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return a batch of samples, with ``seed`` ``(B,)`` int64."""
        return collate(samples, self._keys)

    def fixed_batches(
        self, scans: Sequence[ScanT], *, crops_per_scan: int
    ) -> Callable[[], Iterator[dict[str, Tensor]]]:
        """Return a function that yields this process's share of the same crops each time it is called.

        Args:
            scans: Validation scans.
            crops_per_scan: Fixed crops of each; their seeds depend on the run's seed and the scan alone.
        """
        order = range(len(scans))
        requests = [
            CropRequest(order, place, self._fixed_seed(scans[place], crop))
            for place in order
            for crop in range(crops_per_scan)
        ]
        batches = [requests[i : i + self.batch_size] for i in range(0, len(requests), self.batch_size)]
        shares = [share for batch in batches if (share := batch[self._share])]
        return lambda: self._make(scans, iter(shares))

    def _requests(self, step: int) -> list[CropRequest]:
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        rounds = {position // len(self.scans) for position in positions}
        orders = {number: _permutation(self._seed, number, len(self.scans)) for number in rounds}
        return [
            CropRequest(
                order=orders[position // len(self.scans)],
                place=position % len(self.scans),
                seed=derive_seed("crop", self._seed, position),
            )
            for position in positions
        ]

    def _fixed_seed(self, scan: ScanT, crop: int) -> int:
        return derive_seed("fixed crop", self._seed, scan.record.scan_id, crop)

    def _make(
        self, scans: Sequence[ScanT], requests: Iterator[list[CropRequest]]
    ) -> Generator[dict[str, Tensor]]:
        def read(request: CropRequest) -> ReadSample[ScanT]:
            candidates = (scans[index] for index in request.candidates())
            return self._sampler.read_first_readable(candidates, request.seed)

        batches = batches_in_order(
            requests,
            begin=partial(GrowingBatch, keys=self._keys),
            read=read,
            make=self._sampler.transformed,
            put=GrowingBatch.put,
            threads=self._threads,
        )
        with closing(batches):
            for batch in batches:
                yield batch.tensors


@lru_cache(maxsize=4)
def _permutation(seed: int, number: int, count: int) -> tuple[int, ...]:
    """Return one order of the scans; remembered, because every step of a round through them asks for it."""
    order = np.random.default_rng(derive_seed("order", seed, number)).permutation(count)
    return tuple(order.tolist())
