"""Made-up studies."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WriteStudy = Callable[..., Path]


@pytest.fixture
def write_study(tmp_path: Path) -> WriteStudy:
    """Write a study.csv of segmentations whose true scores are known.

    Dice is 0.7 + 0.03 * log2(labels) plus the gain of the arm, plus what the seed, the case and chance add.
    """

    def write(
        gains: Mapping[str, float],
        *,
        budgets: Sequence[int | str] = (2, 8, 32),
        seeds: int = 5,
        cases: int = 40,
        noise: float = 0.01,
    ) -> Path:
        random = np.random.default_rng(0)
        of_case = random.normal(0, 0.03, cases)
        rows: list[dict[str, Any]] = []
        for budget in budgets:
            labels = 32 if budget == "all" else int(budget)
            for seed in range(seeds):
                of_seed = random.normal(0, 0.01)
                for arm, gain in gains.items():
                    dice = 0.7 + 0.03 * np.log2(labels) + gain + of_seed + of_case
                    dice = dice + random.normal(0, noise, cases) if noise else dice
                    rows += [_row(arm, budget, seed, case, value) for case, value in enumerate(dice)]
        return write_rows(tmp_path / "study.csv", rows)

    return write


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


@pytest.fixture
def write_table(tmp_path: Path) -> Callable[..., Path]:
    """Write rows to a CSV file."""
    return lambda rows, name="table.csv": write_rows(tmp_path / name, rows)


def _row(arm: str, budget: int | str, seed: int, case: int, dice: float) -> dict[str, Any]:
    return {
        "arm": arm,
        "label_budget": budget,
        "seed": seed,
        "scan_id": f"scan-{case:03}",
        "subject_id": f"subject-{case // 2:03}",
        "dice": f"{dice:.6f}",
        "hd95_mm": f"{10 * (1 - dice):.6f}",
    }
