"""Embeddings of scans as a table: ``.csv``, ``.npz`` or ``.parquet``."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl.atomic import atomic_path
from medssl.errors import UsageError

NAMES = ("scan_id", "subject_id", "path")


@dataclass(frozen=True)
class Embeddings:
    """One vector for each of N scans.

    Attributes:
        scan_ids: Names of the scans.
        subject_ids: Whom they show.
        paths: Their files.
        vectors: ``(N, D)``.
    """

    scan_ids: tuple[str, ...]
    subject_ids: tuple[str, ...]
    paths: tuple[str, ...]
    vectors: NDArray[np.floating]


def write_embeddings(table: Path, embeddings: Embeddings) -> None:
    """Write a table, whole or not at all.

    Args:
        table: ``.csv`` or ``.parquet``: columns ``scan_id``, ``subject_id``, ``path``, ``e0``, ``e1``, ...;
            ``.npz``: arrays of the first three names and ``embeddings`` ``(N, D)``.
        embeddings: What to write.

    Raises:
        UsageError: If it is to be a ``.parquet`` and pyarrow is not installed.
    """
    refuse_unwritable(table)
    table.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(table) as temporary:
        _FORMATS[table.suffix].write(temporary, embeddings)


def refuse_unwritable(table: Path) -> None:
    """Check that there is a writer for a table's name, before any work is done for it.

    Raises:
        UsageError: If there is not.
    """
    if table.suffix not in _FORMATS:
        raise UsageError(f"{table}: the table's name must end in {', '.join(_FORMATS)}.")
    if table.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UsageError("A .parquet needs the package pyarrow: pip install 'medssl[parquet]'.")


def read_embeddings(table: Path) -> Embeddings:
    """Read what `write_embeddings` wrote.

    Raises:
        UsageError: If it cannot be read.
    """
    try:
        return _FORMATS[table.suffix].read(table)
    except (EOFError, ImportError, OSError, ValueError, KeyError, StopIteration) as error:
        raise UsageError(f"{table} cannot be read as a table that medssl embed wrote.") from error


@dataclass(frozen=True)
class _Format:
    """How tables with one ending are written and read."""

    write: Callable[[Path, Embeddings], None]
    read: Callable[[Path], Embeddings]


def _write_npz(path: Path, embeddings: Embeddings) -> None:
    np.savez(
        path,
        scan_id=embeddings.scan_ids,
        subject_id=embeddings.subject_ids,
        path=embeddings.paths,
        embeddings=embeddings.vectors,
    )


def _read_npz(path: Path) -> Embeddings:
    with np.load(path, allow_pickle=False) as arrays:
        scan_ids, subject_ids, paths = (tuple(arrays[name].tolist()) for name in NAMES)
        return Embeddings(scan_ids, subject_ids, paths, arrays["embeddings"])


def _write_csv(path: Path, embeddings: Embeddings) -> None:
    names = zip(embeddings.scan_ids, embeddings.subject_ids, embeddings.paths, strict=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow([*NAMES, *(f"e{index}" for index in range(embeddings.vectors.shape[1]))])
        table.writerows([*name, *row] for name, row in zip(names, embeddings.vectors.tolist(), strict=True))


def _read_csv(path: Path) -> Embeddings:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        if tuple(next(reader)[: len(NAMES)]) != NAMES:
            raise ValueError("It has other columns.")
        rows = list(reader)
    scan_ids, subject_ids, paths = (tuple(row[place] for row in rows) for place in range(len(NAMES)))
    vectors = np.array([row[len(NAMES) :] for row in rows], dtype=np.float64)
    return Embeddings(scan_ids, subject_ids, paths, vectors)


def _write_parquet(path: Path, embeddings: Embeddings) -> None:
    import pyarrow
    import pyarrow.parquet

    names = (embeddings.scan_ids, embeddings.subject_ids, embeddings.paths)
    columns = {name: list(values) for name, values in zip(NAMES, names, strict=True)}
    numbers = {f"e{index}": column for index, column in enumerate(embeddings.vectors.T)}
    pyarrow.parquet.write_table(pyarrow.table({**columns, **numbers}), path)


def _read_parquet(path: Path) -> Embeddings:
    import pyarrow.parquet

    columns = pyarrow.parquet.read_table(path).to_pydict()
    scan_ids, subject_ids, paths = (tuple(columns.pop(name)) for name in NAMES)
    return Embeddings(scan_ids, subject_ids, paths, np.array(list(columns.values()), dtype=np.float64).T)


_FORMATS = {
    ".csv": _Format(_write_csv, _read_csv),
    ".npz": _Format(_write_npz, _read_npz),
    ".parquet": _Format(_write_parquet, _read_parquet),
}
