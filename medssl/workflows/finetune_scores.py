"""The figures of the test cases, with intervals over their subjects, as tables to read."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medssl.evaluate.calibration import (
    confidence_and_outcome,
    expected_calibration_error,
    reliability_table,
)
from medssl.evaluate.classification import predicted_classes, score_classification
from medssl.evaluate.segmentation import METRICS
from medssl.evaluate.statistics import interval, subject_resamples, weighted_means
from medssl.findings import METRIC_WORDS, Interval
from medssl.finetune.targets import Target
from medssl.report.curves import to_png
from medssl.report.finetune import Picture, Section, Table
from medssl.report.finetune_verdict import MainScore
from medssl.report.reliability_figure import reliability_figure
from medssl.workflows.score import Row

WORST_SHOWN = 5
MEAN = "mean of the classes"
DECIMALS = {"hd95_mm": 1}

SPREAD = (
    "95 % intervals are from a bootstrap over test subjects. They do not tell how another draw of labelled "
    "cases or another seed would have turned out; medssl study does."
)
SCORE_WORDS = {
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "brier": "Brier score (less is better)",
}


def segmentation_section(rows: Sequence[Row], class_names: Sequence[str]) -> tuple[MainScore, Section]:
    """Return the mean Dice, and tables of all metrics a class and of the worst cases.

    Args:
        rows: From `medssl.workflows.score.score_cases`.
        class_names: Without the background.
    """
    subjects = [str(row["subject_id"]) for row in rows]
    suffixes = {**{name: f"_{name}" for name in class_names}, MEAN: ""}
    cells = {
        name: [_mean(rows, f"{metric}{suffix}", subjects) for metric in METRICS]
        for name, suffix in suffixes.items()
    }
    main = MainScore("", "dice", cells[MEAN][0], cases=len(rows), subjects=len(set(subjects)))
    scores = Table(
        f"Means over {len(rows)} test cases. {SPREAD} A class that is in neither map counts as right, "
        "one that is in one of them only as wrong, with the diagonal of the scan as HD95.",
        ("class", *(METRIC_WORDS[metric] for metric in METRICS)),
        tuple(
            (
                name,
                *(
                    _show(value, len(set(subjects)), DECIMALS.get(metric, 3))
                    for metric, value in zip(METRICS, values, strict=True)
                ),
            )
            for name, values in cells.items()
        ),
    )
    return main, Section("Test cases", scores, [_worst_cases(rows, class_names)], [])


def classification_section(
    rows: Sequence[Row], target: Target, *, number: int = 1
) -> tuple[MainScore, Section]:
    """Return the AUROC of a target, and tables and the reliability plot of its test cases.

    Args:
        rows: From `medssl.workflows.score.score_cases`, of this target alone.
        target: What is told apart.
        number: Of the target, for the names of files.
    """
    subjects = [str(row["subject_id"]) for row in rows]
    truth, probabilities = truth_and_probabilities(rows, target)
    scores = score_classification(truth, probabilities, subject_ids=subjects)
    confidence, outcome = confidence_and_outcome(truth, probabilities)
    error = expected_calibration_error(confidence, outcome)
    main = MainScore(target.name, "auroc", scores["auroc"], cases=len(rows), subjects=len(set(subjects)))
    table = Table(
        f"{len(rows)} test cases; {_meaning(target)}. {SPREAD}",
        ("metric", "value"),
        (
            *(
                (words, _show(scores[name], len(set(subjects))))
                for name, words in SCORE_WORDS.items()
                if name in scores
            ),
            ("expected calibration error (too large where cases are few)", f"{error:.3f}"),
        ),
    )
    plot = Picture(
        f"target_{number}_reliability",
        f"How often {_plotted(target)}, over how probable that was said to be",
        to_png(reliability_figure(reliability_table(confidence, outcome), calibration_error=error)),
    )
    return main, Section(target.name, table, [_confusion(truth, probabilities, target)], [plot])


def truth_and_probabilities(
    rows: Sequence[Row], target: Target
) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    """Return the class indices ``(N,)`` and the probability of each class ``(N, K)`` that rows hold."""
    if "probability" in rows[0]:
        positive = np.array([row["probability"] for row in rows], dtype=np.float64)
        return np.array([int(row["truth"]) for row in rows]), np.stack([1 - positive, positive], axis=1)
    truth = np.array([target.classes.index(str(row["truth"])) for row in rows])
    each = [[float(row[f"probability_{name}"]) for name in target.classes] for row in rows]
    return truth, np.array(each)


def by_dice(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of a segmentation, the worst first."""
    return sorted(rows, key=lambda row: row["dice"])


def with_pictures(section: Section, pictures: Sequence[Picture], notes: Sequence[str]) -> Section:
    """Return a section with more pictures and what to keep in mind about them."""
    return replace(section, pictures=[*section.pictures, *pictures], notes=[*section.notes, *notes])


def _mean(rows: Sequence[Row], column: str, subjects: Sequence[str]) -> Interval:
    values = np.array([[row[column] for row in rows]], dtype=np.float64)
    return interval(weighted_means(values, subject_resamples(subjects))[:, 0])


def _show(value: Interval, subjects: int, decimals: int = 3) -> str:
    if np.isnan(value.estimate):
        return "not defined"
    return value.show(decimals) if subjects > 1 else f"{value.estimate:.{decimals}f}"


def _worst_cases(rows: Sequence[Row], class_names: Sequence[str]) -> Table:
    worst = by_dice(rows)[:WORST_SHOWN]
    columns: Mapping[str, str] = {
        **{f"Dice of {name}": f"dice_{name}" for name in class_names},
        "mean Dice": "dice",
        "mean HD95 in mm": "hd95_mm",
    }
    cells = [
        [f"{float(row[column]):.{1 if 'hd95' in column else 3}f}" for column in columns.values()]
        for row in worst
    ]
    return Table(
        f"The {len(worst)} worst test cases: look at these first.",
        ("case", *columns),
        tuple((str(row["scan_id"]), *values) for row, values in zip(worst, cells, strict=True)),
    )


def _confusion(truth: NDArray[np.integer], probabilities: NDArray[np.float64], target: Target) -> Table:
    predicted = predicted_classes(probabilities)
    counts = np.zeros((len(target.classes),) * 2, dtype=int)
    np.add.at(counts, (truth, predicted), 1)
    return Table(
        "Cases by their true class (rows) and the predicted one (columns).",
        (target.name, *(f"predicted {name}" for name in target.classes)),
        tuple((name, *map(str, row)) for name, row in zip(target.classes, counts, strict=True)),
    )


def _meaning(target: Target) -> str:
    if len(target.classes) == 2:
        return f"{target.classes[1]} counts as positive from a probability of 0.5 on"
    return "the most probable class counts"


def _plotted(target: Target) -> str:
    if len(target.classes) == 2:
        return f"{target.name} is {target.classes[1]}"
    return "the most probable class is the true one"
