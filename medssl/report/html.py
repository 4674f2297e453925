"""One HTML file that shows what a run did: no scripts, no other files, no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from medssl import __version__
from medssl.atomic import write_text
from medssl.pretext.task import CueReport
from medssl.report.curves import run_curves, task_curves, to_png
from medssl.report.metrics import Metrics, read_metrics
from medssl.report.templates import render
from medssl.report.verdict import judge
from medssl.scans.record import SkippedScan


def write_report(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, Any],
    metrics_csv: Path,
    cues: Mapping[str, CueReport],
    figures: Mapping[str, bytes],
    skipped: Sequence[SkippedScan],
    notes: Sequence[str],
) -> None:
    """Write a run's report.

    Args:
        path: The HTML file.
        title: Its heading.
        summary: What to tell in two columns under the heading.
        metrics_csv: The run's metrics; columns that are missing are left out of the report.
        cues: Trivial-cue report of each task by name.
        figures: PNG images by caption; a caption that starts with a task's name stands with that task.
        skipped: Scans that were left out.
        notes: Sentences the reader should know, such as warnings of the run.
    """
    metrics = read_metrics(metrics_csv)
    names = list(dict.fromkeys([*cues, *metrics.tasks()]))
    page = render(
        "report.html",
        title=title,
        version=__version__,
        summary=summary,
        tasks=[_task_section(name, metrics, cues.get(name), figures) for name in names],
        pictures={caption: png for caption, png in figures.items() if not caption.startswith(tuple(names))},
        curves=_as_png(run_curves(metrics)),
        skipped=skipped,
        notes=notes,
    )
    write_text(path, page)


def _task_section(
    name: str, metrics: Metrics, cue: CueReport | None, figures: Mapping[str, bytes]
) -> dict[str, Any]:
    value = metrics.curve(f"val/{name}/{cue.metric}").last if cue else None
    return {
        "name": name,
        "verdict": judge(name, cue, value) if cue else None,
        "cue": cue,
        "curves": _as_png(task_curves(metrics, name, cue)),
        "pictures": {caption: png for caption, png in figures.items() if caption.startswith(name)},
    }


def _as_png(figures: Mapping[str, Figure]) -> dict[str, bytes]:
    return {caption: to_png(figure) for caption, figure in figures.items()}
