"""A sample cohort to try things on: many brains simulated from one real template.

The MNI152 T1 template and its grey- and white-matter maps (Fonov et al., NeuroImage 2011), as they travel in
nilearn's wheel, are warped, given another contrast, shaded and noised. That is good for demonstrations, tests
and benchmarks; it holds no anatomy beyond the template's and is no evidence about real scans.
"""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medssl.atomic import atomic_path, write_text
from medssl.errors import UsageError
from medssl.progress import Progress
from medssl.scans.foreground import foreground_box
from medssl.scans.resample import resample

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]
Volume = NDArray[np.float32]

ORIENTATIONS = tuple(
    "".join(letters) for axes in permutations(("RL", "AP", "SI")) for letters in product(*axes)
)
"""All 48 axis orders and directions that a file can be stored in."""

AIR_MM = 16.0
"""Empty border round the template's brain in images of the default size."""

MAX_TURN_DEGREES = 8.0
MAX_SHIFT_MM = 5.0
MAX_SCALE = 0.1
WARPS_MM = ((60.0, 5.0), (25.0, 1.5))  # distance of control points, standard deviation of their displacement
CONTRASTS = ((0.15, 0.40), (0.50, 0.72), (0.78, 1.0))  # mean intensity of fluid, grey and white matter in T1
SHADING = (120.0, 0.12)  # distance of control points in mm, standard deviation of the logarithm
NOISE = (0.005, 0.03)  # standard deviation, where white matter is about 1
WHITE_INTENSITY = (200, 4000)  # scanners differ that much in scale


@dataclass(frozen=True, slots=True)
class Atlas:
    """The template's brain at the wanted spacing, without the air round it.

    Attributes:
        t1: ``(X, Y, Z)`` in RAS, in [0, 1], zero outside the brain.
        grey: Share of grey matter in each voxel.
        white: Share of white matter.
        spacing_mm: Of all three, along R, A and S.
    """

    t1: Volume
    grey: Volume
    white: Volume
    spacing_mm: Spacing


def simulate_cohort(
    folder: Path,
    *,
    count: int,
    size: Shape | None = None,
    spacing_mm: Spacing | float = 2.0,
    seed: int = 0,
    progress: Progress,
) -> None:
    """Write simulated brains with tissue labels as a BIDS folder.

    A subject's image is ``sub-001/anat/sub-001_T1w.nii.gz``, its tissue labels, below ``derivatives/labels``,
    are 0 background, 1 fluid and all else in the brain, 2 grey matter, 3 white matter. Each subject is stored
    in one of the 48 orientations.

    Args:
        folder: Is made; files of the same names in it are replaced.
        count: Number of subjects.
        size: Voxels along R, A and S; by default as many as hold the brain with some air round it.
        spacing_mm: Along the same axes; one number means all three.
        seed: Subject ``i`` depends on it and on ``i``, not on ``count``.
        progress: Gets a bar.

    Raises:
        UsageError: If nilearn, whose wheel carries the template, is not installed.
    """
    atlas = _load_atlas((spacing_mm,) * 3 if isinstance(spacing_mm, int | float) else spacing_mm)
    labels_folder = folder / "derivatives" / "labels"
    _describe(folder, "raw", "Brains simulated from a real template (MNI152 T1)")
    _describe(
        labels_folder, "derivative", "Tissue labels of brains simulated from a real template (MNI152 T1)"
    )
    with progress.track("Simulating brains", total=count) as advance:
        for index in range(count):
            rng = np.random.default_rng([seed, index])
            image, tissues = simulate_brain(atlas, size or _default_size(atlas), rng)
            orientation = ORIENTATIONS[rng.integers(len(ORIENTATIONS))]
            subject = f"sub-{index + 1:03d}"
            for root, kind, volume in ((folder, "T1w", image), (labels_folder, "dseg", tissues)):
                path = root / subject / "anat" / f"{subject}_{kind}.nii.gz"
                _save(path, volume, spacing_mm=atlas.spacing_mm, orientation=orientation)
            advance(detail=subject)


