"""Embeddings as a picture to explore: one HTML file without scripts, other files or network."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray
from scipy.ndimage import zoom

from medssl import __version__
from medssl.atomic import write_text
from medssl.findings import Interval
from medssl.report.overlay import CLASS_COLOURS
from medssl.report.templates import render

THUMBNAIL_PIXELS = 64
THUMBNAIL_SHOWN = 160
MOST_CLASSES = 12
"""Distinct values up to which a column is shown as classes; a column of more numbers is shown by quarters."""

SIZE = 640
MARGIN = 12


@dataclass(frozen=True)
class Column:
    """How a column colours the map.

    Attributes:
        name: Of the column.
        values: What each scan counts as.
        colours: Of each of these.
    """

    name: str
    values: tuple[str, ...]
    colours: Mapping[str, str]


def make_column(name: str, cells: Sequence[str]) -> Column | None:
    """Return how a column colours the map; None where it has neither few values nor numbers, or one value."""
    distinct = sorted(set(cells))
    if len(distinct) > MOST_CLASSES:
        cells = _quarters(cells)
        distinct = sorted(set(cells))
    if not 2 <= len(distinct) <= MOST_CLASSES:
        return None
    return Column(name, tuple(cells), dict(zip(distinct, cycle(CLASS_COLOURS), strict=False)))


def make_thumbnail(volume: NDArray[np.floating], spacing_mm: Sequence[float]) -> bytes:
    """Return the middle axial slice of a RAS volume as PNG: anterior on top, the right side on the left."""
    image = volume[::-1, ::-1, volume.shape[2] // 2].T.astype(np.float32)
    factors = np.array([spacing_mm[1], spacing_mm[0]]) / min(spacing_mm[:2])
    factors *= THUMBNAIL_PIXELS / (np.array(image.shape) * factors).max()
    content = io.BytesIO()
    lower, upper = np.percentile(image, (0.5, 99.5))
    imsave(content, zoom(image, factors, order=1), cmap="gray", vmin=lower, vmax=max(upper, lower + 1e-6))
    return content.getvalue()


def write_map(
    path: Path,
    *,
    title: str,
    scan_ids: Sequence[str],
    projections: Mapping[str, NDArray[np.floating]],
    columns: Sequence[Column],
    thumbnails: Sequence[bytes | None],
    duplicates: Sequence[tuple[str, str]],
    outliers: Sequence[str],
    scores: Mapping[str, Mapping[str, Interval]],
    notes: Sequence[str],
) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        title: Its heading.
        scan_ids: N names of scans.
        projections: ``(N, 2)`` in [0, 1] by the name of the method.
        columns: What the points can be coloured by.
        thumbnails: PNG of each scan, or None.
        duplicates: Pairs of scans that are nearly the same.
        outliers: Scans that are far from all others.
        scores: By column, how well its classes can be told by each method.
        notes: Sentences the reader should know.
    """
    page = render(
        "embedding_map.html",
        title=title,
        version=__version__,
        size=SIZE,
        thumbnail=THUMBNAIL_SHOWN,
        projections=[(name, _to_pixels(points)) for name, points in projections.items()],
        scans=_scans(scan_ids, columns, thumbnails),
        columns=[(column.name, list(column.colours.items())) for column in columns],
        duplicates=duplicates,
        outliers=outliers,
        scores=scores,
        notes=notes,
    )
    write_text(path, page)


def _scans(
    scan_ids: Sequence[str], columns: Sequence[Column], thumbnails: Sequence[bytes | None]
) -> list[dict[str, Any]]:
    order = [list(column.colours) for column in columns]
    return [
        {
            "number": index,
            "id": scan_id,
            "thumbnail": thumbnail,
            "values": [(column.name, column.values[index]) for column in columns],
            "marks": " ".join(
                f"c{number}v{order[number].index(column.values[index])}"
                for number, column in enumerate(columns)
            ),
        }
        for index, (scan_id, thumbnail) in enumerate(zip(scan_ids, thumbnails, strict=True))
    ]


def _to_pixels(points: NDArray[np.floating]) -> list[tuple[float, float]]:
    reach = SIZE - 2 * MARGIN
    return [(round(MARGIN + x * reach, 1), round(MARGIN + (1 - y) * reach, 1)) for x, y in points.tolist()]


def _quarters(cells: Sequence[str]) -> list[str]:
    """Return which quarter of the numbers each cell lies in; unchanged where one is no number."""
    try:
        numbers = np.array([float(cell) for cell in cells])
    except ValueError:
        return list(cells)
    edges = np.percentile(numbers, (0, 25, 50, 75, 100))
    quarter = np.clip(np.searchsorted(edges[1:-1], numbers, side="right"), 0, 3)
    return [f"{number + 1}: {edges[number]:.4g} to {edges[number + 1]:.4g}" for number in quarter]
