from pathlib import Path

import pytest

from medssl.scans.record import SkippedScan


class Outcome:
    table, predicted, kept, skipped = Path("out/volumes.csv"), 3, 2, []


@pytest.fixture
def calls(replace_workflow) -> list:
    calls: list = []

    def predict(*arguments, **options):
        calls.append((arguments, options))
        return Outcome

    replace_workflow("predict", predict=predict)
    return calls


def test_predict_hands_its_arguments_on(medssl, calls: list) -> None:
    finished = medssl(
        "predict", "run", "scans", "--out", "out", "--device", "cpu", "--store", "kept", "--flips",
        "--probabilities", "--overlays", "3",
    )  # fmt: skip
    [(arguments, options)] = calls
    del options["progress"]
    assert arguments == (Path("run"), Path("scans"))
    assert options == {
        "out": Path("out"),
        "store": Path("kept"),
        "device": "cpu",
        "flips": True,
        "probabilities": True,
        "overlays": 3,
    }
    assert finished.exit_code == 0
    assert finished.out.splitlines() == [
        "scans    3 predicted, 2 kept from before",
        "results  out",
        "table    out/volumes.csv",
    ]


def test_a_plain_command_draws_twelve_scans_and_writes_no_probabilities(medssl, calls: list) -> None:
    medssl("predict", "run", "scans", "--out", "out")
    [(_, options)] = calls
    assert (options["overlays"], options["probabilities"], options["flips"]) == (12, False, False)


@pytest.mark.parametrize(("text", "count"), [("none", 0), ("0", 0), ("5", 5)])
def test_overlays(medssl, calls: list, text: str, count: int) -> None:
    medssl("predict", "run", "scans", "--out", "out", "--overlays", text)
    assert calls[0][1]["overlays"] == count


@pytest.mark.parametrize("text", ["all", "-1", "2.5"])
def test_overlays_that_are_no_number(medssl, calls: list, text: str) -> None:
    finished = medssl("predict", "run", "scans", "--out", "out", f"--overlays={text}")
    assert finished.exit_code == 2
    assert "number of scans, or none" in finished.err
    assert not calls


def test_strict_fails_where_scans_were_skipped(medssl, calls: list, monkeypatch) -> None:
    monkeypatch.setattr(Outcome, "skipped", [SkippedScan(Path("a.nii"), "It is empty.")])
    assert medssl("predict", "run", "scans", "--out", "out").exit_code == 0
    finished = medssl("predict", "run", "scans", "--out", "out", "--strict")
    assert finished.exit_code == 4
    assert "skipped.csv" in finished.err
