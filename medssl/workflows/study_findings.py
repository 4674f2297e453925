"""What a study found, from its tables to the figure and the report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medssl.evaluate.study import summarise
from medssl.evaluate.study_table import read_cells, read_study
from medssl.findings import StudySummary
from medssl.report.study import headings, score_rows, write_study_report
from medssl.report.study_figure import draw_study
from medssl.report.study_verdict import judge_study
from medssl.workflows.study_plan import StudyPlan
from medssl.workflows.study_tables import CELL_TABLE, STUDY_TABLE, Scores

FIGURE = "study.png"


@dataclass(frozen=True)
class StudyOutcome:
    """What a study found.

    Attributes:
        report: The HTML file.
        table: The scores of all arms as text, a row of headings first.
        sentences: Its findings.
    """

    report: Path
    table: list[tuple[str, ...]]
    sentences: list[str]


def write_findings(plan: StudyPlan, scores: Scores, rates: Mapping[tuple[str, int], float]) -> StudyOutcome:
    """Draw the figure and write the report of what `study.csv` holds."""
    out = plan.folder
    summaries = _summaries(plan)
    draw_study(summaries[0], out / FIGURE)
    report = out / "report.html"
    write_study_report(
        report,
        summaries[0],
        read_cells(out / CELL_TABLE),
        _caveats(plan, scores, rates),
        title=f"What pretraining is worth: {out.name}",
        others=summaries[1:],
    )
    return StudyOutcome(
        report,
        table=[headings(summaries[0]), *score_rows(summaries[0])],
        sentences=[verdict.sentence for verdict in judge_study(summaries[0])],
    )


def _summaries(plan: StudyPlan) -> list[StudySummary]:
    """Return the metrics of a study, the one it was planned for first."""
    table, n_pool = plan.folder / STUDY_TABLE, len(plan.pool)
    if not plan.labelled.targets:
        rows = read_study(table, all_labels=n_pool)
        return [summarise(rows, metric=metric) for metric in ("dice", "nsd_2mm", "hd95_mm")]
    return [
        summarise(read_study(table, all_labels=n_pool, target=target.name), metric="auroc")
        for target in plan.labelled.targets
    ]


def _caveats(plan: StudyPlan, scores: Scores, rates: Mapping[tuple[str, int], float]) -> list[str]:
    section = plan.config.study
    updates = plan.config.training.epochs * plan.config.training.steps_per_epoch
    sentences = [
        f"Every model was trained for {updates} updates, however many labels it had, and its last state "
        "was kept; nothing was chosen by the test cases.",
        _tuning_words(plan),
    ]
    tried = sorted(section.learning_rates)
    at_end = [
        f"{arm} at {budget} labels" for (arm, budget), rate in rates.items() if rate in (tried[0], tried[-1])
    ]
    if len(tried) > 1 and at_end:
        sentences.append(
            f"The best learning rate lies at the end of the range tried for {', '.join(at_end)}: a wider "
            "range might do better there."
        )
    return sentences


def _tuning_words(plan: StudyPlan) -> str:
    rates = plan.config.study.learning_rates
    if len(rates) == 1:
        return f"The learning rate was {rates[0]:g} for all arms; another may suit one of them better."
    return (
        f"Learning rates were chosen for each arm on {len(plan.tuning)} labelled cases that no arm learned "
        "from: more labels than the smallest budgets have, for all arms alike."
    )
