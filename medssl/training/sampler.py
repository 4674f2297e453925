"""From a scan and a seed to a transformed crop, from any thread."""

import copy
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from medssl.errors import MedsslError, NoUsableScanError, ScanError
from medssl.scans.store import all_finite, widen
from medssl.training.seeds import derive_seed

READ_FAILURES = (MedsslError, OSError, RuntimeError, ValueError)
"""What reading a stored scan raises when the file has vanished, shrunk or changed."""


class StoredScan(Protocol):
    """What is prepared and named: a scan, or a case with labels."""

    @property
    def record(self) -> "Named":
        """Where it came from."""


class Named(Protocol):
    """What is told apart by a ``scan_id``."""

    @property
    def scan_id(self) -> str:
        """Unique and stable."""


ScanT = TypeVar("ScanT", bound=StoredScan, contravariant=True)
OnUnreadable = Callable[[Any, str], None]


class ReadWindow(Protocol[ScanT]):
    """Reads part of a scan."""

    def __call__(self, scan: ScanT, *, rng: np.random.Generator) -> Mapping[str, Any]:
        """Return ``image`` ``(C, X, Y, Z)`` in [0, 1], at a place that ``rng`` draws, and its labels."""


class SeededTransform(Protocol):
    """A MONAI transform whose randomness can be set."""

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Transform a sample."""

    def set_random_state(self, seed: int) -> Any:
        """Make the next call a function of ``seed``."""


@dataclass(frozen=True, slots=True)
class ReadSample(Generic[ScanT]):
    """What is not transformed yet.

    Attributes:
        scan: Where it was read from.
        window: What `ReadWindow` returned.
        seed: Decides every draw of the transform.
    """

    scan: ScanT
    window: Mapping[str, Any]
    seed: int


class CropSampler(Generic[ScanT]):
    """Reads and transforms crops; the same scan and seed give the same sample in any thread, at any time.

    Args:
        read_window: Reads a window of a scan.
        transform: Made one copy of a thread, since MONAI transforms hold their random state.
        on_unreadable: Told once of each scan that could not be read, with the reason.
    """

    def __init__(
        self, read_window: ReadWindow[ScanT], transform: SeededTransform, *, on_unreadable: OnUnreadable
    ) -> None:
        self._read_window = read_window
        self._transform = transform
        self._on_unreadable = on_unreadable
        self._unreadable: set[str] = set()
        self._lock = threading.Lock()
        self._thread = threading.local()

    def sample(self, scan: ScanT, seed: int) -> dict[str, Any]:
        """Return the transformed sample that ``seed`` gives of ``scan``.

        Args:
            scan: A prepared scan.
            seed: Any number in [0, 2**63).

        Returns:
            What the transform makes of what was read, voxels as float32, and ``"seed"``.

        Raises:
            ScanError: If the stored voxels are not finite; reading may raise others of `READ_FAILURES`.
        """
        sample = self.transformed(self._read(scan, seed))
        return {key: widen(value) if _is_float16(value) else value for key, value in sample.items()}

    def read_first_readable(self, candidates: Iterable[ScanT], seed: int) -> ReadSample[ScanT]:
        """Read a window of the first candidate that can be read, and report those that cannot.

        Raises:
            NoUsableScanError: If not one can be read.
        """
        for scan in candidates:
            try:
                return self._read(scan, seed)
            except READ_FAILURES as error:
                self._report(scan, str(error))
        raise NoUsableScanError(
            "Not one prepared scan can be read any more: check that the store still exists."
        )

    def transformed(self, source: ReadSample[ScanT]) -> dict[str, Any]:
        """Return what the transform makes of a window, some of it float16 where voxels were only moved."""
        transform = self._own_transform()
        transform.set_random_state(seed=source.seed % 2**32)
        try:
            sample = transform(dict(source.window))
        except Exception as error:
            error.add_note(f"while transforming a crop of {source.scan.record.scan_id}")
            raise
        return {**sample, "seed": source.seed}

    def _read(self, scan: ScanT, seed: int) -> ReadSample[ScanT]:
        window = self._read_window(scan, rng=np.random.default_rng(derive_seed("window", seed)))
        if not all_finite(window["image"]):
            raise ScanError("its stored voxels are not all finite")
        return ReadSample(scan, window, seed)

    def _own_transform(self) -> SeededTransform:
        if not hasattr(self._thread, "transform"):
            self._thread.transform = copy.deepcopy(self._transform)
        return self._thread.transform

    def _report(self, scan: ScanT, reason: str) -> None:
        with self._lock:
            is_known = scan.record.scan_id in self._unreadable
            self._unreadable.add(scan.record.scan_id)
        if not is_known:
            self._on_unreadable(scan, reason)


def _is_float16(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float16
