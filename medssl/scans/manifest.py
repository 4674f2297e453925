"""Tables of a run's scans: which were prepared, and which were skipped and why."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from medssl.atomic import atomic_path
from medssl.errors import UsageError
from medssl.scans.record import PreparedScan, SkippedScan

RECORD_COLUMNS = ("scan_id", "path", "subject_id", "session_id", "split", "time_point")
STORED_COLUMNS = ("shape", "spacing_mm", "foreground", "content_hash", "voxels_hash", "store_path")
SOURCE_COLUMNS = (
    "source_shape", "source_spacing_mm", "source_orientation", "source_dtype", "source_affine",
    "source_modality",
)  # fmt: skip
RECIPE_COLUMNS = ("modality", "lower", "upper")
MANIFEST_COLUMNS = (*RECORD_COLUMNS, *STORED_COLUMNS, *RECIPE_COLUMNS, *SOURCE_COLUMNS)
SKIPPED_COLUMNS = ("path", "reason")

_PREPARED = TypeAdapter(PreparedScan)


def write_manifest(path: Path, scans: Sequence[PreparedScan]) -> None:
    """Write a CSV with one row a prepared scan; sizes read "40 x 50 x 35", boxes "2:42 x 0:50 x 7:42"."""
    write_table(path, MANIFEST_COLUMNS, [_row(scan) for scan in scans])


def read_manifest(path: Path) -> list[PreparedScan]:
    """Read back what `write_manifest` wrote.

    Raises:
        UsageError: If the file is no such table.
    """
    try:
        return [_scan(row) for row in read_table(path)]
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(f"{path} is not a manifest of prepared scans: {error}.") from error


def write_skipped(path: Path, skipped: Sequence[SkippedScan]) -> None:
    """Write a CSV with the path and the reason of each scan that was left out."""
    write_table(path, SKIPPED_COLUMNS, [asdict(scan) for scan in skipped])


def read_skipped(path: Path) -> list[SkippedScan]:
    """Read back what `write_skipped` wrote."""
    return [SkippedScan(Path(row["path"]), row["reason"]) for row in read_table(path)]


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV, whole or not at all; file names that are not valid Unicode keep their bytes."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV that `write_table` wrote."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def _row(scan: PreparedScan) -> dict[str, Any]:
    source = {
        "source_shape": _by_axis(scan.source.shape),
        "source_spacing_mm": _by_axis(scan.source.spacing_mm),
        "source_orientation": scan.source.orientation,
        "source_dtype": scan.source.dtype,
        "source_affine": "; ".join(" ".join(map(str, row)) for row in scan.source.affine),
        "source_modality": scan.source.modality,
    }
    stored = {
        "shape": _by_axis(scan.shape),
        "spacing_mm": _by_axis(scan.spacing_mm),
        "foreground": _by_axis([f"{start}:{stop}" for start, stop in scan.foreground]),
        "content_hash": scan.content_hash,
        "voxels_hash": scan.voxels_hash,
        "store_path": scan.store_path,
    }
    record = {column: getattr(scan.record, column) for column in RECORD_COLUMNS}
    recipe = {column: getattr(scan.recipe, column) for column in RECIPE_COLUMNS}
    return record | stored | recipe | source


def _scan(row: dict[str, str]) -> PreparedScan:
    source = {
        "shape": row["source_shape"].split(" x "),
        "spacing_mm": row["source_spacing_mm"].split(" x "),
        "orientation": row["source_orientation"],
        "dtype": row["source_dtype"],
        "affine": [line.split() for line in row["source_affine"].split(";")],
        "modality": row.get("source_modality") or None,
    }
    return _PREPARED.validate_python(
        {
            "record": {column: row.get(column) or None for column in RECORD_COLUMNS},
            "content_hash": row["content_hash"],
            "voxels_hash": row["voxels_hash"],
            "store_path": row["store_path"],
            "shape": row["shape"].split(" x "),
            "spacing_mm": row["spacing_mm"].split(" x "),
            "recipe": {column: row[column] for column in RECIPE_COLUMNS},
            "source": source,
            "foreground": [bounds.split(":") for bounds in row["foreground"].split(" x ")],
        }
    )


def _by_axis(values: Sequence[object]) -> str:
    return " x ".join(map(str, values))
