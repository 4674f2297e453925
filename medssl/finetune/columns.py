"""Cells of the table that lists the cases."""

import math
from collections.abc import Iterable
from difflib import get_close_matches

from medssl.errors import UsageError
from medssl.scans.labelled import LabelledCase

EMPTY = ("", "n/a", "nan")
"""What stands for a missing value, in any case of letters: BIDS writes the second, data frames the third."""


def read_cell(case: LabelledCase, column: str) -> str | None:
    """Return the text of a case in a column, or None where there is none."""
    text = case.values.get(column, "").strip()
    return None if text.lower() in EMPTY else text


def read_number(case: LabelledCase, column: str) -> float | None:
    """Return the number of a case in a column, or None where there is none.

    Raises:
        UsageError: If the cell holds something else.
    """
    text = read_cell(case, column)
    if text is None:
        return None
    number = parse_number(text)
    if number is None:
        raise UsageError(
            f"Column {column!r} holds {text!r} for {case.scan_id}, which is no number: correct the cell or "
            "leave it empty."
        )
    return number


def parse_number(text: str) -> float | None:
    """Return the finite number that a text stands for, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def refuse_unknown_column(column: str, cases: Iterable[LabelledCase]) -> None:
    """Raise a UsageError that names the columns there are, unless one of the cases has this one."""
    known = list(dict.fromkeys(name for case in cases for name in case.values))
    if column in known:
        return
    if not known:
        raise UsageError(f"The cases have no columns at all: name a CSV with the columns image and {column}.")
    close = get_close_matches(column, known, n=1)
    hint = f" (the nearest is {close[0]!r})" if close else ""
    raise UsageError(f"The table has no column {column!r}{hint}; its columns are {', '.join(known)}.")
