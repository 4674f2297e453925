import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.errors import UsageError
from medssl.finetune.targets import Target, keep_answered, parse_targets
from medssl.scans.datasets import find_labelled
from medssl.scans.labelled import LabelledCase


@pytest.fixture
def column(make_row):
    """Return a function that makes one case a cell of a column."""

    def make(*cells, name="grade"):
        return [make_row(f"case{number}", **{name: cell}) for number, cell in enumerate(cells)]

    return make


def answers(text, cases):
    [target] = parse_targets([text], cases)
    return [target.class_of(case) for case in cases]


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (("b", "a", "b", ""), ("a", "b")),
        (("10", "9", "2", "10"), ("2", "9", "10")),
        (("1.0", "01", "2", " 2.0 "), ("1", "2")),
        (("unknown", "3", "-1"), ("-1", "3", "unknown")),
        (("0.5", "1.5"), ("0.5", "1.5")),
    ],
)
def test_classes_are_the_distinct_values_in_order(column, cells, classes):
    [target] = parse_targets(["grade"], column(*cells))
    assert target.classes == classes
    assert (target.name, target.column) == ("grade", "grade")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grade<2", [1, 0, 0, None]),
        ("grade<=2", [1, 1, 0, None]),
        ("grade>2", [0, 0, 1, None]),
        ("grade >= 2.0", [0, 1, 1, None]),
    ],
)
def test_a_comparison_is_false_or_true(column, text, expected):
    cases = column("1.5", "2", "3", "")
    assert answers(text, cases) == expected
    [target] = parse_targets([text], cases)
    assert target.classes == ("false", "true")
    assert target.name == text.replace(" ", "").replace("2.0", "2")


@given(numbers=st.lists(st.integers(-9, 9), min_size=2, unique=True), limit=st.integers(-9, 9))
def test_comparisons_that_exclude_each_other_answer_oppositely(numbers, limit):
    cases = [LabelledCase(str(number), "s", (), None, {"n": str(number)}) for number in numbers]
    sides = {number < limit for number in numbers}
    if len(sides) == 1:
        with pytest.raises(UsageError, match="nothing to tell apart"):
            parse_targets([f"n<{limit}"], cases)
        return
    below, above = answers(f"n<{limit}", cases), answers(f"n>={limit}", cases)
    assert [one + other for one, other in zip(below, above, strict=True)] == [1] * len(cases)
    assert below == [int(number < limit) for number in numbers]


def test_a_column_whose_name_holds_a_sign_is_a_column(column):
    assert answers("a<b", column("x", "y", name="a<b")) == [0, 1]


@pytest.mark.parametrize("empty", ["", "  ", "n/a", "NaN"])
def test_an_empty_cell_is_no_answer(column, empty):
    assert answers("grade", column("a", "b", empty)) == [0, 1, None]
    assert answers("grade>1", column("1", "2", empty)) == [0, 1, None]


@pytest.mark.parametrize(
    ("text", "cells", "words"),
    [
        ("grad", ("a", "b"), "no column 'grad' (the nearest is 'grade'); its columns are grade"),
        ("grad<3", ("1", "4"), "no column 'grad' (the nearest is 'grade')"),
        ("zzz", ("a", "b"), "no column 'zzz'; its columns are grade"),
        ("grade<high", ("1", "2"), "compares with 'high'"),
        ("grade<3", ("1", "many", "4"), "holds 'many' for case1, which is no number"),
        ("grade<3", ("1", "inf"), "holds 'inf' for case1"),
        ("grade", ("a", "a", ""), "All cases have the same answer to 'grade', a"),
        ("grade<9", ("1", "2"), "All cases have the same answer to 'grade<9', true"),
        ("grade", ("", "n/a"), "empty in all 2 cases"),
        ("grade", tuple(map(str, range(21))), "21 distinct values"),
    ],
)
def test_what_cannot_be_told_apart_is_refused_in_one_sentence(column, text, cells, words):
    with pytest.raises(UsageError) as caught:
        parse_targets([text], column(*cells))
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_twenty_classes_are_allowed(column):
    [target] = parse_targets(["grade"], column(*map(str, range(20))))
    assert target.classes[-1] == "19"


def test_targets_are_named_once_and_at_least_one(column):
    with pytest.raises(UsageError, match="named 2 times"):
        parse_targets(["grade<2", "grade < 2"], column("1", "3"))
    with pytest.raises(UsageError, match="at least one"):
        parse_targets([], column("1", "3"))


def test_cases_without_columns_are_told_to_need_a_table(make_row):
    with pytest.raises(UsageError, match="name a CSV with the columns image and label"):
        parse_targets(["label"], [make_row()])


def test_a_class_that_was_not_known_is_refused(column, make_row):
    [target] = parse_targets(["grade"], column("a", "b"))
    with pytest.raises(UsageError, match="none of the classes a, b"):
        target.class_of(make_row(grade="c"))


def test_cases_without_any_answer_are_left_out_with_the_reason(make_row):
    cases = [make_row("1", a="x", b=""), make_row("2", a="", b="2"), make_row("3", a="", b="")]
    targets = parse_targets(["a", "b>1"], [*cases, make_row("4", a="y", b="0")])
    usable, skipped = keep_answered(cases, targets)
    assert usable == cases[:2]
    assert [(skip.path, skip.reason) for skip in skipped] == [
        (cases[2].path, "It has no answer, its cell is empty: a, b.")
    ]


@pytest.mark.parametrize("text", ["grade", "grade>1"])
def test_a_description_gives_the_target_back(column, text):
    [target] = parse_targets([text], column("1", "2"))
    assert Target.from_description(json.loads(json.dumps(target.describe()))) == target


def test_real_table(shared_data):
    cases = find_labelled(shared_data / "lidc_nodules" / "nodules.csv", label_column=None).cases
    label, texture = parse_targets(["label", "texture<5"], cases)
    assert label.classes == ("benign", "malignant")
    found = [label.class_of(case) for case in cases]
    assert (found.count(0), found.count(1)) == (650, 344)
    share = sum(texture.class_of(case) for case in cases) / len(cases)
    assert share == pytest.approx(0.17, abs=0.01)
    with pytest.raises(UsageError, match="diameter_mm>10"):
        parse_targets(["diameter_mm"], cases)
