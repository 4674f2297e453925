from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from medssl.errors import UsageError
from medssl.evaluate.study import labels_to_match, summarise
from medssl.evaluate.study_table import read_study
from medssl.findings import Arm, Difference, StudySummary

WriteStudy = Callable[..., Path]


def arm_of(summary: StudySummary, name: str) -> Arm:
    return next(arm for arm in summary.arms if arm.name == name)


@pytest.fixture
def summary(write_study: WriteStudy) -> StudySummary:
    path = write_study({"scratch": 0.0, "pretrained": 0.03, "frozen": -0.03, "same": 0.0})
    return summarise(read_study(path, all_labels=32), metric="dice")


def test_curves_hold_the_means(write_study: WriteStudy) -> None:
    study = read_study(write_study({"scratch": 0.0}))
    points = summarise(study, metric="dice").arms[0].points
    assert [point.label_budget for point in points] == [2, 8, 32]
    for point in points:
        rows = [row for cases in study.rows["scratch", point.label_budget].values() for row in cases.values()]
        assert point.score.estimate == pytest.approx(np.mean([float(row["dice"]) for row in rows]))
        assert np.mean(point.seed_scores) == pytest.approx(point.score.estimate)
        assert (len(point.seed_scores), point.n_cases, point.n_subjects) == (5, 40, 20)
        assert point.score.lower < point.score.estimate < point.score.upper


def test_a_gain_a_loss_and_neither_are_told_apart(summary: StudySummary) -> None:
    for name, gain in {"pretrained": 0.03, "frozen": -0.03, "same": 0}.items():
        for difference in arm_of(summary, name).differences:
            assert difference.interval.lower <= gain <= difference.interval.upper
            assert (difference.interval.lower <= 0 <= difference.interval.upper) == (gain == 0)
            assert difference.corrected.lower <= difference.interval.lower
            assert difference.corrected.upper >= difference.interval.upper
    assert not arm_of(summary, "scratch").differences


def test_the_correction_counts_all_arms(write_study: WriteStudy) -> None:
    one, three = (
        summarise(read_study(write_study(arms)), metric="dice")
        for arms in ({"scratch": 0.0, "a": 0.0}, {"scratch": 0.0, "a": 0.0, "b": 0.0, "c": 0.0})
    )
    first, second = (widening(arm_of(summary, "a").differences[0]) for summary in (one, three))
    assert 1 < first < second


def widening(difference: Difference) -> float:
    """Return how much wider the corrected interval is."""
    corrected, plain = difference.corrected, difference.interval
    return (corrected.upper - corrected.lower) / (plain.upper - plain.lower)


def test_equal_arms_differ_by_exactly_nothing(write_study: WriteStudy) -> None:
    study = read_study(write_study({"scratch": 0.0, "twin": 0.0}, noise=0))
    for difference in arm_of(summarise(study, metric="dice"), "twin").differences:
        assert difference.interval.show() == "0.000 [0.000, 0.000]"
        assert difference.interval.lower == difference.interval.upper == 0


def test_only_seeds_and_cases_of_both_arms_count(write_study: WriteStudy) -> None:
    path = write_study({"scratch": 0.0, "pretrained": 0.03})
    lines = path.read_text().splitlines()
    kept = [
        line
        for line in lines
        if not line.startswith("scratch,2,4,") and not line.startswith("pretrained,2,1,scan-000,")
    ]
    path.write_text("\n".join(kept))
    summary = summarise(read_study(path), metric="dice")
    pretrained = arm_of(summary, "pretrained")
    first, second = pretrained.differences[:2]
    assert (first.n_seeds, first.n_cases, first.n_subjects) == (4, 39, 20)
    assert (second.n_seeds, second.n_cases) == (5, 40)
    assert (len(pretrained.points[0].seed_scores), pretrained.points[0].n_cases) == (5, 39)
    assert first.interval.estimate == pytest.approx(0.03, abs=0.005)


def test_labels_are_worth_what_the_other_curve_says(summary: StudySummary) -> None:
    # The curves rise by 0.03 with each doubling: a gain of 0.03 is worth twice the labels.
    matches = {match.label_budget: match for match in arm_of(summary, "pretrained").matches}
    assert matches[2].labels.estimate == pytest.approx(4, rel=0.15)
    assert matches[8].labels.lower < 16 < matches[8].labels.upper
    assert matches[32].show() == "more than 32"
    worse = arm_of(summary, "frozen").matches[0]
    assert worse.show() == "at most 2"


