"""From a table of embeddings to a map of the scans."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medssl.errors import ScanError, UsageError
from medssl.evaluate.embedding_map import near_duplicates, outliers, probe, project
from medssl.evaluate.embedding_table import Embeddings, read_embeddings
from medssl.findings import Interval
from medssl.progress import Progress
from medssl.report.embedding_map import Column, make_column, make_thumbnail, write_map
from medssl.scans.read import read_volume
from medssl.scans.table import read_scan_table

MOST_POINTS = 3000
"""Scans that are drawn: so many thumbnails make a file of some ten megabytes."""

FEWEST_SCANS = 4


def map_embeddings(
    table: Path, *, out: Path, labels: Path | None, has_thumbnails: bool, progress: Progress
) -> None:
    """Write a page that shows which scans are alike.

    Args:
        table: Embeddings, ``.csv``, ``.npz`` or ``.parquet``.
        out: The HTML file to write.
        labels: A table with a column ``image``, whose other columns colour the map; scans that it does not
            name are called "unknown".
        has_thumbnails: Whether to read the scans for a slice of each.
        progress: Who is told.

    Raises:
        UsageError: If a table cannot be read or holds too few scans.
    """
    embeddings = read_embeddings(table)
    if len(embeddings.scan_ids) < FEWEST_SCANS:
        raise UsageError(f"{table} holds {len(embeddings.scan_ids)} scans; a map needs {FEWEST_SCANS}.")
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


def _label_cells(labels: Path, paths: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the columns of a table for each scan."""
    rows, _ = read_scan_table(labels)
    known: Mapping[Path, Mapping[str, str]] = {row.path.absolute(): row.values for row in rows}
    of_scans = [known.get(Path(path).absolute(), {}) for path in paths]
    if not any(of_scans):
        raise UsageError(f"{labels} names none of these scans, such as {paths[0]}.")
    columns = {name: None for row in rows for name in row.values}
    return {name: tuple(values.get(name) or "unknown" for values in of_scans) for name in columns}


def _drawn(count: int) -> list[int]:
    if count <= MOST_POINTS:
        return list(range(count))
    return sorted(np.random.default_rng(0).choice(count, MOST_POINTS, replace=False).tolist())


def _thumbnails(paths: Sequence[str], progress: Progress) -> list[bytes | None]:
    thumbnails: list[bytes | None] = []
    with progress.track("Drawing scans", total=len(paths)) as advance:
        for path in paths:
            try:
                volume, affine = read_volume(Path(path))
                thumbnails.append(make_thumbnail(volume, np.linalg.norm(affine[:3, :3], axis=0).tolist()))
            except ScanError:
                thumbnails.append(None)
            advance(detail=Path(path).name)
    return thumbnails


def _scores(embeddings: Embeddings, cells: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Interval]]:
    scores = {}
    for name, values in cells.items():
        column: Column | None = make_column(name, values)
        if column and (scored := probe(embeddings.vectors, column.values, embeddings.subject_ids)):
            scores[name] = scored
    return scores
