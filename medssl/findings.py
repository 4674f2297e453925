"""What a study found.

`evaluate` computes these values and `report` shows them; neither knows the other, so their words stand here.
"""

import math
from dataclasses import dataclass

METRIC_WORDS = {"dice": "Dice", "nsd_2mm": "NSD at 2 mm", "hd95_mm": "HD95 in mm", "auroc": "AUROC"}


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval; all three are NaN where it is not defined.

    Attributes:
        estimate: The value of the sample itself.
        lower: Lower end.
        upper: Upper end.
    """

    estimate: float
    lower: float
    upper: float

    def show(self, decimals: int = 3, *, signed: bool = False) -> str:
        """Return the interval as people write it: ``0.861 [0.850, 0.870]``."""
        sign = "+" if signed else ""
        return f"{self.estimate:{sign}.{decimals}f} [{self.lower:.{decimals}f}, {self.upper:.{decimals}f}]"


@dataclass(frozen=True)
class Cell:
    """What the training of one model of a study took: one row of cells.csv.

    Attributes:
        arm: How the model was made, such as "pretrained" or "scratch".
        label_budget: Number of labelled scans it was trained on.
        seed: Which labelled subset, initial weights and order of batches.
        learning_rate: The rate it was trained with.
        updates: Optimiser steps.
        seconds: Wall time of the training.
        tuned_on: What the learning rate was chosen on.
    """

    arm: str
    label_budget: int
    seed: int
    learning_rate: float
    updates: int
    seconds: float
    tuned_on: str


@dataclass(frozen=True)
class Point:
    """One arm at one label budget.

    Attributes:
        label_budget: Number of labelled scans.
        score: The metric, averaged over seeds and test cases.
        seed_scores: The metric of each seed.
        n_cases: Test cases.
        n_subjects: Subjects whom they show.
        share_of_best: The score as a share of the best score that any arm reaches at the largest budget;
            None for metrics of which less is better.
    """

    label_budget: int
    score: Interval
    seed_scores: tuple[float, ...]
    n_cases: int
    n_subjects: int
    share_of_best: Interval | None = None


@dataclass(frozen=True)
class Difference:
    """An arm minus the arm it is compared with, at one label budget, paired by seed and case.

    Attributes:
        label_budget: Number of labelled scans of either arm.
        interval: The difference with its 95 % interval.
        corrected: The same with an interval that allows for all arms and budgets compared (Bonferroni).
        n_seeds: Seeds that both arms have.
        n_cases: Test cases that all of these have.
        n_subjects: Subjects whom they show.
    """

    label_budget: int
    interval: Interval
    corrected: Interval
    n_seeds: int
    n_cases: int
    n_subjects: int


@dataclass(frozen=True)
class LabelsToMatch:
    """How many labels the other arm needs for the score that an arm has at one budget.

    Attributes:
        label_budget: The arm's number of labelled scans.
        labels: How many match it; 0 below the smallest budget that was tried, infinite beyond the largest.
        smallest: The other arm's smallest budget.
        largest: Its largest.
    """

    label_budget: int
    labels: Interval
    smallest: int
    largest: int

    def show(self) -> str:
        """Return the number with its interval: ``13 [9, more than 180]``; one word where all three agree."""
        estimate, lower, upper = map(
            self._words, (self.labels.estimate, self.labels.lower, self.labels.upper)
        )
        return estimate if estimate == lower == upper else f"{estimate} [{lower}, {upper}]"

    def _words(self, labels: float) -> str:
        if math.isinf(labels):
            return f"more than {self.largest}"
        return f"{labels:.0f}" if labels > 0 else f"at most {self.smallest}"


@dataclass(frozen=True)
class Arm:
    """One way of making a model, over all label budgets.

    Attributes:
        name: Its name.
        points: One for each budget, ascending.
        differences: From the arm it is compared with, at the budgets that both have; none for that arm.
        matches: One for each point; none for the arm that others are compared with.
    """

    name: str
    points: tuple[Point, ...]
    differences: tuple[Difference, ...] = ()
    matches: tuple[LabelsToMatch, ...] = ()


@dataclass(frozen=True)
class StudySummary:
    """What a study found about one metric.

    Attributes:
        metric: Its column name.
        against: The arm that the others are compared with.
        arms: All arms, that one included.
        all_labels: The budget that stands for all labelled scans there are; None if there is none such.
    """

    metric: str
    against: str
    arms: tuple[Arm, ...]
    all_labels: int | None

    @property
    def budgets(self) -> tuple[int, ...]:
        """Every label budget, ascending."""
        return tuple(sorted({point.label_budget for arm in self.arms for point in arm.points}))

    @property
    def higher_is_better(self) -> bool:
        """Whether more of the metric is better; distances are the exception."""
        return is_higher_better(self.metric)

    @property
    def metric_words(self) -> str:
        """The metric as people call it."""
        return METRIC_WORDS.get(self.metric, self.metric.replace("_", " "))

    def budget_words(self, label_budget: int) -> str:
        """Return a budget as people read it: ``8``, or ``all (180)``."""
        return f"all ({label_budget})" if label_budget == self.all_labels else str(label_budget)


def is_higher_better(metric: str) -> bool:
    """Return whether more of a metric is better: all but the Hausdorff distance, whole or of one class."""
    return not metric.startswith("hd95_mm")


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions whose probability lies in one interval.

    Attributes:
        lower: Lower end of the interval, in [0, 1).
        upper: Upper end, in (0, 1].
        count: Number of predictions.
        confidence: Their mean probability.
        frequency: How often they came true, in [0, 1].
    """

    lower: float
    upper: float
    count: int
    confidence: float
    frequency: float
