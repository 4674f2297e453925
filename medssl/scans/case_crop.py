"""Read windows of labelled cases, often around what is labelled."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medssl.errors import ScanError
from medssl.scans.cases import PreparedCase
from medssl.scans.crop import Size
from medssl.scans.label_store import draw_place
from medssl.scans.store import open_voxels, widen


@dataclass(frozen=True, slots=True)
class CaseWindow:
    """A box of a prepared case.

    Attributes:
        voxels: ``(C, X, Y, Z)``, float32 in [0, 1], one channel an image.
        label: ``(1, X, Y, Z)``, uint8 classes, or None for a case without a label map.
        start: Index of its first voxel in the stored case, along +R, +A, +S.
    """

    voxels: NDArray[np.float32]
    label: NDArray[np.uint8] | None
    start: tuple[int, int, int]


def read_case_window(
    case: PreparedCase, size: Size, rng: np.random.Generator, *, foreground_share: float
) -> CaseWindow:
    """Read a window of a case, the same of all channels and the label map.

    With probability ``foreground_share`` it contains a labelled voxel: of a class drawn uniformly from those
    that occur, so that small ones come as often as large ones, at a place drawn uniformly from all that
    contain the voxel. Otherwise, and in a case without labelled voxels, it lies anywhere inside the scan.

    An axis along which the scan is shorter than the window is read whole, so the window is shorter there too.

    Args:
        case: Prepared case; only the chunks that the window touches are read.
        size: Voxels along +R, +A, +S.
        rng: Decides the place; the same state gives the same window.
        foreground_share: In [0, 1].
    """
    sides = np.minimum(size, case.shape)
    first_start, last_start = np.zeros(3, dtype=np.int64), np.array(case.shape) - sides
    wants_foreground = rng.random() < foreground_share
    if wants_foreground and case.label_path and case.class_voxels:
        place = draw_place(case.label_path, case.class_voxels, rng)
        first_start = np.maximum(place - sides + 1, 0)
        last_start = np.minimum(place, last_start)
    x, y, z = rng.integers(first_start, last_start, endpoint=True).tolist()
    box = tuple(slice(first, first + side) for first, side in zip((x, y, z), sides.tolist(), strict=True))
    label = open_voxels(case.label_path)[box][np.newaxis] if case.label_path else None
    return CaseWindow(_read_channels(case, box), label, (x, y, z))


def read_case_volume(case: PreparedCase) -> NDArray[np.float32]:
    """Read all channels of a case whole: ``(C, X, Y, Z)``, float32 in [0, 1]."""
    return _read_channels(case, (slice(None),) * 3)


def read_case_planes(case: PreparedCase, axis: int, start: int, stop: int) -> NDArray[np.float32]:
    """Read some planes of all channels of a case: ``(C, X, Y, Z)``, float32 in [0, 1].

    Args:
        case: Prepared case.
        axis: Across which the planes lie: 0, 1 or 2.
        start: First plane.
        stop: The one after the last plane.
    """
    planes = slice(start, stop)
    return _read_channels(case, tuple(planes if index == axis else slice(None) for index in range(3)))


def read_case_label(case: PreparedCase) -> NDArray[np.uint8]:
    """Read the label map of a case whole: ``(X, Y, Z)``, uint8 classes on the prepared grid.

    Raises:
        ScanError: If it has none.
    """
    if case.label_path is None:
        raise ScanError("It has no label map.")
    return open_voxels(case.label_path)[:]


def _read_channels(case: PreparedCase, box: tuple[slice, ...]) -> NDArray[np.float32]:
    return np.stack([widen(open_voxels(channel.store_path)[box]) for channel in case.channels])
