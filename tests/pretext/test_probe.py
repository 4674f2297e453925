import numpy as np
import pytest

from medssl.pretext.probe import linear_probe


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_what_a_line_separates_is_found_whatever_its_scale(rng):
    x = rng.normal(size=(300, 3)) * [1e-6, 1, 1e6]
    y = (x[:, 0] > 0).astype(int)
    assert linear_probe(x[:200], y[:200], x[200:], y[200:]) > 0.95


def test_noise_tells_nothing(rng):
    x, y = rng.normal(size=(900, 5)), rng.integers(4, size=900)
    assert linear_probe(x[:500], y[:500], x[500:], y[500:]) == pytest.approx(0.25, abs=0.08)


def test_it_is_scored_on_the_second_set_only(rng):
    x = rng.normal(size=(40, 200))
    y = rng.integers(2, size=40)
    assert linear_probe(x, y, x, y) == 1
    assert linear_probe(x, y, rng.normal(size=(400, 200)), rng.integers(2, size=400)) < 0.65


def test_a_single_class_is_predicted_always():
    x = np.zeros((4, 1))
    assert linear_probe(x, np.zeros(4, dtype=int), x, np.array([0, 0, 0, 1])) == 0.75


def test_nothing_to_fit_or_to_score_gives_nan():
    x, y = np.zeros((2, 1)), np.zeros(2, dtype=int)
    empty = np.array([])
    assert np.isnan(linear_probe(x, y, empty, empty))
    assert np.isnan(linear_probe(empty, empty, x, y))


def test_a_class_for_nearly_each_sample_is_no_reason_to_warn(rng):
    x, y = rng.normal(size=(30, 5)), np.arange(30) % 24
    assert 0 <= linear_probe(x, y, x, y) <= 1


def test_a_probe_that_does_not_converge_stays_silent(rng, monkeypatch):
    monkeypatch.setattr("medssl.pretext.probe.MAX_ITERATIONS", 1)
    x, y = rng.normal(size=(100, 20)), rng.integers(5, size=100)
    assert 0 <= linear_probe(x, y, x, y) <= 1
