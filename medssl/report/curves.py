"""The curves of a run."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from medssl.pretext.task import CueReport
from medssl.report.metrics import PHASES, Curve, Metrics, is_share, measure_words

DOTS_PER_INCH = 130
PHASE_STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": "#7aa6c2", "linewidth": 1.2},
    "val": {"color": "#1f4e79", "linewidth": 1.8, "marker": ".", "markersize": 5},
}
REFERENCE_STYLES: dict[str, dict[str, Any]] = {
    "chance": {"color": "#333333", "linestyle": ":"},
    "trivial cues": {"color": "#c8102e", "linestyle": "--"},
}
RUN_CURVES = {
    "learning rate": "learning_rate",
    "gradient norm": "train/gradient_norm",
    "share of the time spent waiting for data": "data_wait_share",
    "effective rank of the embeddings": "embeddings/effective_rank",
    "spread of the embeddings": "embeddings/spread",
}


def task_curves(metrics: Metrics, task: str, cue: CueReport | None) -> dict[str, Figure]:
    """Draw every measure of a task by caption, the one that stands beside chance and trivial cues first."""
    key = cue.metric if cue else ""
    measures = sorted(metrics.measures(task), key=lambda measure: (measure != key, measure == "loss"))
    pictures = {}
    for measure in measures:
        is_key = cue is not None and measure == key
        pictures[f"{task}: {measure_words(measure)}"] = draw_curves(
            _phases(metrics, f"{task}/{measure}"),
            references={"chance": cue.chance, "trivial cues": cue.trivial} if cue and is_key else {},
            in_percent=is_share(measure),
        )
    return pictures


def run_curves(metrics: Metrics) -> dict[str, Figure]:
    """Draw what was measured of the run as a whole, by caption; what was not measured is left out."""
    curves = {"loss, all tasks": _phases(metrics, "loss")}
    curves |= {caption: {"": metrics.curve(column)} for caption, column in RUN_CURVES.items()}
    return {
        caption: draw_curves(phases)
        for caption, phases in curves.items()
        if any(curve.values for curve in phases.values())
    }


def draw_curves(
    curves: Mapping[str, Curve], *, references: Mapping[str, float] | None = None, in_percent: bool = False
) -> Figure:
    """Draw curves over epochs and horizontal lines to compare them with.

    Args:
        curves: By label: "train", "val" or, for a single curve, nothing.
        references: Heights of the lines by label: "chance" and "trivial cues".
        in_percent: Whether values are shares, drawn in per cent and from 0 up.
    """
    figure = Figure(figsize=(4.4, 2.6), layout="constrained")
    axes = figure.subplots()
    for label, curve in curves.items():
        axes.plot(curve.epochs, curve.values, label=label, **PHASE_STYLES.get(label, PHASE_STYLES["val"]))
    for label, height in (references or {}).items():
        axes.axhline(height, label=label, linewidth=1.2, **REFERENCE_STYLES[label])
    if in_percent:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")
    if len(curves) + len(references or {}) > 1:
        axes.legend(frameon=False, fontsize="small")
    return figure


def to_png(figure: Figure) -> bytes:
    """Return a figure as a PNG image."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def _phases(metrics: Metrics, measure: str) -> dict[str, Curve]:
    curves = {phase: metrics.curve(f"{phase}/{measure}") for phase in PHASES}
    return {phase: curve for phase, curve in curves.items() if curve.values}
