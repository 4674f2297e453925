"""What looking at a folder of scans tells, ready to print or to save as JSON."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from medssl.scans.geometry import along_ras
from medssl.scans.record import ScanHeader, ScanRecord, SkippedScan


@dataclass(frozen=True, slots=True)
class Intensities:
    """Five numbers about the voxels of one scan, slope and intercept applied.

    Attributes:
        minimum: Darkest voxel.
        p01: 1st percentile.
        median: 50th percentile.
        p99: 99th percentile.
        maximum: Brightest voxel.
    """

    minimum: float
    p01: float
    median: float
    p99: float
    maximum: float


@dataclass(frozen=True, slots=True)
class InspectedScan:
    """A scan that was read and can be used.

    Attributes:
        record: Where it lies and whom it shows.
        header: What its header tells.
        intensities: The range of its voxels.
        modality: The guess that decides its intensity recipe.
        voxel_hash: Equal for files that hold the same image.
    """

    record: ScanRecord
    header: ScanHeader
    intensities: Intensities
    modality: str
    voxel_hash: str


@dataclass(frozen=True, slots=True)
class Spread:
    """Smallest, median and largest of some rows, column by column."""

    min: list[float]
    median: list[float]
    max: list[float]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in one place.

    Attributes:
        source: Where was looked.
        layout: How it is organised, see `medssl.scans.record.Found`.
        scans: Scans that can be used, in a stable order.
        skipped: What would be left out.
        notes: Facts worth telling.
    """

    source: Path
    layout: str
    scans: tuple[InspectedScan, ...]
    skipped: tuple[SkippedScan, ...]
    notes: tuple[str, ...]

    @property
    def subjects(self) -> int:
        """Number of subjects with a usable scan."""
        return len({scan.record.subject_id for scan in self.scans})

    @property
    def shapes(self) -> Spread | None:
        """Voxels along R, A and S; None without a usable scan."""
        return _spread([along_ras(scan.header)[0] for scan in self.scans])

    @property
    def spacings_mm(self) -> Spread | None:
        """Voxel spacing along R, A and S; None without a usable scan."""
        return _spread([along_ras(scan.header)[1] for scan in self.scans])

    @property
    def intensities(self) -> dict[str, Spread | None]:
        """For each of the `Intensities`, how it differs between scans."""
        return {
            field.name: _spread([[getattr(scan.intensities, field.name)] for scan in self.scans])
            for field in fields(Intensities)
        }

    @property
    def dtypes(self) -> dict[str, int]:
        """Number of scans stored in each type, most frequent first."""
        return _count(scan.header.dtype for scan in self.scans)

    @property
    def orientations(self) -> dict[str, int]:
        """Number of scans stored in each orientation, most frequent first."""
        return _count(scan.header.orientation for scan in self.scans)

    @property
    def modalities(self) -> dict[str, int]:
        """Number of scans guessed to be of each modality, most frequent first."""
        return _count(scan.modality for scan in self.scans)

    @property
    def duplicates(self) -> list[list[Path]]:
        """Groups of two and more files that hold the same image, voxel for voxel."""
        groups: dict[str, list[Path]] = {}
        for scan in self.scans:
            groups.setdefault(scan.voxel_hash, []).append(scan.record.path)
        return [paths for paths in groups.values() if len(paths) > 1]

    def shown(self, path: Path) -> str:
        """Return a path as it is shown: relative to where was looked if it lies below, else whole."""
        folder = self.source if self.source.is_dir() else self.source.parent
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)

    def as_dict(self) -> dict[str, Any]:
        """Return everything in types that JSON knows; keys and their order are the same for every folder."""
        return {
            "source": str(self.source),
            "layout": self.layout,
            "notes": list(self.notes),
            "counts": {"scans": len(self.scans), "subjects": self.subjects, "skipped": len(self.skipped)},
            "shape_ras": self.shapes and asdict(self.shapes),
            "spacing_mm_ras": self.spacings_mm and asdict(self.spacings_mm),
            "intensities": {name: spread and asdict(spread) for name, spread in self.intensities.items()},
            "dtypes": self.dtypes,
            "orientations": self.orientations,
            "modalities": self.modalities,
            "duplicates": [[self.shown(path) for path in group] for group in self.duplicates],
            "scans": [self._scan_as_dict(scan) for scan in self.scans],
            "skipped": [{"path": self.shown(scan.path), "reason": scan.reason} for scan in self.skipped],
        }

    def _scan_as_dict(self, scan: InspectedScan) -> dict[str, Any]:
        return {
            "path": self.shown(scan.record.path),
            "scan_id": scan.record.scan_id,
            "subject_id": scan.record.subject_id,
            "session_id": scan.record.session_id,
            "shape": list(scan.header.shape),
            "spacing_mm": [round(spacing, 6) for spacing in scan.header.spacing_mm],
            "orientation": scan.header.orientation,
            "dtype": scan.header.dtype,
            "modality": scan.modality,
            "intensities": asdict(scan.intensities),
            "voxel_hash": scan.voxel_hash,
        }


def _spread(rows: Sequence[Sequence[float]]) -> Spread | None:
    if not rows:
        return None
    values = np.array(rows, dtype=float)
    ranks = (values.min(axis=0), np.median(values, axis=0), values.max(axis=0))
    return Spread(*(rank.round(6).tolist() for rank in ranks))


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))
