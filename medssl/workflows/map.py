"""From a table of embeddings to a map of the scans."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl.errors import ScanError, UsageError
from medssl.evaluate.embedding_map import near_duplicates, outliers, probe, project
from medssl.findings import Interval
from medssl.progress import Progress
from medssl.report.embedding_map import Column, make_column, make_thumbnail, write_map
from medssl.scans.read import read_volume
from medssl.scans.table import read_scan_table

MOST_POINTS = 3000
"""Scans that are drawn: so many thumbnails make a file of some ten megabytes."""

FEWEST_SCANS = 4
NAMES = ("scan_id", "subject_id", "path")


@dataclass(frozen=True)
class Embeddings:
    """A table that `medssl.workflows.embed.embed` wrote.

    Attributes:
        scan_ids: Names of N scans.
        subject_ids: Whom they show.
        paths: Their files.
        vectors: ``(N, D)``.
    """

    scan_ids: tuple[str, ...]
    subject_ids: tuple[str, ...]
    paths: tuple[Path, ...]
    vectors: NDArray[np.float64]


def map_embeddings(
    table: Path, *, out: Path, labels: Path | None, has_thumbnails: bool, progress: Progress
) -> None:
    """Write a page that shows which scans are alike.

    Args:
        table: Embeddings, ``.csv`` or ``.npz``.
        out: The HTML file to write.
        labels: A table with a column ``image``, whose other columns colour the map; scans that it does not
            name are called "unknown".
        has_thumbnails: Whether to read the scans for a slice of each.
        progress: Who is told.

    Raises:
        UsageError: If a table cannot be read or holds too few scans.
    """
    embeddings = read_embeddings(table)
    cells = _label_cells(labels, embeddings.paths) if labels else {}
    drawn = _drawn(len(embeddings.scan_ids))
    notes = []
    if len(drawn) < len(embeddings.scan_ids):
        notes.append(f"{len(drawn)} of {len(embeddings.scan_ids)} scans are drawn, chosen at random.")
    columns = [
        column
        for name, values in {"subject": embeddings.subject_ids, **cells}.items()
        if (column := make_column(name, [values[index] for index in drawn]))
    ]
    vectors = embeddings.vectors
    names = embeddings.scan_ids
    write_map(
        out,
        title=f"Map of {table.name}",
        scan_ids=[names[index] for index in drawn],
        projections={each.name: each.points for each in project(vectors[drawn])},
        columns=columns,
        thumbnails=_thumbnails([embeddings.paths[index] for index in drawn], progress)
        if has_thumbnails
        else [None] * len(drawn),
        duplicates=[(names[one], names[other]) for one, other in near_duplicates(vectors)],
        outliers=[names[index] for index in outliers(vectors)],
        scores=_scores(embeddings, cells),
        notes=notes,
    )


def read_embeddings(table: Path) -> Embeddings:
    """Read a table of embeddings.

    Raises:
        UsageError: If it cannot be read, or holds fewer than four scans.
    """
    try:
        embeddings = _read_npz(table) if table.suffix == ".npz" else _read_csv(table)
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise UsageError(f"{table} cannot be read as a table that medssl embed wrote.") from error
    if len(embeddings.scan_ids) < FEWEST_SCANS:
        raise UsageError(f"{table} holds {len(embeddings.scan_ids)} scans; a map needs {FEWEST_SCANS}.")
    return embeddings


def _read_npz(table: Path) -> Embeddings:
    with np.load(table, allow_pickle=False) as arrays:
        scan_ids, subject_ids, paths = (tuple(arrays[name].tolist()) for name in NAMES)
        vectors = arrays["embeddings"].astype(np.float64)
    return Embeddings(scan_ids, subject_ids, tuple(map(Path, paths)), vectors)


def _read_csv(table: Path) -> Embeddings:
    with table.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        if tuple(next(reader)[: len(NAMES)]) != NAMES:
            raise ValueError("other columns")
        rows = list(reader)
    scan_ids, subject_ids, paths = (tuple(row[place] for row in rows) for place in range(len(NAMES)))
    vectors = np.array([row[len(NAMES) :] for row in rows], dtype=np.float64)
    return Embeddings(scan_ids, subject_ids, tuple(map(Path, paths)), vectors)


def _label_cells(labels: Path, paths: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    """Return the columns of a table for each scan."""
    rows, _ = read_scan_table(labels)
    known: Mapping[Path, Mapping[str, str]] = {row.path.absolute(): row.values for row in rows}
    missing = [path for path in paths if path.absolute() not in known]
    if len(missing) == len(paths):
        raise UsageError(f"{labels} names none of these scans, such as {paths[0]}.")
    columns = {name: None for row in rows for name in row.values}
    return {
        name: tuple(known.get(path.absolute(), {}).get(name) or "unknown" for path in paths)
        for name in columns
    }


def _drawn(count: int) -> list[int]:
    if count <= MOST_POINTS:
        return list(range(count))
    return sorted(np.random.default_rng(0).choice(count, MOST_POINTS, replace=False).tolist())


def _thumbnails(paths: Sequence[Path], progress: Progress) -> list[bytes | None]:
    thumbnails: list[bytes | None] = []
    with progress.track("Drawing scans", total=len(paths)) as advance:
        for path in paths:
            try:
                volume, affine = read_volume(path)
                thumbnails.append(make_thumbnail(volume, np.linalg.norm(affine[:3, :3], axis=0).tolist()))
            except ScanError:
                thumbnails.append(None)
            advance(detail=path.name)
    return thumbnails


def _scores(embeddings: Embeddings, cells: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Interval]]:
    scores = {}
    for name, values in cells.items():
        column: Column | None = make_column(name, values)
        if column and (scored := probe(embeddings.vectors, column.values, embeddings.subject_ids)):
            scores[name] = scored
    return scores
