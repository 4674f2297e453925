from pathlib import Path
from types import SimpleNamespace

import pytest

from medssl.workflows.prepare import Shard


@pytest.fixture
def calls(replace_workflow) -> list:
    calls: list = []

    def prepare(*arguments, **options) -> SimpleNamespace:
        calls.append((arguments, options))
        tables = {"manifest": Path("manifest.csv"), "skipped_table": Path("skipped.csv")}
        return SimpleNamespace(prepared=[1, 2], skipped=[3], **tables)

    replace_workflow("prepare", prepare=prepare, Shard=Shard)
    return calls


def test_prepare_hands_its_arguments_on(medssl, calls: list) -> None:
    finished = medssl("prepare", "scans", "--store", "kept", "--shard", "2/8", "--set", "data.modality=mr")
    [(arguments, options)] = calls
    assert arguments == (Path("scans"),)
    assert (options["store"], options["shard"]) == (Path("kept"), Shard(2, 8))
    assert options["data"].modality == "mr"
    assert "2 scans, listed in manifest.csv" in finished.out
    assert finished.exit_code == 0


def test_strict_tells_of_skipped_files_by_the_exit_code(medssl, calls: list) -> None:
    assert medssl("prepare", "scans", "--store", "kept", "--strict").exit_code == 4


@pytest.mark.parametrize("shard", ["2", "a/b", "9/8"])
def test_a_shard_that_is_none(medssl, calls: list, shard: str) -> None:
    finished = medssl("prepare", "scans", "--store", "kept", "--shard", shard)
    assert finished.exit_code == 2
    assert not calls
