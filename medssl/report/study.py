"""One HTML file that says what a study found, for a reader who doubts it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from medssl import __version__
from medssl.atomic import write_text
from medssl.findings import Arm, Cell, Point, StudySummary
from medssl.report.curves import to_png
from medssl.report.study_figure import study_figure
from medssl.report.study_verdict import judge_study, percent
from medssl.report.templates import render


@dataclass(frozen=True)
class Cost:
    """What the trainings of one arm at one label budget took.

    Attributes:
        arm: The arm.
        label_budget: The budget, as people read it.
        trainings: How many there were.
        learning_rates: The rates they were trained with.
        tuned_on: What these were chosen on.
        updates: Mean optimiser steps of a training.
        minutes: Wall time of all trainings together.
    """

    arm: str
    label_budget: str
    trainings: int
    learning_rates: str
    tuned_on: str
    updates: str
    minutes: str


def write_study_report(
    path: Path,
    summary: StudySummary,
    cells: Sequence[Cell],
    caveats: Sequence[str],
    *,
    title: str = "What pretraining is worth",
    others: Sequence[StudySummary] = (),
    pictures: Mapping[str, bytes] | None = None,
) -> None:
    """Write the report of a study.

    Args:
        path: The HTML file.
        summary: The metric the study was planned for.
        cells: What each training took.
        caveats: Sentences the reader should know.
        title: Its heading.
        others: Further metrics, each shown below in the same way.
        pictures: Further PNG images by caption, such as reliability plots.
    """
    page = render(
        "study.html",
        title=title,
        version=__version__,
        caveats=caveats,
        sections=[_section(one) for one in (summary, *others)],
        costs=_costs(summary, cells),
        pictures=pictures or {},
    )
    write_text(path, page)


def _section(summary: StudySummary) -> dict[str, object]:
    return {
        "summary": summary,
        "verdicts": judge_study(summary),
        "figure": to_png(study_figure(summary)),
        "headings": headings(summary),
        "rows": score_rows(summary),
    }


def headings(summary: StudySummary) -> tuple[str, ...]:
    """Return what stands over the columns of `score_rows`.

    What labels are worth is left out where one budget tells nothing of it.
    """
    worth = (f"{summary.against} needs", "share of best") if len(summary.budgets) > 1 else ()
    first = ("labels", "arm", summary.metric_words, f"difference from {summary.against}")
    return (*first, *worth, "seeds", "cases")


def score_rows(summary: StudySummary) -> list[tuple[str, ...]]:
    """Return the scores of all arms, small budgets first, as text under `headings`."""
    return [
        _row(summary, arm, point)
        for budget in summary.budgets
        for arm in summary.arms
        for point in arm.points
        if point.label_budget == budget
    ]


def _row(summary: StudySummary, arm: Arm, point: Point) -> tuple[str, ...]:
    """Return the text of a row, in the order of the table's columns."""
    budget = point.label_budget
    difference = [one.interval.show(signed=True) for one in arm.differences if one.label_budget == budget]
    match = [one.show() for one in arm.matches if one.label_budget == budget]
    share = percent(point.share_of_best) if point.share_of_best else ""
    return (
        summary.budget_words(budget),
        arm.name,
        point.score.show(),
        *(difference or [""]),
        *((*(match or [""]), share) if len(summary.budgets) > 1 else ()),
        str(len(point.seed_scores)),
        str(point.n_cases),
    )


def _costs(summary: StudySummary, cells: Sequence[Cell]) -> list[Cost]:
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.arm, cell.label_budget), []).append(cell)
    return [
        Cost(
            arm=arm,
            label_budget=summary.budget_words(budget),
            trainings=len(group),
            learning_rates=", ".join(f"{rate:g}" for rate in sorted({cell.learning_rate for cell in group})),
            tuned_on=", ".join(sorted({cell.tuned_on for cell in group})),
            updates=f"{fmean(cell.updates for cell in group):.0f}",
            minutes=f"{sum(cell.seconds for cell in group) / 60:.1f}",
        )
        for (arm, budget), group in sorted(groups.items())
    ]
