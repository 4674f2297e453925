from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medssl.errors import UsageError
from medssl.evaluate.study_table import metric_values, read_cells, read_study, shared
from medssl.findings import Cell

WriteTable = Callable[..., Path]


def row(**changes: Any) -> dict[str, Any]:
    return {
        "arm": "scratch", "label_budget": 8, "seed": 0, "scan_id": "a", "subject_id": "s", "dice": 0.5,
    } | changes  # fmt: skip


def test_rows_are_found_by_arm_budget_seed_and_scan(write_table: WriteTable) -> None:
    path = write_table(
        [row(), row(seed=1, dice=0.7), row(arm="frozen", label_budget="all"), row(label_budget=2)]
    )
    study = read_study(path, all_labels=180)
    assert study.arms == ("scratch", "frozen")
    assert (study.budgets("scratch"), study.budgets("frozen")) == ((2, 8), (180,))
    assert metric_values(study.rows["scratch", 8], [0, 1], ["a"], "dice").tolist() == [[0.5], [0.7]]


def test_shared_is_what_every_seed_of_every_arm_has() -> None:
    row: dict[str, str] = {}
    first = {0: dict.fromkeys("abc", row), 1: dict.fromkeys("abd", row)}
    second = {1: dict.fromkeys("ab", row), 2: dict.fromkeys("a", row)}
    assert shared(first) == ([0, 1], ["a", "b"])
    assert shared(first, second) == ([1], ["a", "b"])
    assert shared(first, {5: {}}) == ([], [])


def test_one_of_several_targets_is_read(write_table: WriteTable) -> None:
    path = write_table([row(target="texture"), row(target="malignant", dice=0.9)])
    study = read_study(path, target="malignant")
    assert metric_values(study.rows["scratch", 8], [0], ["a"], "dice").tolist() == [[0.9]]
    with pytest.raises(UsageError, match="choose one of malignant, texture"):
        read_study(path)
    with pytest.raises(UsageError, match="no target 'size'; it has malignant, texture"):
        read_study(path, target="size")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(), row()], "holds scan a twice for arm scratch, 8 labels, seed 0"),
        ([{"arm": "scratch"}], "lacks the columns label_budget, seed, scan_id, subject_id"),
        ([row(label_budget="all")], "say how many"),
        ([row(label_budget="many")], "'label_budget' holds 'many'"),
        ([row(seed="x")], "'seed' holds 'x'"),
    ],
)
def test_broken_tables_are_refused(write_table: WriteTable, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_study(write_table(rows))


def test_a_table_that_is_not_there_or_empty_is_refused(tmp_path: Path, write_table: WriteTable) -> None:
    with pytest.raises(UsageError, match="cannot be read as a table"):
        read_study(tmp_path / "none.csv")
    path = write_table([row()])
    path.write_text(path.read_text().splitlines()[0])
    with pytest.raises(UsageError, match="lacks rows"):
        read_study(path)


@pytest.mark.parametrize("value", ["", "nan", "inf", "high"])
def test_a_score_that_is_no_number_is_named(write_table: WriteTable, value: str) -> None:
    study = read_study(write_table([row(dice=value)]))
    with pytest.raises(
        UsageError, match="'dice' holds no number for arm scratch, label_budget 8, seed 0, scan_id a"
    ):
        metric_values(study.rows["scratch", 8], [0], ["a"], "dice")


def test_cells_are_read(write_table: WriteTable) -> None:
    cell = Cell("scratch", 8, 0, 1e-3, 400, 61.5, "folds of the pool")
    assert read_cells(write_table([vars(cell)])) == (cell,)
