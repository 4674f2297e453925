"""Which labelled cases are learned from, held out, and kept for the test."""

import hashlib
from collections.abc import Callable, Hashable, Sequence

from medssl.errors import UsageError
from medssl.scans.labelled import LabelledCase

TEST_SPLIT = "test"

ClassOf = Callable[[LabelledCase], Hashable]


def part_test_cases(cases: Sequence[LabelledCase]) -> tuple[list[LabelledCase], list[LabelledCase]]:
    """Return the cases to learn from and the test cases, as the data set's ``split`` says.

    Raises:
        UsageError: If a subject has cases in both.
    """
    test = [case for case in cases if case.split == TEST_SPLIT]
    pool = [case for case in cases if case.split != TEST_SPLIT]
    shared = {case.subject_id for case in test} & {case.subject_id for case in pool}
    if shared:
        raise UsageError(
            f"Subject {min(shared)} has test cases and others (as have {len(shared) - 1} more subjects): put "
            "all cases of a subject on one side of the split."
        )
    return pool, test


def draw_subset(
    pool: Sequence[LabelledCase], budget: int | None, *, seed: int, class_of: ClassOf | None = None
) -> list[LabelledCase]:
    """Return the labelled cases of a budget; those of a smaller budget and the same seed are among them.

    Subjects are taken in an order that depends on the seed alone, each with all its cases as far as the
    budget goes.

    Args:
        pool: Cases that are not test cases.
        budget: How many cases; None for all.
        seed: Chooses another subset.
        class_of: The class of a case, to be represented as in the pool, and at least once each; None where
            cases have no class.

    Raises:
        UsageError: If the pool is smaller than the budget, or the budget than the number of classes.
    """
    ordered = sorted(pool, key=lambda case: (_place(case.subject_id, seed), case.scan_id))
    if budget is None:
        return ordered
    if budget > len(pool):
        raise UsageError(f"There are {len(pool)} labelled cases to learn from, fewer than {budget}.")
    if class_of is None:
        return ordered[:budget]
    by_class: dict[Hashable, list[LabelledCase]] = {}
    for case in ordered:
        by_class.setdefault(class_of(case), []).append(case)
    if budget < len(by_class):
        raise UsageError(f"{budget} labelled cases cannot represent {len(by_class)} classes.")
    quotas = _share_out(budget, {label: len(members) for label, members in by_class.items()})
    chosen = {case.scan_id for label, members in by_class.items() for case in members[: quotas[label]]}
    return [case for case in ordered if case.scan_id in chosen]


def hold_out(
    cases: Sequence[LabelledCase], *, val_fraction: float, folds: int, fold: int, seed: int
) -> tuple[list[LabelledCase], list[LabelledCase]]:
    """Part labelled cases into those to train on and those to validate on, never a subject on both sides.

    Args:
        cases: The labelled cases of a run.
        val_fraction: Share of the subjects held out where there is one fold; rounded, so it may be none, but
            it is never all.
        folds: Number of models; of several each holds out other subjects, and each subject is held out once.
        fold: Which of them, from 0.
        seed: Chooses another split.

    Raises:
        UsageError: If there are more folds than subjects.
    """
    subjects = sorted({case.subject_id for case in cases}, key=lambda subject: _place(subject, seed))
    if folds > len(subjects):
        raise UsageError(f"{len(subjects)} labelled subjects cannot make {folds} folds.")
    count = min(round(val_fraction * len(subjects)), len(subjects) - 1)
    held_out = set(subjects[fold::folds] if folds > 1 else subjects[:count])
    train = [case for case in cases if case.subject_id not in held_out]
    return train, [case for case in cases if case.subject_id in held_out]


def _share_out(budget: int, counts: dict[Hashable, int]) -> dict[Hashable, int]:
    """Return how many cases each class gets: one, and the others one by one to the class that lacks most.

    Highest averages with odd divisors (Sainte-Lague), because there a larger budget takes from no class. Of
    the largest remainders that is not true, and subsets would not be nested.
    """
    quotas = dict.fromkeys(counts, 1)
    while sum(quotas.values()) < budget:
        neediest = max(counts, key=lambda label: counts[label] / (2 * quotas[label] + 1))
        quotas[neediest] += 1
    return quotas


def _place(subject_id: str, seed: int) -> bytes:
    name = f"labels/{seed}/{subject_id}"
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
