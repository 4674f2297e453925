"""The tables that a study writes, read back: study.csv has a row a test case, cells.csv a row a training."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl.errors import UsageError
from medssl.findings import Cell

KEY_COLUMNS = ("arm", "label_budget", "seed", "scan_id", "subject_id")
CELL_COLUMNS = tuple(field.name for field in fields(Cell))

Row = Mapping[str, str]
Cases = Mapping[int, Mapping[str, Row]]
"""Rows by seed and scan."""


@dataclass(frozen=True)
class Study:
    """Test results of many trainings.

    Attributes:
        rows: Rows of the table by arm and label budget, then seed, then scan; arms in the table's order.
        all_labels: The budget that stands for all labelled scans, if known.
    """

    rows: Mapping[tuple[str, int], Cases]
    all_labels: int | None

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms, in the table's order."""
        return tuple(dict.fromkeys(arm for arm, _ in self.rows))

    def budgets(self, arm: str) -> tuple[int, ...]:
        """Label budgets of an arm, ascending."""
        return tuple(sorted(budget for name, budget in self.rows if name == arm))


def read_study(path: Path, *, all_labels: int | None = None, target: str | None = None) -> Study:
    """Read a study.csv.

    Args:
        path: A table with the columns of `KEY_COLUMNS` and one for each metric. In classification, ``truth``
            is 1 or 0 beside the ``probability`` of the positive class, or the name of a class beside the
            columns ``probability_<class>``.
        all_labels: How many labelled scans there are: what a budget of "all" means, and which one to call so.
        target: Which target to read where the table holds several.

    Raises:
        UsageError: If the table cannot be read, lacks a column, holds a row twice or several targets, or has
            a budget "all" without ``all_labels``.
    """
    rows: dict[tuple[str, int], dict[int, dict[str, Row]]] = {}
    for row in _one_target(_read_rows(path, KEY_COLUMNS), path, target):
        key = (row["arm"], _label_budget(row["label_budget"], all_labels))
        cases = rows.setdefault(key, {}).setdefault(_whole(row["seed"], "seed"), {})
        if row["scan_id"] in cases:
            raise UsageError(
                f"{path} holds scan {row['scan_id']} twice for arm {key[0]}, {key[1]} labels, "
                f"seed {row['seed']}; remove one of the rows."
            )
        cases[row["scan_id"]] = row
    return Study(rows, all_labels)


def read_cells(path: Path) -> tuple[Cell, ...]:
    """Read a cells.csv, whose label budgets are numbers.

    Raises:
        UsageError: If the table cannot be read or lacks a column.
    """
    return tuple(
        Cell(
            arm=row["arm"],
            label_budget=_whole(row["label_budget"], "label_budget"),
            seed=_whole(row["seed"], "seed"),
            learning_rate=number(row, "learning_rate"),
            updates=_whole(row["updates"], "updates"),
            seconds=number(row, "seconds"),
            tuned_on=row["tuned_on"],
        )
        for row in _read_rows(path, CELL_COLUMNS)
    )


def shared(*arms: Cases) -> tuple[list[int], list[str]]:
    """Return the seeds that all arms have, and the scans that each of them was tested on in each arm."""
    seeds = sorted(set.intersection(*(set(cases) for cases in arms)))
    tested = [set(cases[seed]) for cases in arms for seed in seeds]
    return seeds, sorted(set.intersection(*tested)) if tested else []


def subjects_of(cases: Mapping[str, Row], scans: Sequence[str]) -> list[str]:
    """Return whom each scan shows; one without a subject is a subject of its own."""
    return [cases[scan]["subject_id"] or scan for scan in scans]


def metric_values(
    cases: Cases, seeds: Sequence[int], scans: Sequence[str], metric: str
) -> NDArray[np.float64]:
    """Return a column as seeds by scans, ``(S, N)``; a cell that is no number is a UsageError."""
    return np.array([[number(cases[seed][scan], metric) for scan in scans] for seed in seeds])


def number(row: Row, column: str) -> float:
    """Return a finite number of a row; anything else is a UsageError that names the row."""
    try:
        value = float(row[column])
    except (KeyError, TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        names = ", ".join(f"{name} {row[name]}" for name in KEY_COLUMNS if name in row)
        raise UsageError(f"Column '{column}' holds no number for {names}; run that part of the study again.")
    return value


def _read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            rows, header = list(table), table.fieldnames or []
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(
            f"{path} cannot be read as a table; give the folder a study was written to."
        ) from error
    missing = [column for column in columns if column not in header]
    if missing or not rows:
        lacks = f"the columns {', '.join(missing)}" if missing else "rows"
        raise UsageError(f"{path} lacks {lacks}; give a table that `medssl study` wrote.")
    return rows


def _one_target(rows: list[dict[str, str]], path: Path, target: str | None) -> list[dict[str, str]]:
    targets = sorted({row["target"] for row in rows if "target" in row})
    if target is None and len(targets) > 1:
        raise UsageError(f"{path} holds several targets; choose one of {', '.join(targets)}.")
    if target is not None and target not in targets:
        raise UsageError(f"{path} holds no target '{target}'; it has {', '.join(targets) or 'none'}.")
    return [row for row in rows if target is None or row["target"] == target]


def _label_budget(text: str, all_labels: int | None) -> int:
    if text != "all":
        return _whole(text, "label_budget")
    if all_labels is None:
        raise UsageError("A label budget is 'all'; say how many labelled scans that is.")
    return all_labels


def _whole(text: str, column: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(
            f"Column '{column}' holds '{text}', which is no whole number; correct it."
        ) from error
