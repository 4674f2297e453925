import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from medssl.evaluate.statistics import (
    DRAWS,
    Array,
    crossed_resamples,
    interval,
    seed_means,
    subject_resamples,
    weighted_auroc,
    weighted_means,
)
from medssl.findings import Interval


def mean_interval(values: Array) -> Interval:
    """Return the mean of a table of seeds by cases, each case a subject of its own."""
    resamples = crossed_resamples(len(values), [str(case) for case in range(values.shape[1])])
    return interval(seed_means(weighted_means(values, resamples.cases), resamples.seeds))


def simulated(random: np.random.Generator, seeds: int = 5, cases: int = 40) -> Array:
    """Return a table whose true mean is 0, with effects of seeds, of cases and of both together."""
    return (
        random.normal(0, 0.3, (seeds, 1))
        + random.normal(0, 0.7, (1, cases))
        + random.normal(0, 1, (seeds, cases))
    )


def test_nominal_95_percent_intervals_hold_the_truth_about_that_often() -> None:
    random = np.random.default_rng(0)
    intervals = [mean_interval(simulated(random)) for _ in range(200)]
    coverage = np.mean([one.lower <= 0 <= one.upper for one in intervals])
    assert 0.88 <= coverage <= 0.99


@pytest.mark.parametrize(("seed_spread", "case_spread"), [(1.0, 0.0), (0.0, 1.0)])
def test_seeds_and_cases_each_widen_the_interval(seed_spread: float, case_spread: float) -> None:
    random = np.random.default_rng(0)
    values = seed_spread * random.normal(size=(6, 1)) + case_spread * random.normal(size=(1, 6))
    one = mean_interval(values)
    standard_error = (
        values.std(ddof=1) / np.sqrt(6) if case_spread == 0 else values[0].std(ddof=1) / np.sqrt(6)
    )
    half_width = (one.upper - one.lower) / 2
    assert half_width == pytest.approx(1.96 * standard_error, rel=0.35)


@given(st.floats(-5, 5), st.integers(1, 4), st.integers(2, 20))
def test_adding_a_constant_moves_the_interval_by_it(shift: float, seeds: int, cases: int) -> None:
    values = simulated(np.random.default_rng(cases), seeds, cases)
    before, after = mean_interval(values), mean_interval(values + shift)
    assert after.estimate == pytest.approx(values.mean() + shift)
    assert after.lower == pytest.approx(before.lower + shift)
    assert after.upper == pytest.approx(before.upper + shift)


def test_a_single_seed_leaves_the_spread_of_cases_alone() -> None:
    values = np.random.default_rng(0).normal(size=(1, 50))
    one = mean_interval(values)
    assert one.upper - one.lower == pytest.approx(2 * 1.96 * values.std() / np.sqrt(49), rel=0.1)
    assert np.ptp(crossed_resamples(1, ["a", "b"]).seeds) == 0


def test_cases_of_a_subject_are_drawn_together() -> None:
    weights = subject_resamples(["b", "a", "b", "c"])
    assert weights.shape == (1 + DRAWS, 4)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 0] != weights[:, 1]).any()
    assert (weights[0] == 1).all()
    assert (weights[1:, [0, 1, 3]].sum(axis=1) == 2).all()


def test_seeds_and_subjects_are_drawn_independently() -> None:
    resamples = crossed_resamples(4, list("abcd"))
    assert abs(np.corrcoef(resamples.seeds[1:, 0], resamples.cases[1:, 0])[0, 1]) < 0.1


def test_weighted_auroc_agrees_with_scikit_learn_also_on_ties() -> None:
    random = np.random.default_rng(0)
    truth, scores = random.random(40) < 0.4, np.round(random.random(40), 1)
    weights = random.integers(0, 4, (20, 40)).astype(float)
    expected = [roc_auc_score(truth, scores, sample_weight=row) for row in weights]
    assert weighted_auroc(truth, scores, weights) == pytest.approx(expected)


def test_auroc_without_positive_cases_is_undefined() -> None:
    weights = np.array([[1.0, 1.0], [0.0, 2.0]])
    areas = weighted_auroc(np.array([True, False]), np.array([0.8, 0.3]), weights)
    assert areas[0] == 1
    assert np.isnan(areas[1])


def test_undefined_draws_do_not_count() -> None:
    assert interval(np.array([0.5, np.nan, 0.4, 0.6])) == Interval(0.5, 0.4, 0.6)
    assert np.isnan(interval(np.array([np.nan, 0.4])).lower)
    assert np.isnan(interval(np.array([0.5, np.nan])).lower)


def test_a_higher_level_is_a_wider_interval() -> None:
    values = np.random.default_rng(0).normal(size=1 + DRAWS)
    usual, wide = interval(values), interval(values, level=0.99)
    assert wide.lower < usual.lower < usual.upper < wide.upper
    assert usual.upper == pytest.approx(1.96, abs=0.15)
