"""How a fine-tuned model came about and how well it does, in plain sentences."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medssl.findings import METRIC_WORDS, Interval
from medssl.report.verdict import Verdict

FEW = 10
"""With fewer validation cases the choice of an epoch is rough, with fewer test subjects an interval is."""

GUESSING = 0.5
"""AUROC of answers that ignore the scan."""

MODES = {
    "full": "All of its layers were trained on.",
    "frozen": "It stayed as it was; only the layers behind it were trained.",
    "linear_probe": "It stayed as it was; only one linear layer behind it was trained.",
}


@dataclass(frozen=True)
class Selection:
    """Which weights of one training were kept.

    Attributes:
        train_cases: Labelled cases it learned from.
        val_cases: Held-out cases that the best epoch was chosen by, perhaps none.
        epoch: The epoch whose weights were kept, counted from 1.
        epochs: How many there were.
    """

    train_cases: int
    val_cases: int
    epoch: int
    epochs: int


@dataclass(frozen=True)
class MainScore:
    """The first figure to look at, of the test cases.

    Attributes:
        question: The target it answers; empty for segmentation.
        metric: "dice" or "auroc".
        interval: Its 95 % interval over test subjects.
        cases: Test cases.
        subjects: Whom they show.
    """

    question: str
    metric: str
    interval: Interval
    cases: int
    subjects: int


def tell_origin(goal: str, provenance: Mapping[str, Any], selections: Sequence[Selection]) -> list[str]:
    """Say what was trained, from which weights, and how it was decided which to keep.

    Args:
        goal: What the model does, such as "Segmentation of left and right".
        provenance: What lies beside its weights: ``pretraining`` (None from scratch), ``transfer``,
            ``loaded`` and ``unlabelled`` (None where no scan without labels took part).
        selections: One for each training.
    """
    cases = _range([selection.train_cases for selection in selections])
    trained = f"{goal}, learned from {cases} labelled {_plural(cases, 'case')}"
    if len(selections) > 1:
        trained += f" by each of {len(selections)} models, whose predictions are averaged"
    origin = f"{trained}. {_start(provenance)}"
    if unlabelled := provenance["unlabelled"]:
        method = unlabelled["method"].replace("_", " ")
        origin += f" {unlabelled['scans']} scans took part without their labels ({method})."
    return [origin, " ".join(_choice(selections))]


def judge_test(scores: Sequence[MainScore]) -> list[Verdict]:
    """Say how well the model does on subjects that had no part in its training, or that nobody knows."""
    if not scores:
        return [
            Verdict(
                "The data set sets no test cases aside, so nothing is known about how well this model does "
                "on new patients: figures of validation cases, by which it was chosen, are too good.",
                "doubtful",
            )
        ]
    return [_judge(score) for score in scores]


def _start(provenance: Mapping[str, Any]) -> str:
    pretraining = provenance["pretraining"]
    if pretraining is None:
        return "It was trained from scratch: no pretrained weights were used."
    scans = pretraining["data_fingerprint"]["scans"]
    loaded = " ".join(f"{part.capitalize()}: {summary}" for part, summary in provenance["loaded"].items())
    return (
        f"The encoder was pretrained on {scans} {_plural(str(scans), 'scan')} without labels "
        f"({', '.join(pretraining['tasks'])}; {pretraining['steps']} steps). "
        f"{MODES[provenance['transfer']['mode']]} {loaded}"
    )


def _choice(selections: Sequence[Selection]) -> Iterator[str]:
    epochs = selections[0].epochs
    val_cases = [selection.val_cases for selection in selections]
    kept = _and([str(selection.epoch) for selection in selections])
    if not any(val_cases):
        yield (
            f"No cases were held out to choose an epoch by, so the weights of the last of {epochs} were kept."
        )
        return
    counts = _range(val_cases)
    were = "was" if len(selections) == 1 else "were"
    yield (
        f"Of {epochs} {_plural(str(epochs), 'epoch')}, number {kept} {were} kept, the best on "
        f"{counts} validation {_plural(counts, 'case')}."
    )
    if min(val_cases) < FEW:
        yield "So few make this choice rough, and their figures say little about new patients."


def _judge(score: MainScore) -> Verdict:
    name = METRIC_WORDS[score.metric]
    name = f"{score.question}: {name}" if score.question else f"Mean {name}"
    among = f"on {score.cases} test {_plural(str(score.cases), 'case')} of {score.subjects} other subjects"
    if math.isnan(score.interval.estimate):
        return Verdict(f"{name} is not defined {among}, as these do not show every class.", "doubtful")
    if score.subjects == 1:
        return Verdict(
            f"{name} {score.interval.estimate:.3f} on {score.cases} test "
            f"{_plural(str(score.cases), 'case')} of one subject, which says nothing about others.",
            "doubtful",
        )
    sentence = f"{name} {score.interval.show()} {among} (95 % interval over subjects)"
    rough = " So few subjects make the interval rough." if score.subjects < FEW else ""
    if score.metric != "auroc":
        return Verdict(f"{sentence}.{rough}", "unknown")
    if score.interval.lower > GUESSING:
        return Verdict(f"{sentence}: better than guessing, which gives 0.5.{rough}", "good")
    if score.interval.upper < GUESSING:
        return Verdict(f"{sentence}: worse than guessing, which gives 0.5.{rough}", "poor")
    return Verdict(f"{sentence}: not shown to be better than guessing, which gives 0.5.{rough}", "doubtful")


def _range(numbers: Sequence[int]) -> str:
    return str(min(numbers)) if len(set(numbers)) == 1 else f"{min(numbers)} to {max(numbers)}"


def _plural(count: str, word: str) -> str:
    return word if count == "1" else f"{word}s"


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
