"""The figure of a study: curves of each arm, and below them the paired differences."""

from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from medssl.atomic import atomic_path
from medssl.findings import Arm, Interval, StudySummary
from medssl.report.curves import to_png

SIZE_INCHES = (7.7, 6.9)
REFERENCE_STYLE = {"color": "#000000", "marker": "o", "linestyle": "--"}
# Okabe & Ito's colours, which colour-blind readers can tell apart; markers and dashes do it in print.
ARM_STYLES: Sequence[dict[str, Any]] = (
    {"color": "#0072B2", "marker": "s", "linestyle": "-"},
    {"color": "#D55E00", "marker": "^", "linestyle": "-."},
    {"color": "#009E73", "marker": "D", "linestyle": ":"},
    {"color": "#CC79A7", "marker": "v", "linestyle": (0, (5, 1))},
    {"color": "#E69F00", "marker": "P", "linestyle": (0, (3, 1, 1, 1))},
    {"color": "#56B4E9", "marker": "X", "linestyle": (0, (1, 1))},
)
ARM_SPREAD = 0.07
"""How far apart, in doublings of labels, neighbouring arms stand, so that their intervals do not overlap."""

LEGEND_COLUMNS = 4


def draw_study(summary: StudySummary, path: Path) -> None:
    """Write the figure of a study as a PNG of about 1000 x 900 pixels."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(to_png(study_figure(summary)))


def study_figure(summary: StudySummary) -> Figure:
    """Draw the metric over the label budget, above the differences from the arm all are compared with.

    Means of seeds and cases are lines, 95 % intervals areas and bars, scores of single seeds dots.
    """
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    compared = [arm for arm in summary.arms if arm.differences]
    rows = 2 if compared else 1
    axes = figure.subplots(rows, sharex=True, height_ratios=(3, 2)[:rows], squeeze=False)[:, 0]
    styles = dict(_styles(summary))
    for arm, offset in _offsets(summary.arms):
        _draw_curve(axes[0], arm, offset, styles[arm.name])
    axes[0].set_ylabel(summary.metric_words)
    figure.legend(loc="outside upper center", ncols=LEGEND_COLUMNS, frameon=False)
    if compared:
        _draw_differences(axes[1], compared, styles, summary)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(axis="y", color="#e6e6e6")
    _label_budgets(axes[-1], summary)
    return figure


def _styles(summary: StudySummary) -> Iterator[tuple[str, dict[str, Any]]]:
    others = [arm.name for arm in summary.arms if arm.name != summary.against]
    yield summary.against, REFERENCE_STYLE
    yield from zip(others, cycle(ARM_STYLES), strict=False)


def _offsets(arms: Sequence[Arm]) -> Iterator[tuple[Arm, float]]:
    middle = (len(arms) - 1) / 2
    return ((arm, ARM_SPREAD * (index - middle)) for index, arm in enumerate(arms))


def _draw_curve(axes: Axes, arm: Arm, offset: float, style: dict[str, Any]) -> None:
    places = np.log2([point.label_budget for point in arm.points]) + offset
    scores = [point.score for point in arm.points]
    axes.plot(places, [score.estimate for score in scores], label=arm.name, markersize=5, **style)
    lower, upper = [score.lower for score in scores], [score.upper for score in scores]
    axes.fill_between(places, lower, upper, color=style["color"], alpha=0.13, linewidth=0)
    for place, point in zip(places, arm.points, strict=True):
        dots = np.full(len(point.seed_scores), place)
        axes.scatter(dots, point.seed_scores, s=7, color=style["color"], alpha=0.45, linewidths=0)


def _draw_differences(
    axes: Axes, arms: Sequence[Arm], styles: dict[str, dict[str, Any]], summary: StudySummary
) -> None:
    axes.axhline(0, color="#000000", linewidth=1, linestyle="--")
    for arm, offset in _offsets(arms):
        places = np.log2([difference.label_budget for difference in arm.differences]) + offset
        intervals = [difference.interval for difference in arm.differences]
        style = {**styles[arm.name], "linestyle": "none"}
        means = [interval.estimate for interval in intervals]
        axes.errorbar(places, means, _reaches(intervals), capsize=3, markersize=5, **style)
    better = "above 0: better" if summary.higher_is_better else "below 0: better"
    axes.set_ylabel(f"difference from {summary.against}\n({better})")


def _reaches(intervals: Sequence[Interval]) -> list[list[float]]:
    """Return how far intervals reach below and above their estimates, ``(2, B)``."""
    # A skewed sample can leave its own estimate outside of a percentile interval.
    return [
        [max(interval.estimate - interval.lower, 0) for interval in intervals],
        [max(interval.upper - interval.estimate, 0) for interval in intervals],
    ]


def _label_budgets(axes: Axes, summary: StudySummary) -> None:
    budgets = summary.budgets
    axes.xaxis.set_major_locator(FixedLocator(np.log2(budgets).tolist()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([summary.budget_words(budget) for budget in budgets])
    axes.set_xlabel("labelled scans")