def test_shares_are_of_the_best_arm_with_all_labels(summary: StudySummary) -> None:
    best = arm_of(summary, "pretrained").points[-1].score.estimate
    for arm in summary.arms:
        for point in arm.points:
            assert point.share_of_best
            assert point.share_of_best.estimate == pytest.approx(point.score.estimate / best)


def test_less_is_better_for_distances(write_study: WriteStudy) -> None:
    study = read_study(write_study({"scratch": 0.0, "pretrained": 0.03}))
    summary = summarise(study, metric="hd95_mm")
    pretrained = arm_of(summary, "pretrained")
    assert all(difference.interval.upper < 0 for difference in pretrained.differences)
    assert pretrained.matches[0].labels.estimate == pytest.approx(4, rel=0.15)
    assert all(point.share_of_best is None for point in pretrained.points)


def test_one_seed_is_enough_for_a_summary(write_study: WriteStudy) -> None:
    study = read_study(write_study({"scratch": 0.0, "pretrained": 0.03}, seeds=1))
    difference = arm_of(summarise(study, metric="dice"), "pretrained").differences[0]
    assert difference.n_seeds == 1
    assert difference.interval.lower > 0


def probability_rows(classes: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    rows = []
    for arm, strength in {"scratch": 0.5, "pretrained": 2.0}.items():
        for seed in range(2):
            for case in range(60):
                truth = case % classes
                logits = random.normal(size=classes) + strength * np.eye(classes)[truth]
                shares = np.exp(logits) / np.exp(logits).sum()
                row = {"arm": arm, "label_budget": 20, "seed": seed, "scan_id": case, "subject_id": case // 2,
                       "target": "texture", "truth": truth}  # fmt: skip
                of_each = {f"probability_{index}": share for index, share in enumerate(shares)}
                rows.append(row | (of_each if classes > 2 else {"probability": shares[1]}))
    return rows


@pytest.mark.parametrize("classes", [2, 3])
def test_auroc_agrees_with_scikit_learn(write_table: Callable[..., Path], classes: int) -> None:
    rows = probability_rows(classes)
    summary = summarise(read_study(write_table(rows)), metric="auroc")
    columns = [name for name in rows[0] if name.startswith("probability")]
    for arm in summary.arms:
        for seed, area in enumerate(arm.points[0].seed_scores):
            chosen = [row for row in rows if (row["arm"], row["seed"]) == (arm.name, seed)]
            probabilities = np.array([[row[column] for column in columns] for row in chosen])
            truths = [row["truth"] for row in chosen]
            assert area == pytest.approx(roc_auc_score(truths, probabilities.squeeze(), multi_class="ovr"))
    assert arm_of(summary, "pretrained").differences[0].interval.lower > 0


def test_truths_must_be_0_or_1(write_table: Callable[..., Path]) -> None:
    rows = [row | {"truth": "solid"} for row in probability_rows(2)]
    with pytest.raises(UsageError, match="0 or 1"):
        summarise(read_study(write_table(rows)), metric="auroc")


def test_no_probabilities_no_auroc(write_study: WriteStudy) -> None:
    with pytest.raises(UsageError, match="no probabilities"):
        summarise(read_study(write_study({"scratch": 0.0})), metric="auroc")


def test_the_other_arm_must_exist(write_study: WriteStudy) -> None:
    with pytest.raises(UsageError, match=r"'scratch'; the study has pretrained"):
        summarise(read_study(write_study({"pretrained": 0.0})), metric="dice")


@given(st.floats(1.01, 127), st.floats(0.01, 0.1))
def test_labels_to_match_undoes_a_straight_curve(labels: float, rise: float) -> None:
    budgets = [1, 4, 16, 128]
    curve = rise * np.log2(budgets)[:, None]
    found = labels_to_match(np.array([rise * np.log2(labels)]), budgets, curve)
    assert found[0] == pytest.approx(labels)


def test_labels_to_match_takes_the_first_crossing_and_knows_the_ends() -> None:
    curve = np.array([0.5, 0.7, 0.6, 0.8])[:, None].repeat(4, axis=1)
    found = labels_to_match(np.array([0.4, 0.6, 0.8, 0.9]), [1, 4, 16, 64], curve)
    assert found.tolist() == pytest.approx([0, 2, 64, np.inf])
