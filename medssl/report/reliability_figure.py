"""The reliability plot: how often predictions come true, over how probable they were said to be."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from medssl.atomic import atomic_path
from medssl.findings import ReliabilityBin
from medssl.report.curves import to_png


def draw_reliability(bins: Sequence[ReliabilityBin], path: Path, *, calibration_error: float) -> None:
    """Write a reliability plot as a PNG; arguments as in `reliability_figure`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(to_png(reliability_figure(bins, calibration_error=calibration_error)))


def reliability_figure(bins: Sequence[ReliabilityBin], *, calibration_error: float) -> Figure:
    """Draw observed frequencies over predicted probabilities, and below them how many predictions there are.

    Args:
        bins: The bins that hold predictions; points on the dashed diagonal are perfectly calibrated.
        calibration_error: Expected calibration error in [0, 1], told in the heading.
    """
    figure = Figure(figsize=(4.4, 4.8), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    upper.plot([0, 1], [0, 1], color="#000000", linewidth=1, linestyle="--")
    upper.plot([row.confidence for row in bins], [row.frequency for row in bins], color="#0072B2", marker="o")
    upper.set_title(f"expected calibration error {calibration_error:.3f}", fontsize="medium")
    upper.set_ylabel("came true")
    upper.set_ylim(-0.02, 1.02)
    lefts, widths = [row.lower for row in bins], [row.upper - row.lower for row in bins]
    lower.bar(lefts, [row.count for row in bins], widths, align="edge", color="#9fbfd3", edgecolor="white")
    lower.set_ylabel("cases")
    lower.set_xlabel("predicted probability")
    lower.set_xlim(-0.02, 1.02)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
