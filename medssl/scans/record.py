"""What is known of a scan at each stage of its way from a folder to a crop."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Bounds = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Start and stop of a box of voxels along +R, +A, +S."""


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """A scan that was found on disk and not yet opened.

    Attributes:
        path: The image file.
        scan_id: Unique within one search and stable between searches: the path below the searched folder,
            without image suffixes.
        subject_id: Whom the scan shows; scans of one subject never lie on both sides of a split.
        session_id: BIDS session, or None.
        split: What a table's ``split`` column says, such as "test", or None.
        time_point: Number of the volume in a 4-D file, from "0", or "mean"; None where there is but one.
    """

    path: Path
    scan_id: str
    subject_id: str
    session_id: str | None = None
    split: str | None = None
    time_point: str | None = None


@dataclass(frozen=True, slots=True)
class ScanHeader:
    """What a scan's header tells, before any voxel is read.

    Attributes:
        shape: Voxels along the three stored axes.
        spacing_mm: Distance of voxel centres along the stored axes.
        orientation: Three letters, the anatomical direction each stored axis points to, such as "RAS".
        dtype: Stored NumPy type name.
        affine: 4 x 4 matrix from voxel indices to RAS millimetres, as nested tuples.
        modality: "ct", "mr" or "other" where the file tells, else None.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    dtype: str
    affine: tuple[tuple[float, ...], ...]
    modality: str | None = None


@dataclass(frozen=True, slots=True)
class CheckedScan:
    """A scan whose header passed every check."""

    record: ScanRecord
    header: ScanHeader


@dataclass(frozen=True, slots=True)
class SkippedScan:
    """A scan that is left out.

    Attributes:
        path: The image file.
        reason: One sentence without the path.
    """

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class IntensityRecipe:
    """How stored intensities become the [0, 1] range the network sees.

    ``normalised = clip((value - lower) / (upper - lower), 0, 1)``

    Attributes:
        modality: "ct", "mr" or "other".
        lower: Intensity mapped to 0: Hounsfield units for CT, this scan's own percentile otherwise.
        upper: Intensity mapped to 1.
    """

    modality: str
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class PreparedScan:
    """A scan that lies in the store: RAS, resampled, cropped to the foreground, normalised to [0, 1].

    Attributes:
        record: Where it came from.
        content_hash: BLAKE2b of the source file's bytes, hexadecimal.
        voxels_hash: BLAKE2b of the prepared voxels as stored, hexadecimal: the same for copies of a scan that
            differ in compression, data type or axis order.
        store_path: Its voxels on disk, see `medssl.scans.store`.
        shape: Stored voxels along +R, +A, +S.
        spacing_mm: Stored spacing along the same axes.
        recipe: The intensity recipe that was applied.
        source: The header it was read with.
        foreground: The box of the source volume, in RAS, that was kept; its outer corners are those of the
            stored voxels.
    """

    record: ScanRecord
    content_hash: str
    voxels_hash: str
    store_path: Path
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    recipe: IntensityRecipe
    source: ScanHeader
    foreground: Bounds


class Named(Protocol):
    """What names a scan and whom it shows: a `ScanRecord`, or a labelled case."""

    @property
    def scan_id(self) -> str:
        """Return the name of the scan."""

    @property
    def subject_id(self) -> str:
        """Return whom it shows."""


class Prepared(Protocol):
    """What `PreparedScan` and `medssl.scans.cases.PreparedCase` have in common; see there."""

    @property
    def record(self) -> Named:
        """Return where it came from."""

    @property
    def content_hash(self) -> str:
        """Return the hash of the source file."""

    @property
    def voxels_hash(self) -> str:
        """Return the hash of the stored voxels."""

    @property
    def recipe(self) -> IntensityRecipe:
        """Return the intensity recipe."""

    @property
    def source(self) -> ScanHeader:
        """Return the header of the source file."""


@dataclass(frozen=True, slots=True)
class Found:
    """Result of searching a folder.

    Attributes:
        layout: "plain", "BIDS", "nnU-Net raw", "Decathlon", "CSV" or "file".
        scans: In a stable order.
        skipped: Files that look like scans and are left out already by name, such as label maps.
        notes: Facts worth telling, one sentence each.
    """

    layout: str
    scans: tuple[ScanRecord, ...]
    skipped: tuple[SkippedScan, ...]
    notes: tuple[str, ...] = ()
