"""The columns of a run's metrics.csv, as curves over epochs."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PHASES = ("train", "val")
WORDS = {"mae": "mean absolute error", "psnr": "PSNR (dB)", "ssim": "SSIM"}


@dataclass(frozen=True)
class Curve:
    """One column without its gaps.

    Attributes:
        epochs: Where it was measured.
        values: What was measured there, all finite.
    """

    epochs: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def last(self) -> float | None:
        """The latest value, or None if nothing was measured."""
        return self.values[-1] if self.values else None


class Metrics:
    """A table with one row an epoch, such as `read_metrics` returns.

    Args:
        rows: Text by column name; cells that are empty or no finite number are gaps.
    """

    def __init__(self, rows: Sequence[dict[str, str]]) -> None:
        self._rows = rows
        self.columns = tuple(rows[0]) if rows else ()

    def curve(self, column: str) -> Curve:
        """Return a column; one that is not in the table is a curve without points."""
        points = [
            (_number(row.get("epoch")), _number(row.get(column)))
            for row in self._rows
            if math.isfinite(_number(row.get(column)))
        ]
        epochs, values = zip(*points, strict=True) if points else ((), ())
        return Curve(epochs, values)

    def measures(self, task: str) -> list[str]:
        """Return what was measured of a task in any phase, in the order of the columns."""
        prefixes = tuple(f"{phase}/{task}/" for phase in PHASES)
        found = [column.rpartition("/")[2] for column in self.columns if column.startswith(prefixes)]
        return list(dict.fromkeys(found))

    def tasks(self) -> list[str]:
        """Return the names of the tasks that have columns, in their order."""
        parts = [column.split("/") for column in self.columns]
        return list(dict.fromkeys(part[1] for part in parts if len(part) == 3 and part[0] in PHASES))


def read_metrics(path: Path) -> Metrics:
    """Read a metrics.csv; a run that stopped before it was written has an empty one."""
    if not path.exists():
        return Metrics([])
    with path.open(newline="", encoding="utf-8") as file:
        return Metrics(list(csv.DictReader(file)))


def measure_words(measure: str) -> str:
    """Return what a reader should see for the name of a measure."""
    return WORDS.get(measure, measure.replace("_", " "))


def is_share(measure: str) -> bool:
    """Return whether a measure is a share of right answers, to be read in per cent."""
    return measure.endswith("accuracy")


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
