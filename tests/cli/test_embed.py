from pathlib import Path

import pytest


@pytest.fixture
def calls(replace_workflow) -> list:
    calls: list = []
    replace_workflow("embed", embed=lambda *arguments, **options: calls.append((arguments, options)))
    return calls


def test_embed_hands_its_arguments_on(medssl, calls: list, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    finished = medssl("embed", "run", "scans", "--out", str(table), "--device", "cpu", "--store", "kept")
    [(arguments, options)] = calls
    assert arguments == (Path("run"), Path("scans"))
    assert (options["out"], options["device"], options["store"]) == (table, "cpu", Path("kept"))
    assert finished.out == f"Wrote {table}\n"


def test_the_table_has_a_known_kind(medssl, calls: list, tmp_path: Path) -> None:
    finished = medssl("embed", "run", "scans", "--out", str(tmp_path / "table.xlsx"))
    assert finished.exit_code == 2
    assert "must end in .csv, .npz, .parquet" in finished.err
    assert not calls


def test_a_table_is_never_overwritten(medssl, calls: list, tmp_path: Path) -> None:
    table = tmp_path / "table.npz"
    table.touch()
    assert medssl("embed", "run", "scans", "--out", str(table)).exit_code == 2
    assert not calls
