"""The score of an arm at one label budget, in every resample of its seeds and test subjects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medssl.errors import UsageError
from medssl.evaluate.statistics import Array, crossed_resamples, seed_means, weighted_auroc, weighted_means
from medssl.evaluate.study_table import Cases, Row, metric_values, subjects_of

AUROC = "auroc"
PROBABILITY = "probability"


@dataclass(frozen=True)
class Scores:
    """A metric of some seeds on some test cases.

    Attributes:
        per_seed: The metric of S seeds in R resamples of the subjects, ``(R, S)``; row 0 is the sample.
        draws: Its mean over resampled seeds, ``(R,)``.
        n_cases: Test cases.
        n_subjects: Subjects whom they show.
    """

    per_seed: Array
    draws: Array
    n_cases: int
    n_subjects: int


def score(cases: Cases, seeds: Sequence[int], scans: Sequence[str], metric: str) -> Scores:
    """Compute a metric in every resample of the given seeds and the subjects of the given scans.

    Calls with the same seeds and scans draw the same resamples, so their difference is a paired one.

    Args:
        cases: Rows of an arm at a label budget.
        seeds: Which seeds count, S of them.
        scans: Which test cases count, N of them, each tested by all these seeds.
        metric: "auroc", or a column whose mean is taken.

    Raises:
        UsageError: If a row lacks the metric.
    """
    subjects = subjects_of(cases[seeds[0]], scans)
    resamples = crossed_resamples(len(seeds), subjects)
    if metric == AUROC:
        per_seed = _aurocs(cases, seeds, scans, resamples.cases)
    else:
        per_seed = weighted_means(metric_values(cases, seeds, scans, metric), resamples.cases)
    draws = seed_means(per_seed, resamples.seeds)
    return Scores(per_seed, draws, len(scans), len(set(subjects)))


def _aurocs(cases: Cases, seeds: Sequence[int], scans: Sequence[str], weights: Array) -> Array:
    truths = _truths(cases[seeds[0]], scans)
    areas = np.empty((len(truths), len(weights), len(seeds)))
    for index, (column, truth) in enumerate(truths.items()):
        probabilities = metric_values(cases, seeds, scans, column)
        for seed, values in enumerate(probabilities):
            areas[index, :, seed] = weighted_auroc(truth, values, weights)
    return areas.mean(axis=0)


def _truths(cases: Mapping[str, Row], scans: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return, for each column of probabilities, the cases ``(N,)`` that are of its class."""
    rows = [cases[scan] for scan in scans]
    if PROBABILITY in rows[0]:
        positive = [_is_positive(row) for row in rows]
        return {PROBABILITY: np.array(positive)}
    columns = [column for column in rows[0] if column.startswith(f"{PROBABILITY}_")]
    if not columns:
        raise UsageError("The study holds no probabilities, so it has no AUROC; choose one of its metrics.")
    return {
        column: np.array([row["truth"] == column.removeprefix(f"{PROBABILITY}_") for row in rows])
        for column in columns
    }


def _is_positive(row: Row) -> bool:
    if row["truth"] not in ("0", "1"):
        raise UsageError(
            f"Column 'truth' holds '{row['truth']}' for scan {row['scan_id']}; it must be 0 or 1."
        )
    return row["truth"] == "1"
