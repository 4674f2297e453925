import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from medssl.evaluate.classification import score_classification


def cases(classes: int, count: int = 120, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Return truths and probabilities that are better than chance, rounded so that some tie."""
    random = np.random.default_rng(seed)
    truth = random.permutation(np.arange(count) % classes)
    logits = random.normal(size=(count, classes)) + 1.2 * np.eye(classes)[truth]
    probabilities = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 2)
    return truth, probabilities / probabilities.sum(axis=1, keepdims=True)


def each_its_own(count: int) -> list[str]:
    return [f"subject-{index}" for index in range(count)]


def test_two_classes_agree_with_scikit_learn() -> None:
    truth, probabilities = cases(2)
    positive = probabilities[:, 1]
    scores = score_classification(truth, probabilities, subject_ids=each_its_own(120), threshold=0.4)
    estimates = {name: score.estimate for name, score in scores.items()}
    assert estimates == pytest.approx(
        {
            "auroc": metrics.roc_auc_score(truth, positive),
            "balanced_accuracy": metrics.balanced_accuracy_score(truth, positive >= 0.4),
            "brier": metrics.brier_score_loss(truth, positive),
            "sensitivity": metrics.recall_score(truth, positive >= 0.4),
            "specificity": metrics.recall_score(truth, positive >= 0.4, pos_label=0),
        }
    )


def test_several_classes_agree_with_scikit_learn() -> None:
    truth, probabilities = cases(4)
    scores = score_classification(truth, probabilities, subject_ids=each_its_own(120))
    estimates = {name: score.estimate for name, score in scores.items()}
    assert estimates == pytest.approx(
        {
            "auroc": metrics.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro"),
            "balanced_accuracy": metrics.balanced_accuracy_score(truth, probabilities.argmax(axis=1)),
            "brier": ((probabilities - np.eye(4)[truth]) ** 2).sum(axis=1).mean(),
        }
    )


def test_intervals_hold_the_estimate() -> None:
    truth, probabilities = cases(2)
    for score in score_classification(truth, probabilities, subject_ids=each_its_own(120)).values():
        assert score.lower < score.estimate < score.upper


def test_cases_of_one_subject_are_no_further_evidence() -> None:
    truth, probabilities = cases(2, count=60)
    once = score_classification(truth, probabilities, subject_ids=each_its_own(60))
    four_times = score_classification(
        np.tile(truth, 4), np.tile(probabilities, (4, 1)), subject_ids=each_its_own(60) * 4
    )
    for name, score in once.items():
        assert four_times[name].lower == pytest.approx(score.lower)
        assert four_times[name].upper == pytest.approx(score.upper)


def test_a_truth_of_one_class_leaves_undefined_what_needs_both() -> None:
    _, probabilities = cases(2, count=20)
    scores = score_classification(np.ones(20, int), probabilities, subject_ids=each_its_own(20))
    undefined = {name for name, score in scores.items() if np.isnan(score.estimate)}
    assert undefined == {"auroc", "balanced_accuracy", "specificity"}
