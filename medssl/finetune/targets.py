"""What is told apart: the classes of a column, or the two sides of a comparison."""

import operator
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medssl.errors import UsageError
from medssl.finetune.columns import parse_number, read_cell, read_number, refuse_unknown_column
from medssl.scans.labelled import LabelledCase
from medssl.scans.record import SkippedScan

MAX_CLASSES = 20
"""A column with more distinct values is a measurement or a name."""

NO_ANSWER = -1
"""Stands for a missing class in arrays."""

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}

FALSE_TRUE = ("false", "true")

_COMPARISON = re.compile(r"(.+?)\s*(<=|>=|<|>)\s*(.+)")


@dataclass(frozen=True)
class Target:
    """One question about a case.

    Attributes:
        name: As it is written on the command line, such as "label" or "texture<5".
        column: Where the answer is read from.
        classes: Possible answers in order; "false" and "true" for a comparison.
        comparison: One of `COMPARISONS`, or None where the column itself holds the classes.
        threshold: What a number is compared with.
    """

    name: str
    column: str
    classes: tuple[str, ...]
    comparison: str | None = None
    threshold: float = 0.0

    def class_of(self, case: LabelledCase) -> int | None:
        """Return which of `classes` a case belongs to, or None where its cell is empty.

        Raises:
            UsageError: If the cell holds no number to compare, or a class that is not one of these.
        """
        if self.comparison:
            number = read_number(case, self.column)
            return None if number is None else int(COMPARISONS[self.comparison](number, self.threshold))
        text = read_cell(case, self.column)
        if text is None:
            return None
        if _canonical(text) not in self.classes:
            raise UsageError(
                f"Column {self.column!r} holds {text!r} for {case.scan_id}, which is none of the classes "
                f"{', '.join(self.classes)}: correct the cell or leave it empty."
            )
        return self.classes.index(_canonical(text))

    def describe(self) -> dict[str, Any]:
        """Return plain values that `from_description` makes the same target from."""
        return {**asdict(self), "classes": list(self.classes)}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Target":
        """Return the target that `describe` described."""
        return cls(**{**description, "classes": tuple(description["classes"])})


def parse_targets(texts: Sequence[str], cases: Sequence[LabelledCase]) -> tuple[Target, ...]:
    """Return what is to be told apart.

    Args:
        texts: Columns with words or whole numbers, whose distinct values are the classes, numbers in their
            order before words in theirs; or comparisons of a column of numbers, such as ``texture<5``, whose
            positive class is "true".
        cases: All cases, test cases included, so that every class is known.

    Raises:
        UsageError: If there is no such column, a cell does not fit, or there is nothing to tell apart.
    """
    if not texts:
        raise UsageError("Name at least one target: a column of the table, or a comparison such as age>65.")
    targets = tuple(_parse(text.strip(), cases) for text in texts)
    for target in targets:
        _refuse_unanswerable(target, cases)
    name, count = Counter(target.name for target in targets).most_common(1)[0]
    if count > 1:
        raise UsageError(f"The target {name!r} is named {count} times; name it once.")
    return targets


def keep_answered(
    cases: Sequence[LabelledCase], targets: Sequence[Target]
) -> tuple[list[LabelledCase], list[SkippedScan]]:
    """Part cases with an answer to at least one target from those without any."""
    usable, skipped = [], []
    for case in cases:
        if any(target.class_of(case) is not None for target in targets):
            usable.append(case)
        else:
            columns = ", ".join(dict.fromkeys(target.column for target in targets))
            skipped.append(SkippedScan(case.path, f"It has no answer, its cell is empty: {columns}."))
    return usable, skipped


def _parse(text: str, cases: Sequence[LabelledCase]) -> Target:
    is_column = any(text in case.values for case in cases)
    if match := None if is_column else _COMPARISON.fullmatch(text):
        column, comparison, right = match.groups()
        threshold = parse_number(right)
        if threshold is None:
            raise UsageError(f"{text!r} compares with {right!r}: compare a column with a number.")
        refuse_unknown_column(column, cases)
        name = f"{column}{comparison}{_canonical(right)}"
        return Target(name, column, FALSE_TRUE, comparison, threshold)
    refuse_unknown_column(text, cases)
    found = {_canonical(cell) for case in cases if (cell := read_cell(case, text))}
    if len(found) > MAX_CLASSES:
        raise UsageError(
            f"Column {text!r} has {len(found)} distinct values, which looks like a measurement or a name: "
            f"compare numbers, as in '{text}>10', or choose a column with at most {MAX_CLASSES} values."
        )
    return Target(text, text, tuple(sorted(found, key=_in_order)))


def _refuse_unanswerable(target: Target, cases: Sequence[LabelledCase]) -> None:
    """Raise a UsageError unless the cases hold at least two answers."""
    answers = {answer for case in cases if (answer := target.class_of(case)) is not None}
    if not answers:
        raise UsageError(f"Column {target.column!r} is empty in all {len(cases)} cases: fill it in.")
    if len(answers) == 1:
        only = target.classes[answers.pop()]
        raise UsageError(
            f"All cases have the same answer to {target.name!r}, {only}: there is nothing to tell apart."
        )


def _canonical(text: str) -> str:
    """Return numbers in one way of writing: a column with an empty cell is often saved as 1.0, 2.0."""
    number = parse_number(text)
    if number is None:
        return text
    return str(int(number)) if number.is_integer() else repr(number)


def _in_order(name: str) -> tuple[bool, float, str]:
    number = parse_number(name)
    return number is None, number or 0.0, name
