"""Scans listed in a CSV, as a spreadsheet saves it."""

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medssl.errors import UsageError

TABLE_SUFFIXES = (".csv", ".tsv")

NAMING_COLUMNS = ("subject_id", "session_id", "split")


@dataclass(frozen=True, slots=True)
class TableRow:
    """One scan of a table.

    Attributes:
        path: The image file.
        subject_id: Whom the scan shows, or None where the table does not tell.
        session_id: The session, or None.
        split: What it is set aside for, such as "test", or None.
        values: Every other column.
    """

    path: Path
    subject_id: str | None
    session_id: str | None
    split: str | None
    values: Mapping[str, str] = field(hash=False)


def read_scan_table(path: Path) -> tuple[list[TableRow], tuple[str, ...]]:
    """Read a table with a column ``image`` and, if it likes, ``subject_id``, ``session_id`` and ``split``.

    Commas, semicolons or tabs separate the columns. Image paths are relative to the table.

    Returns:
        One row for each image, in the table's order; and a note where rows were passed over, because they
        name no image or one that an earlier row names.

    Raises:
        UsageError: If the table cannot be read, or has no column ``image``.
    """
    cells = _read_cells(path)
    rows: dict[Path, TableRow] = {}
    for row in cells:
        if row.get("image"):
            image = Path(os.path.normpath(path.parent / row["image"]))
            subject_id, session_id, split = (row.get(name) or None for name in NAMING_COLUMNS)
            values = {name: row[name] for name in row if name not in ("image", *NAMING_COLUMNS)}
            rows.setdefault(image, TableRow(image, subject_id, session_id, split, values))
    passed_over = len(cells) - len(rows)
    note = f"Rows of {path.name} passed over, as they name no image or an earlier row's: {passed_over}."
    return list(rows.values()), (note,) if passed_over else ()


def _read_cells(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = text.splitlines()
        delimiter = max(",;\t", key=lines[0].count) if lines else ","
        header, *records = [
            [cell.strip() for cell in record] for record in csv.reader(lines, delimiter=delimiter)
        ]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as a table; save it as CSV in UTF-8.") from error
    if "image" not in header:
        raise UsageError(f"{path} has no column 'image'; its columns are {', '.join(header)}.")
    empty = dict.fromkeys(header, "")  # spreadsheets leave out the commas of empty cells at a row's end
    return [empty | dict(zip(header, record, strict=False)) for record in records if any(record)]
