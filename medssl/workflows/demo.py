"""The main job on a sample cohort that needs no download."""

from collections.abc import Sequence
from pathlib import Path

from medssl.config.load import load_config
from medssl.progress import Progress
from medssl.scans.simulate import simulate_cohort
from medssl.workflows.pretrain import PretrainOutcome, pretrain

SPACING_MM = 3.0
"""Coarse enough that two cores prepare and pretrain in a few minutes, fine enough to recognise a brain."""


def run_demo(
    out: Path, *, count: int, epochs: int, progress: Progress, command: Sequence[str]
) -> PretrainOutcome:
    """Simulate heads below ``out/scans`` and pretrain on them in ``out/run``.

    Args:
        out: A folder that is made; scans and prepared scans go there as well.
        count: How many heads.
        epochs: How long to train.
        progress: Where to report to.
        command: What the user typed, for the record.

    Raises:
        UsageError: If nilearn, whose wheel carries the template, is not installed, or ``out`` holds a run.
    """
    scans = out / "scans"
    simulate_cohort(scans, count=count, size=None, spacing_mm=SPACING_MM, seed=0, progress=progress)
    config = load_config("demo", [f"training.epochs={epochs}"])
    return pretrain(
        scans, config=config, out=out / "run", store=out / "store", progress=progress, command=command
    )
