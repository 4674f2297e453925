"""From a scan and a seed to a transformed crop, from any thread."""

import copy
import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from medssl.errors import MedsslError, NoUsableScanError, ScanError
from medssl.scans.record import PreparedScan
from medssl.training.seeds import derive_seed

READ_FAILURES = (MedsslError, OSError, RuntimeError, ValueError)
"""What reading a stored scan raises when the file has vanished, shrunk or changed."""

OnUnreadable = Callable[[PreparedScan, str], None]


class Window(Protocol):
    """Voxels read from a scan, ``(1, X, Y, Z)`` float32 in [0, 1]."""

    @property
    def voxels(self) -> np.ndarray:
        """Return the array."""


class ReadWindow(Protocol):
    """`medssl.scans.crop.read_window` with its size filled in."""

    def __call__(self, scan: PreparedScan, *, rng: np.random.Generator) -> Window:
        """Read a window at a place that ``rng`` draws."""


class SeededTransform(Protocol):
    """A MONAI transform whose randomness can be set."""

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Transform a sample."""

    def set_random_state(self, seed: int) -> Any:
        """Make the next call a function of ``seed``."""


class CropSampler:
    """Reads and transforms crops; the same scan and seed give the same sample in any thread, at any time.

    Args:
        read_window: Reads a window of a scan.
        transform: Made one copy of a thread, since MONAI transforms hold their random state.
        on_unreadable: Told once of each scan that could not be read, with the reason.
    """

    def __init__(
        self, read_window: ReadWindow, transform: SeededTransform, *, on_unreadable: OnUnreadable
    ) -> None:
        self._read_window = read_window
        self._transform = transform
        self._on_unreadable = on_unreadable
        self._unreadable: set[str] = set()
        self._lock = threading.Lock()
        self._thread = threading.local()

    def sample(self, scan: PreparedScan, seed: int) -> dict[str, Any]:
        """Return the transformed sample that ``seed`` gives of ``scan``.

        Args:
            scan: A prepared scan.
            seed: Any number in [0, 2**63).

        Returns:
            What the transform makes of ``{"image": window}``, and ``"seed"``.

        Raises:
            ScanError: If the stored voxels are not finite; reading may raise others of `READ_FAILURES`.
        """
        return self._transformed(scan, self._read(scan, seed), seed)

    def sample_first_readable(self, candidates: Iterable[PreparedScan], seed: int) -> dict[str, Any]:
        """Return the sample of the first candidate that can be read, and report those that cannot.

        Raises:
            NoUsableScanError: If not one can be read.
        """
        for scan in candidates:
            try:
                voxels = self._read(scan, seed)
            except READ_FAILURES as error:
                self._report(scan, str(error))
            else:
                return self._transformed(scan, voxels, seed)
        raise NoUsableScanError(
            "Not one prepared scan can be read any more: check that the store still exists."
        )

    def _read(self, scan: PreparedScan, seed: int) -> np.ndarray:
        voxels = self._read_window(scan, rng=np.random.default_rng(derive_seed("window", seed))).voxels
        if not np.isfinite(voxels).all():
            raise ScanError("its stored voxels are not all finite")
        return voxels

    def _transformed(self, scan: PreparedScan, voxels: np.ndarray, seed: int) -> dict[str, Any]:
        transform = self._own_transform()
        transform.set_random_state(seed=seed % 2**32)
        try:
            sample = transform({"image": voxels})
        except Exception as error:
            error.add_note(f"while transforming a crop of {scan.record.scan_id}")
            raise
        return {**sample, "seed": seed}

    def _own_transform(self) -> SeededTransform:
        if not hasattr(self._thread, "transform"):
            self._thread.transform = copy.deepcopy(self._transform)
        return self._thread.transform

    def _report(self, scan: PreparedScan, reason: str) -> None:
        with self._lock:
            is_known = scan.record.scan_id in self._unreadable
            self._unreadable.add(scan.record.scan_id)
        if not is_known:
            self._on_unreadable(scan, reason)
