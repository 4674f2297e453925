"""A made-up run and a made-up study to report on."""

import csv
import math
from pathlib import Path

import pytest

from medssl.findings import Arm, Difference, Interval, LabelsToMatch, Point, StudySummary
from medssl.pretext.task import CueReport

ROWS = [
    {"epoch": 1, "step": 10, "learning_rate": 1e-3, "train/gradient_norm": 1.5, "train/loss": 3.0,
     "val/loss": "", "train/rotation/loss": 3.0, "train/rotation/accuracy": 0.1, "val/rotation/accuracy": "",
     "val/inpainting/loss": 0.2, "val/inpainting/mae": 0.10, "val/inpainting/ssim": 0.4,
     "embeddings/effective_rank": 7.5},
    {"epoch": 2, "step": 20, "learning_rate": 5e-4, "train/gradient_norm": 1.2, "train/loss": 2.0,
     "val/loss": 2.5, "train/rotation/loss": 2.0, "train/rotation/accuracy": 0.5,
     "val/rotation/accuracy": 0.61,
     "val/inpainting/loss": 0.1, "val/inpainting/mae": 0.05, "val/inpainting/ssim": 0.6,
     "embeddings/effective_rank": "nan"},
]  # fmt: skip


@pytest.fixture(scope="module")
def metrics_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "metrics.csv"
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(ROWS[0]))
        table.writeheader()
        table.writerows(ROWS)
    return path


@pytest.fixture(scope="module")
def cues() -> dict[str, CueReport]:
    return {
        "rotation": CueReport("accuracy", 1 / 24, 0.17, higher_is_better=True, cues="block means"),
        "inpainting": CueReport("mae", 0.12, 0.06, higher_is_better=False, cues="interpolation"),
    }


@pytest.fixture(scope="module")
def study() -> StudySummary:
    """A gain with few labels, none with more, a loss with all of them."""
    scores = {2: (0.70, 0.75), 8: (0.80, 0.81), 180: (0.90, 0.88)}
    differences = {2: (0.03, 0.07), 8: (-0.01, 0.03), 180: (-0.03, -0.01)}
    matches = {2: (5.0, 4.0, 7.0), 8: (9.0, 7.0, math.inf), 180: (120.0, 0.0, math.inf)}
    return StudySummary(
        metric="dice",
        against="scratch",
        arms=(
            Arm("scratch", tuple(_point(budget, pair[0]) for budget, pair in scores.items())),
            Arm(
                "pretrained",
                tuple(_point(budget, pair[1]) for budget, pair in scores.items()),
                tuple(_difference(budget, *ends) for budget, ends in differences.items()),
                tuple(LabelsToMatch(budget, Interval(*ends), 2, 180) for budget, ends in matches.items()),
            ),
        ),
        all_labels=180,
    )


def _point(budget: int, score: float) -> Point:
    share = Interval(score / 0.9, score / 0.9 - 0.01, score / 0.9 + 0.01)
    seeds = (score - 0.01, score, score + 0.01)
    return Point(budget, Interval(score, score - 0.02, score + 0.02), seeds, 60, 58, share)


def _difference(budget: int, lower: float, upper: float) -> Difference:
    estimate = (lower + upper) / 2
    corrected = Interval(estimate, lower - 0.015, upper + 0.015)
    return Difference(budget, Interval(estimate, lower, upper), corrected, 3, 60, 58)
