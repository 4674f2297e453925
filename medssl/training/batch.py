"""Samples put together as plain tensors."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class GrowingBatch:
    """A batch that gets its samples one by one, in any order and from several threads.

    Each sample is copied and converted in one go, to where it stays: stacked first, samples would pass
    through memory twice more.

    Attributes:
        tensors: Float32, int64 or bool ``(B, ...)`` by key, plain and contiguous, never MONAI's MetaTensor,
            which would slow every step. Empty until the first sample is there; undefined at the places of
            those that are missing.
    """

    def __init__(self, size: int, keys: Sequence[str]) -> None:
        """Wait for samples.

        Args:
            size: How many.
            keys: What reaches the batch; anything else is dropped.
        """
        self.tensors: dict[str, Tensor] = {}
        self._size = size
        self._keys = tuple(keys)
        self._lock = threading.Lock()

    def put(self, place: int, sample: Mapping[str, Any]) -> None:
        """Add a sample, with arrays, tensors or numbers under the keys, at a place in [0, B)."""
        values = {key: np.asarray(sample[key], order="C") for key in self._keys}
        with self._lock:
            self.tensors = self.tensors or {key: self._empty_like(value) for key, value in values.items()}
        for key, value in values.items():
            if value.ndim:
                self.tensors[key][place].copy_(torch.from_numpy(value))
            else:  # for which torch would let go of the interpreter, and wait to get it back
                self.tensors[key].numpy()[place] = value

    def _empty_like(self, value: np.ndarray) -> Tensor:
        return torch.empty((self._size, *value.shape), dtype=_dtype_in_batch(value))


def collate(samples: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, Tensor]:
    """Return the batch of samples that are all there, see `GrowingBatch`."""
    batch = GrowingBatch(len(samples), keys)
    for place, sample in enumerate(samples):
        batch.put(place, sample)
    return batch.tensors


def _dtype_in_batch(value: np.ndarray) -> torch.dtype:
    if np.issubdtype(value.dtype, np.floating):
        return torch.float32
    return torch.bool if value.dtype == bool else torch.int64
