"""Intervals that allow for both things a study draws by chance: seeds and test subjects.

A score varies with the labelled subset and the start of a training (the seed) as well as with the subjects
who happen to be in the test set, and neither may be left out: resampling cases alone treats one lucky
training as the method, resampling seeds alone treats the test set as all patients (Bouthillier et al.,
"Accounting for variance in machine learning benchmarks", MLSys 2021). Seeds and subjects are crossed, as
every seed is tested on every case, so both are resampled independently with replacement and a cell of the
table counts as often as its row times its column (Owen, "The pigeonhole bootstrap", Annals of Applied
Statistics 2007). All cases of a subject stay together.

Of n seeds or subjects, n - 1 are drawn, which makes the variance unbiased however few there are (Rao & Wu,
"Resampling inference with complex survey data", JASA 1988). In simulations with five seeds and 60 cases, 95
to 98 % of nominal 95 % intervals held the truth; 87 % where all variance lay between the seeds, for no
resampling makes five seeds many. A single seed cannot be resampled, and its intervals allow for other test
subjects alone.

Arrays of resamples start with the sample itself: row 0 is the estimate, rows 1 to ``DRAWS`` are draws. What
is computed row by row from arrays of the same seeds and subjects is therefore paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from medssl.findings import Interval

DRAWS = 2000
SEED_STREAM, SUBJECT_STREAM = 0, 1

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Resamples:
    """How often each seed and each test case counts in each resample.

    Attributes:
        seeds: ``(1 + DRAWS, S)``.
        cases: ``(1 + DRAWS, N)``; cases of one subject count alike.
    """

    seeds: Array
    cases: Array


def crossed_resamples(n_seeds: int, subject_ids: Sequence[str]) -> Resamples:
    """Resample seeds and subjects independently.

    Args:
        n_seeds: Number of seeds S.
        subject_ids: Whom each of N test cases shows.

    Returns:
        The same counts whenever the numbers of seeds and subjects are the same.
    """
    return Resamples(_counts(n_seeds, SEED_STREAM), subject_resamples(subject_ids))


def subject_resamples(subject_ids: Sequence[str]) -> Array:
    """Resample subjects: how often each of N cases counts in each resample, ``(1 + DRAWS, N)``."""
    subjects, subject_of_case = np.unique(np.asarray(subject_ids), return_inverse=True)
    return _counts(len(subjects), SUBJECT_STREAM)[:, subject_of_case]


def seed_means(per_seed: Array, seeds: Array) -> Array:
    """Average values of each seed ``(R, S)`` over resampled seeds ``(R, S)`` to ``(R,)``."""
    return (per_seed * seeds).sum(axis=1) / seeds.sum(axis=1)


def weighted_means(values: Array, weights: Array) -> Array:
    """Average values of M rows of cases ``(M, N)`` with R sets of weights ``(R, N)`` to ``(R, M)``."""
    return (weights @ values.T) / weights.sum(axis=1, keepdims=True)


def weighted_auroc(truth: NDArray[np.bool_], scores: Array, weights: Array) -> Array:
    """Compute the area under the ROC curve for many sets of weights at once.

    It is the share of pairs of a positive and a negative case in which the positive one scores higher, a tie
    counting half (Mann & Whitney 1947; Hanley & McNeil, Radiology 1982).

    Args:
        truth: Which cases are positive, ``(N,)``.
        scores: Any number that is higher for positive cases, ``(N,)``.
        weights: How often each case counts, ``(R, N)``.

    Returns:
        ``(R,)`` in [0, 1]; NaN where positive or negative cases are missing.
    """
    order = np.argsort(scores, kind="stable")
    first_of_tie = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    positive = np.add.reduceat((weights * truth)[:, order], first_of_tie, axis=1)
    negative = np.add.reduceat((weights * ~truth)[:, order], first_of_tie, axis=1)
    below = negative.cumsum(axis=1) - negative / 2
    won = (positive * below).sum(axis=1)
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def interval(values: Array, *, level: float = 0.95) -> Interval:
    """Return the percentile interval of one value of each resample.

    Args:
        values: ``(1 + DRAWS,)``, the estimate first; draws in which it is undefined (NaN) do not count.
        level: How often the interval shall hold the truth.
    """
    estimate, draws = float(values[0]), values[1:]
    draws = draws[~np.isnan(draws)]
    if np.isnan(estimate) or not draws.size:
        return Interval(np.nan, np.nan, np.nan)
    tail = (1 - level) / 2
    # Values that were drawn, not points between them: half-way to infinity is no number of labels.
    lower, upper = np.quantile(draws, (tail, 1 - tail), method="inverted_cdf")
    return Interval(estimate, float(lower), float(upper))


@lru_cache(maxsize=32)
def _counts(count: int, stream: int) -> Array:
    """Return how often each of ``count`` is drawn: once in row 0, then n - 1 of n with replacement."""
    random = np.random.default_rng((stream, count))
    drawn = random.multinomial(max(count - 1, 1), np.full(count, 1 / count), size=DRAWS)
    counts = np.vstack([np.ones((1, count)), drawn])
    counts.setflags(write=False)
    return counts
