"""One HTML file that shows a fine-tuned model: how it came about, how well it does, where it fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from medssl import __version__
from medssl.atomic import write_text
from medssl.report.curves import draw_curves, task_curves, to_png
from medssl.report.metrics import read_metrics
from medssl.report.templates import render
from medssl.report.verdict import Verdict
from medssl.scans.record import SkippedScan

RUN_CURVES = {
    "validation loss, by which the epoch is chosen": "val/loss",
    "learning rate": "learning_rate",
    "gradient norm": "train/gradient_norm",
    "share of the time spent waiting for data": "data_wait_share",
}


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes:
        caption: What it shows, and how to read it.
        columns: Their headings.
        rows: Cells, as many as there are columns.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: Of its file, without suffix.
        caption: What it shows.
        png: The image.
    """

    name: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Section:
    """What the test cases show about one question to the model.

    Attributes:
        heading: The question.
        scores: Metrics with intervals.
        others: Tables that may name cases.
        pictures: Of some of the cases, and of all of them together.
        notes: Sentences on how to read them.
    """

    heading: str
    scores: Table
    others: Sequence[Table]
    pictures: Sequence[Picture]
    notes: Sequence[str] = ()


def write_finetune_report(
    path: Path,
    *,
    title: str,
    verdicts: Sequence[Verdict],
    summary: Mapping[str, Any],
    sections: Sequence[Section],
    metrics_csvs: Mapping[str, Path],
    notes: Sequence[str],
    skipped: Sequence[SkippedScan],
) -> None:
    """Write the report of a fine-tuning run.

    Args:
        path: The HTML file.
        title: Its heading.
        verdicts: The first that a reader sees, see `medssl.report.finetune_verdict`.
        summary: What to tell in two columns below.
        sections: What the test cases show; none where there are none.
        metrics_csvs: Metrics of each training by its name, which may be empty where there is one.
        notes: Warnings of the run.
        skipped: Cases that were left out.
    """
    page = render(
        "finetune.html",
        title=title,
        version=__version__,
        verdicts=verdicts,
        summary=summary,
        sections=sections,
        trainings={name: _curves(metrics_csv) for name, metrics_csv in metrics_csvs.items()},
        notes=notes,
        skipped=skipped,
    )
    write_text(path, page)


def _curves(metrics_csv: Path) -> dict[str, bytes]:
    """Draw everything a training measured, by caption; crops in training, whole cases in validation."""
    metrics = read_metrics(metrics_csv)
    figures: dict[str, Figure] = {}
    for task in metrics.tasks():
        figures |= task_curves(metrics, task, None)
    for caption, column in RUN_CURVES.items():
        if (curve := metrics.curve(column)).values:
            figures[caption] = draw_curves({"": curve})
    return {caption: to_png(figure) for caption, figure in figures.items()}
