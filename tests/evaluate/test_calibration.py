import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from medssl.evaluate.calibration import confidence_and_outcome, expected_calibration_error, reliability_table


def test_the_table_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    confidence = random.random(300)
    came_true = random.random(300) < confidence**2
    table = reliability_table(confidence, came_true)
    frequency, mean = calibration_curve(came_true, confidence, n_bins=15)
    assert [row.frequency for row in table] == pytest.approx(frequency)
    assert [row.confidence for row in table] == pytest.approx(mean)
    assert sum(row.count for row in table) == 300


def test_the_error_of_a_worked_example() -> None:
    confidence = np.array([0.05, 0.1, 0.85, 0.85, 1.0])
    came_true = np.array([False, True, True, False, True])
    table = reliability_table(confidence, came_true, bins=2)
    assert [(row.lower, row.upper, row.count) for row in table] == [(0, 0.5, 2), (0.5, 1, 3)]
    expected = 2 / 5 * (0.5 - 0.075) + 3 / 5 * (0.9 - 2 / 3)
    assert expected_calibration_error(confidence, came_true, bins=2) == pytest.approx(expected)


def test_honest_probabilities_have_a_small_error_and_boasts_a_large_one() -> None:
    random = np.random.default_rng(0)
    confidence = random.random(20_000)
    came_true = random.random(20_000) < confidence
    assert expected_calibration_error(confidence, came_true) < 0.02
    boasts = np.where(confidence > 0.5, 0.99, 0.01)
    assert expected_calibration_error(boasts, came_true) > 0.2


def test_two_classes_are_judged_by_the_second_and_more_by_the_likeliest() -> None:
    confidence, came_true = confidence_and_outcome(np.array([0, 1]), np.array([[0.7, 0.3], [0.2, 0.8]]))
    assert (confidence.tolist(), came_true.tolist()) == ([0.3, 0.8], [False, True])
    three = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    confidence, came_true = confidence_and_outcome(np.array([0, 1]), three)
    assert (confidence.tolist(), came_true.tolist()) == ([0.5, 0.6], [True, False])
