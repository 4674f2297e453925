"""A made-up run to report on."""

import csv
from pathlib import Path

import pytest

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
