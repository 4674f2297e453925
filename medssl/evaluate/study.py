"""What a study found: label-efficiency curves, paired differences, and what labels are worth."""

from collections.abc import Mapping, Sequence

import numpy as np

from medssl.errors import UsageError
from medssl.evaluate.statistics import Array, interval
from medssl.evaluate.study_scores import Scores, score
from medssl.evaluate.study_table import Study, shared
from medssl.findings import Arm, Difference, LabelsToMatch, Point, StudySummary, is_higher_better

Curve = Mapping[int, Scores]
"""Scores of an arm by label budget, ascending."""


def summarise(study: Study, *, metric: str, against: str = "scratch") -> StudySummary:
    """Summarise one metric of a study, with intervals over seeds and test subjects.

    Args:
        study: The table.
        metric: A column, such as "dice" or "hd95_mm", averaged over cases; or "auroc", computed from the
            truths and probabilities of all cases of a seed, and averaged over classes (one against the rest)
            where there are several.
        against: The arm that the others are compared with.

    Raises:
        UsageError: If no arm has that name, or a value of the metric is missing.
    """
    if against not in study.arms:
        raise UsageError(f"No arm is called '{against}'; the study has {', '.join(study.arms)}.")
    curves = {arm: _curve(study, arm, metric) for arm in study.arms}
    best = _best_at_largest(list(curves.values())) if is_higher_better(metric) else None
    level = 1 - 0.05 / max(1, sum(len(_shared_budgets(study, arm, against)) for arm in curves))
    arms = []
    for name, curve in curves.items():
        is_compared = name != against
        arms.append(
            Arm(
                name,
                points=tuple(_point(budget, scores, best) for budget, scores in curve.items()),
                differences=_differences(study, name, against, metric, level) if is_compared else (),
                matches=_matches(curve, curves[against], metric) if is_compared else (),
            )
        )
    return StudySummary(metric, against, tuple(arms), study.all_labels)


def labels_to_match(goals: Array, budgets: Sequence[int], curve: Array) -> Array:
    """Read off a curve how many labels reach a score.

    The curve is linear in the logarithm of the number of labels between budgets; where it crosses the score
    more than once, the first crossing counts.

    Args:
        goals: A score in each of R resamples, ``(R,)``; more is better.
        budgets: B numbers of labels, ascending.
        curve: The scores they give, ``(B, R)``.

    Returns:
        Numbers of labels, ``(R,)``: 0 where the smallest budget suffices, infinite where the largest does
        not.
    """
    is_reached = curve >= goals
    above = is_reached.argmax(axis=0)
    below = np.maximum(above - 1, 0)
    columns = np.arange(len(goals))
    rise = curve[above, columns] - curve[below, columns]
    share = np.divide(goals - curve[below, columns], rise, out=np.zeros_like(goals), where=rise > 0)
    logarithms = np.log2(budgets)
    labels = 2 ** (logarithms[below] + share * (logarithms[above] - logarithms[below]))
    return np.select([~is_reached.any(axis=0), above == 0], [np.inf, 0.0], labels)


def _curve(study: Study, arm: str, metric: str) -> dict[int, Scores]:
    curve = {}
    for budget in study.budgets(arm):
        cases = study.rows[arm, budget]
        seeds, scans = shared(cases)
        if scans:
            curve[budget] = score(cases, seeds, scans, metric)
    if not curve:
        raise UsageError(f"Arm '{arm}' has no test case that all its seeds share; finish the study first.")
    return curve


def _best_at_largest(curves: Sequence[Curve]) -> Array:
    largest = max(budget for curve in curves for budget in curve)
    candidates = [curve[largest].draws for curve in curves if largest in curve]
    return max(candidates, key=lambda draws: draws[0])


def _point(budget: int, scores: Scores, best: Array | None) -> Point:
    return Point(
        label_budget=budget,
        score=interval(scores.draws),
        seed_scores=tuple(scores.per_seed[0].tolist()),
        n_cases=scores.n_cases,
        n_subjects=scores.n_subjects,
        share_of_best=None if best is None else interval(scores.draws / best),
    )


def _shared_budgets(study: Study, arm: str, against: str) -> list[int]:
    """Return the budgets at which an arm is compared; none for the arm that the others are compared with."""
    return [budget for budget in study.budgets(arm) if arm != against and (against, budget) in study.rows]


def _differences(
    study: Study, arm: str, against: str, metric: str, corrected_level: float
) -> tuple[Difference, ...]:
    differences = []
    for budget in _shared_budgets(study, arm, against):
        own, other = study.rows[arm, budget], study.rows[against, budget]
        seeds, scans = shared(own, other)
        if scans:
            first, second = (score(cases, seeds, scans, metric) for cases in (own, other))
            difference = first.draws - second.draws
            differences.append(
                Difference(
                    label_budget=budget,
                    interval=interval(difference),
                    corrected=interval(difference, level=corrected_level),
                    n_seeds=len(seeds),
                    n_cases=first.n_cases,
                    n_subjects=first.n_subjects,
                )
            )
    return tuple(differences)


def _matches(curve: Curve, other: Curve, metric: str) -> tuple[LabelsToMatch, ...]:
    sign = 1 if is_higher_better(metric) else -1
    budgets = sorted(other)
    scores = sign * np.stack([other[budget].draws for budget in budgets])
    return tuple(
        LabelsToMatch(
            label_budget=budget,
            labels=interval(labels_to_match(sign * own.draws, budgets, scores)),
            smallest=budgets[0],
            largest=budgets[-1],
        )
        for budget, own in curve.items()
    )