def simulate_brain(
    atlas: Atlas, size: Shape, rng: np.random.Generator
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Return an image ``(X, Y, Z)`` in RAS, on a scale of its own, and its tissue labels."""
    places = _warped_grid(atlas, size, rng)
    t1, grey, white = (
        ndimage.map_coordinates(volume, places, order=1) for volume in (atlas.t1, atlas.grey, atlas.white)
    )
    fluid = np.clip((t1 > 0.1) - grey - white, 0, 1)  # the template's fluid is at 0.3
    tissues = np.stack([1 - fluid - grey - white, fluid, grey, white]).argmax(axis=0).astype(np.uint8)
    image = _change_contrast(t1, (fluid, grey, white), rng)
    image *= np.exp(_smooth_field(size, SHADING, atlas.spacing_mm, rng))
    image = _add_scanner_noise(image, rng.uniform(*NOISE), rng)
    return np.rint(image * rng.uniform(*WHITE_INTENSITY)).astype(np.int16), tissues


def _load_atlas(spacing_mm: Spacing) -> Atlas:
    try:
        from nilearn import datasets
    except ModuleNotFoundError as error:
        raise UsageError(
            'The sample cohort is made from a template that nilearn carries: pip install "medssl[demo]".'
        ) from error
    images = (
        datasets.load_mni152_template(resolution=1),
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
    )
    volumes = [nib.as_closest_canonical(image).get_fdata(dtype=np.float32) for image in images]
    brain = foreground_box(volumes[0])
    t1, grey, white = (resample(volume[brain], (1.0, 1.0, 1.0), spacing_mm).clip(0, 1) for volume in volumes)
    return Atlas(t1, grey, white, spacing_mm)


def _default_size(atlas: Atlas) -> Shape:
    air = np.rint(np.divide(AIR_MM, atlas.spacing_mm)).astype(int)
    x, y, z = (np.array(atlas.t1.shape) + 2 * air).tolist()
    return x, y, z


def _warped_grid(atlas: Atlas, size: Shape, rng: np.random.Generator) -> Volume:
    """Return the atlas voxel ``(3, X, Y, Z)`` that each voxel of the new image shows."""
    spacing_mm = _column(atlas.spacing_mm)
    turn = Rotation.from_euler("xyz", rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES, 3), degrees=True)
    matrix = turn.as_matrix() * rng.uniform(1 - MAX_SCALE, 1 + MAX_SCALE, 3)
    from_centre_mm = (np.indices(size, dtype=np.float32) - _column(np.subtract(size, 1) / 2)) * spacing_mm
    places: Volume = np.tensordot(matrix.astype(np.float32), from_centre_mm, axes=1)
    places += _column(rng.uniform(-MAX_SHIFT_MM, MAX_SHIFT_MM, 3))
    for displacement_mm, warp in product(places, WARPS_MM):
        displacement_mm += _smooth_field(size, warp, atlas.spacing_mm, rng)
    places /= spacing_mm
    places += _column(np.subtract(atlas.t1.shape, 1) / 2)
    return places


def _column(values: Sequence[float] | NDArray[np.float64]) -> Volume:
    """Return three values, one an axis, in a shape that broadcasts to ``(3, X, Y, Z)``."""
    return np.asarray(values, dtype=np.float32).reshape(3, 1, 1, 1)


def _smooth_field(
    size: Shape, control: tuple[float, float], spacing_mm: Spacing, rng: np.random.Generator
) -> Volume:
    """Interpolate random values to a field of shape ``size``.

    Args:
        size: Voxels.
        control: Distance of the control points in mm, and the standard deviation of their values.
        spacing_mm: Of the voxels.
        rng: Draws the values.
    """
    distance_mm, deviation = control
    extent_mm = np.multiply(size, spacing_mm)
    points = np.maximum(2, np.rint(extent_mm / distance_mm)).astype(int)
    values = rng.normal(scale=deviation, size=points).astype(np.float32)
    x, y, z = np.divide(size, points).tolist()
    return resample(values, (x, y, z), (1.0, 1.0, 1.0))


def _change_contrast(t1: Volume, shares: tuple[Volume, ...], rng: np.random.Generator) -> Volume:
    """Move the mean intensity of each tissue and keep what the template shows beyond its tissue means."""
    image = t1.copy()
    for share, (low, high) in zip(shares, CONTRASTS, strict=True):
        mean = np.average(t1, weights=share)
        image += share * np.float32(rng.uniform(low, high) - mean)
    return image.clip(0)


def _add_scanner_noise(image: Volume, deviation: float, rng: np.random.Generator) -> Volume:
    """Return the magnitude of a complex signal with Gaussian noise, which is what MR scanners store."""
    real, imaginary = rng.normal(scale=deviation, size=(2, *image.shape)).astype(np.float32)
    return np.hypot(image + real, imaginary)


def _save(path: Path, volume: NDArray[np.generic], *, spacing_mm: Spacing, orientation: str) -> None:
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -np.multiply(spacing_mm, np.subtract(volume.shape, 1)) / 2
    image = nib.Nifti1Image(volume, affine)
    ras = nib.orientations.axcodes2ornt("RAS")
    wanted = nib.orientations.axcodes2ornt(orientation)
    image = image.as_reoriented(nib.orientations.ornt_transform(ras, wanted))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def _describe(folder: Path, dataset_type: str, name: str) -> None:
    """Write the file that makes a folder a BIDS dataset."""
    folder.mkdir(parents=True, exist_ok=True)
    generators = [{"Name": "medssl"}]
    about = {"Name": name, "BIDSVersion": "1.9.0", "DatasetType": dataset_type, "GeneratedBy": generators}
    write_text(folder / "dataset_description.json", json.dumps(about, indent=2) + "\n")
