from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.errors import UsageError
from medssl.finetune.budget import draw_subset, hold_out, part_test_cases
from medssl.scans.labelled import LabelledCase


def make_cases(subjects, classes=None, split=None):
    """Return one case for each entry of ``subjects``, of the class at the same place."""
    return [
        LabelledCase(
            f"scan{number}",
            subject,
            (Path(f"/scan{number}.nii"),),
            None,
            {"class": classes[number]} if classes else {},
            split,
        )
        for number, subject in enumerate(subjects)
    ]


def subjects_of(cases):
    return {case.subject_id for case in cases}


def class_of(case):
    return case.values["class"]


pools = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=30).map(make_cases)
seeds = st.integers(0, 100)


@given(pool=pools, seed=seeds)
def test_smaller_budgets_are_nested_and_do_not_depend_on_the_order(pool, seed):
    draws = [draw_subset(pool, budget, seed=seed) for budget in range(1, len(pool) + 1)]
    assert [len(draw) for draw in draws] == [*range(1, len(pool) + 1)]
    for smaller, larger in pairwise(draws):
        assert smaller == larger[:-1]
    assert draw_subset(pool[::-1], 1, seed=seed) == draws[0]
    assert sorted(draw_subset(pool, None, seed=seed), key=str) == sorted(pool, key=str)


@given(pool=pools, seed=seeds)
def test_at_most_one_subject_is_drawn_in_part(pool, seed):
    for budget in range(1, len(pool)):
        drawn = draw_subset(pool, budget, seed=seed)
        left = [case for case in pool if case not in drawn]
        assert len(subjects_of(drawn) & subjects_of(left)) <= 1


def test_another_seed_draws_others():
    pool = make_cases([f"s{number}" for number in range(20)])
    draws = {frozenset(subjects_of(draw_subset(pool, 4, seed=seed))) for seed in range(10)}
    assert len(draws) > 5


@given(classes=st.lists(st.sampled_from("pqrs"), min_size=4, max_size=40), seed=seeds)
def test_stratified_draws_are_nested_and_as_the_pool(classes, seed):
    pool = make_cases([f"s{number}" for number in range(len(classes))], classes)
    counts, before = Counter(classes), set()
    for budget in range(len(counts), len(pool) + 1):
        drawn = draw_subset(pool, budget, seed=seed, class_of=class_of)
        assert len(drawn) == budget
        assert before <= {case.scan_id for case in drawn}
        before = {case.scan_id for case in drawn}
        found = Counter(map(class_of, drawn))
        assert found.keys() == counts.keys()
        if budget >= 2 * len(counts) and min(counts.values()) * budget >= len(pool):
            exact = {name: budget * count / len(pool) for name, count in counts.items()}
            assert all(abs(found[name] - exact[name]) < 2 for name in counts)


def test_rare_classes_are_in_small_budgets():
    pool = make_cases([f"s{number}" for number in range(50)], ["common"] * 48 + ["rare"] * 2)
    drawn = draw_subset(pool, 4, seed=0, class_of=class_of)
    assert Counter(map(class_of, drawn)) == {"common": 3, "rare": 1}


def test_budgets_that_cannot_be_drawn():
    pool = make_cases("abc", "ppq")
    with pytest.raises(UsageError, match="3 labelled cases to learn from, fewer than 4"):
        draw_subset(pool, 4, seed=0)
    with pytest.raises(UsageError, match="cannot represent 2 classes"):
        draw_subset(pool, 1, seed=0, class_of=class_of)


@given(pool=pools, folds=st.integers(2, 5), seed=seeds)
def test_each_subject_is_held_out_in_one_fold(pool, folds, seed):
    if folds > len(subjects_of(pool)):
        with pytest.raises(UsageError, match="cannot make"):
            hold_out(pool, val_fraction=0.2, folds=folds, fold=0, seed=seed)
        return
    parts = [hold_out(pool, val_fraction=0.2, folds=folds, fold=fold, seed=seed) for fold in range(folds)]
    for train, val in parts:
        assert train
        assert val
        assert not subjects_of(train) & subjects_of(val)
        assert len(train) + len(val) == len(pool)
    held_out = Counter(case.scan_id for _, val in parts for case in val)
    assert held_out == Counter(case.scan_id for case in pool)


@given(pool=pools, fraction=st.floats(0, 0.99), seed=seeds)
def test_one_fold_holds_out_a_share_of_the_subjects_and_never_all(pool, fraction, seed):
    train, val = hold_out(pool, val_fraction=fraction, folds=1, fold=0, seed=seed)
    assert train
    assert not subjects_of(train) & subjects_of(val)
    wanted = round(fraction * len(subjects_of(pool)))
    assert len(subjects_of(val)) == min(wanted, len(subjects_of(pool)) - 1)


def test_a_subject_on_both_sides_of_the_test_split_is_refused():
    pool, test = make_cases("aab"), make_cases("bc", split="test")
    with pytest.raises(UsageError, match="Subject b"):
        part_test_cases([*pool, *test])
    assert part_test_cases([*pool, test[1]]) == (pool, [test[1]])
