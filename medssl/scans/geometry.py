"""Where the voxels of a stored image lie in the body, and whether that can be trusted."""

from functools import cache
from itertools import product
from math import prod
from typing import TypeVar

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medssl.errors import ScanError
from medssl.scans.record import ScanHeader
from medssl.scans.stored import StoredImage

T = TypeVar("T", bound=np.generic)

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the axes of DICOM and ITK to those of NIfTI."""

MIN_VOXELS = 1000
"""Smallest scan that is read; two slices of 44 x 44 around a lesion stay in, scraps of 7 x 5 x 3 do not."""

MAX_SHEAR_DEGREES = 1.0
"""Largest deviation from right angles; rounding in headers stays below 0.1, gantry tilt is 5 to 30."""

SPACING_RANGE_MM = (0.001, 100.0)
"""From micro-CT to a coarse localiser; beyond it the header is wrong."""

MAX_MISALIGNMENT_VOXELS = 0.1
"""Largest distance of voxels that count as the same place: above rounding in headers, below any shift."""


def describe(image: StoredImage) -> ScanHeader:
    """Return an image's header, once its geometry and type passed every check.

    Raises:
        ScanError: If it is not one real-valued 3D volume on a grid with right angles and a known orientation.
    """
    shape = _volume_shape(image)
    with np.errstate(all="ignore"):  # absurd numbers overflow, and are then refused
        affine = image.affine()
        spacing_mm = _checked_spacing(affine)
    return ScanHeader(
        shape=shape,
        spacing_mm=spacing_mm,
        orientation="".join(nib.aff2axcodes(affine)),
        dtype=image.dtype.newbyteorder("=").name,
        affine=tuple(tuple(float(value) for value in row) for row in affine),
        modality=image.modality,
    )


def along_ras(header: ScanHeader) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return a header's shape and spacing in the order R, A, S instead of that of the stored axes."""
    stored_axes = _stored_axes(header.orientation)
    return tuple(header.shape[axis] for axis in stored_axes), tuple(
        header.spacing_mm[axis] for axis in stored_axes
    )


def to_ras(voxels: NDArray[T], affine: NDArray[np.float64]) -> tuple[NDArray[T], NDArray[np.float64]]:
    """Flip and swap axes, without interpolation, to the order closest to +R, +A, +S.

    Args:
        voxels: ``(I, J, K)`` as stored.
        affine: 4 x 4, from stored voxel indices to RAS millimetres.

    Returns:
        The volume ``(X, Y, Z)``, contiguous, and the 4 x 4 affine from its voxel indices to RAS millimetres.
    """
    axes = nib.io_orientation(affine)
    volume = nib.apply_orientation(voxels, axes)
    return np.ascontiguousarray(volume), affine @ nib.orientations.inv_ornt_aff(axes, voxels.shape)


def as_ras(voxels: NDArray[T], header: ScanHeader) -> NDArray[T]:
    """Return a view of stored voxels ``(I, J, K)`` as ``(X, Y, Z)``; what is written to it lands in them.

    Args:
        voxels: On the grid of ``header``.
        header: Of the file.
    """
    view: NDArray[T] = nib.apply_orientation(voxels, nib.io_orientation(np.array(header.affine)))
    return view


def refuse_other_grid(header: ScanHeader, like: ScanHeader, *, name: str) -> None:
    """Check that two images have the same voxels at the same places, in whatever order they are stored.

    Args:
        header: Of the image to check.
        like: Of the image that it belongs to.
        name: What to call that one in the reason, such as "its image".

    Raises:
        ScanError: With what differs.
    """
    shape, affine = _ras_grid(header)
    shape_like, affine_like = _ras_grid(like)
    if shape != shape_like:
        sizes = (" x ".join(map(str, lengths)) for lengths in (shape, shape_like))
        raise ScanError("Along R, A and S it has {} voxels and {name} {}.".format(*sizes, name=name))
    corners = np.array([(*corner, 1) for corner in product(*((0, length - 1) for length in shape))]).T
    apart_voxels = np.abs(np.linalg.inv(affine_like) @ affine @ corners - corners).max()
    if apart_voxels > MAX_MISALIGNMENT_VOXELS:
        raise ScanError(
            f"It lies up to {apart_voxels:.1f} voxels away from {name}: "
            "origin, spacing or direction differ between the headers."
        )


def _ras_grid(header: ScanHeader) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    affine = np.array(header.affine)
    turn = nib.orientations.inv_ornt_aff(nib.io_orientation(affine), header.shape)
    return along_ras(header)[0], affine @ turn


@cache
def _stored_axes(orientation: str) -> tuple[int, ...]:
    """Return which stored axis runs along R, A and S, of which there are 48 possibilities."""
    return tuple(nib.orientations.axcodes2ornt(orientation)[:, 0].argsort().tolist())


def _volume_shape(image: StoredImage) -> tuple[int, int, int]:
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    size = " x ".join(str(length) for length in shape)
    _refuse_type(image.dtype)
    if len(shape) > 3:
        advice = ", or set data.time_points (in fine-tuning, first and mean for what has no label map)"
        raise ScanError(
            f"It is {len(shape)}-D ({size}), a series or a vector field; store each volume in its own file"
            f"{advice if len(shape) == 4 else ''}."
        )
    if len(shape) < 3 or min(shape) == 1:
        what = "a list of values, such as a surface" if max(shape) == prod(shape) else "a flat picture"
        raise ScanError(f"It is {what} ({size}), not a volume.")
    if prod(shape) < MIN_VOXELS:
        raise ScanError(f"It is too small ({size} = {prod(shape)} voxels): at least {MIN_VOXELS} are needed.")
    return shape[0], shape[1], shape[2]


def _refuse_type(dtype: np.dtype) -> None:
    if dtype.kind == "c":
        raise ScanError(f"Its voxels are complex numbers ({dtype.name}); store the magnitude instead.")
    if dtype.kind not in "iuf":
        raise ScanError("Its voxels are colours (RGB), not intensities.")


def _checked_spacing(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    if not np.all(np.isfinite(affine)):
        raise ScanError("The header's affine holds values that are not finite.")
    axes = affine[:3, :3]
    spacing_mm = np.linalg.norm(axes, axis=0)
    smallest, largest = SPACING_RANGE_MM
    if not np.all((spacing_mm >= smallest) & (spacing_mm <= largest)):
        sizes = " x ".join(f"{size:g}" for size in spacing_mm)
        raise ScanError(f"The header gives an implausible voxel spacing ({sizes} mm).")
    shear_degrees = _largest_shear_degrees(axes / spacing_mm)
    if shear_degrees > MAX_SHEAR_DEGREES:
        raise ScanError(
            f"Its axes are not at right angles (sheared by {shear_degrees:.1f} degrees, as by a tilted CT "
            "gantry); resample it to an upright grid first."
        )
    return float(spacing_mm[0]), float(spacing_mm[1]), float(spacing_mm[2])


def _largest_shear_degrees(directions: NDArray[np.float64]) -> float:
    """Return how far unit column vectors are from right angles."""
    cosines = np.abs(np.triu(directions.T @ directions, k=1))
    return float(np.degrees(np.arcsin(min(1.0, cosines.max()))))
