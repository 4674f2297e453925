"""The tables that a study writes while it runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medssl.evaluate.study_table import CELL_COLUMNS, KEY_COLUMNS
from medssl.findings import Cell
from medssl.scans.manifest import write_table
from medssl.workflows.cell import CellJob, read_result

STUDY_TABLE = "study.csv"
CELL_TABLE = "cells.csv"
TUNING_TABLE = "tuning.csv"
TUNING_COLUMNS = ("arm", "label_budget", "learning_rate", "score", "is_chosen")

Scores = Mapping[tuple[str, int], Mapping[float, float]]
"""Score of each learning rate, by arm and label budget."""


def write_tuning(path: Path, scores: Scores, rates: Mapping[tuple[str, int], float]) -> None:
    """Write how each learning rate did on the tuning cases, and which was chosen."""
    rows = [
        {
            "arm": arm,
            "label_budget": budget,
            "learning_rate": rate,
            "score": round(score, 5),
            "is_chosen": rates[arm, budget] == rate,
        }
        for (arm, budget), by_rate in scores.items()
        for rate, score in by_rate.items()
    ]
    write_table(path, TUNING_COLUMNS, rows)


def write_tables(out: Path, jobs: Sequence[CellJob]) -> None:
    """Write the rows of all models that are finished."""
    rows, cells = [], []
    for job in jobs:
        if not job.result.exists():
            continue
        result = read_result(job)
        cell = Cell(
            arm=job.arm,
            label_budget=job.label_budget,
            seed=job.seed,
            learning_rate=job.learning_rate,
            updates=result.updates,
            seconds=result.seconds,
            tuned_on="tuning cases",
        )
        key = {name: getattr(cell, name) for name in KEY_COLUMNS if hasattr(cell, name)}
        rows += [{**key, **row} for row in result.rows]
        cells.append(cell)
    columns = list(dict.fromkeys([*KEY_COLUMNS, *(name for row in rows for name in row)]))
    write_table(out / STUDY_TABLE, columns, rows)
    write_table(out / CELL_TABLE, CELL_COLUMNS, [vars(cell) for cell in cells])
