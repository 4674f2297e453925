from pathlib import Path
from typing import Any

import pytest

from medssl.config.finetune_schema import FinetuneConfig
from medssl.config.load import dump_yaml, load_run_config


class Outcome:
    models = (Path("run/model.safetensors"),)


@pytest.fixture
def calls(replace_workflow) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def finetune(source: Path | None, **options: Any) -> type[Outcome]:
        calls.append({"source": source, **options})
        return Outcome

    replace_workflow("finetune", finetune=finetune)
    return calls


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    config = load_run_config(FinetuneConfig, "finetune", ["training.seed=5", "cases.labels=3"])
    (folder / "config.yaml").write_text(dump_yaml(config))
    return folder


def test_a_plain_command_takes_the_preset(medssl, calls) -> None:
    finished = medssl("finetune", "segmentation", "data", "--encoder", "first", "--out", "run")
    assert finished.exit_code == 0, finished.err
    [call] = calls
    assert (call["source"], call["out"], call["encoder"]) == (Path("data"), Path("run"), Path("first"))
    assert call["config"] == load_run_config(FinetuneConfig, "finetune", ["goal=segmentation"])
    assert call["resume"] is False
    assert "run/model.safetensors" in finished.out
    assert "run/report.html" in finished.out


def test_flags_are_settings(medssl, calls) -> None:
    flags = "--labels 8 --target age>65 --target texture<5 --covariate age --folds 5 --seed 4 --device cuda:1"
    medssl("finetune", "classification", "data", "--out", "run", "--encoder", "e", "--frozen", *flags.split())
    expected = [
        "goal=classification", "cases.labels=8", "cases.targets=['age>65', 'texture<5']",
        "cases.covariates=[age]", "cases.folds=5", "transfer.mode=frozen", "training.seed=4",
        "speed.device=cuda:1",
    ]  # fmt: skip
    assert calls[0]["config"] == load_run_config(FinetuneConfig, "finetune", expected)


@pytest.mark.parametrize(
    ("flag", "mode"),
    [("--from-scratch", "from_scratch"), ("--frozen", "frozen"), ("--linear-probe", "linear_probe")],
)
def test_modes(medssl, calls, flag: str, mode: str) -> None:
    medssl("finetune", "segmentation", "data", "--out", "run", "--encoder", "e", flag)
    assert calls[0]["config"].transfer.mode == mode


def test_set_wins_over_flags(medssl, calls) -> None:
    medssl("finetune", "segmentation", "data", "--out", "run", "--set", "cases.labels=9", "--labels", "8")
    assert calls[0]["config"].cases.labels == 9


def test_a_column_of_any_name_passes(medssl, calls) -> None:
    column = "Grösse: [mm], #1 'a'"
    medssl("finetune", "segmentation", "data", "--out", "run", "--label-column", column)
    assert calls[0]["config"].cases.label_column == column


def test_resume_goes_on_with_the_config_of_the_run(medssl, calls, run_folder: Path) -> None:
    finished = medssl("finetune", "--resume", str(run_folder))
    assert finished.exit_code == 0, finished.err
    [call] = calls
    assert (call["source"], call["out"], call["resume"]) == (None, run_folder, True)
    assert (call["config"].training.seed, call["config"].cases.labels) == (5, 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("segmentation", "data"), "Name the goal"),
        (("segmentation",), "Name the goal"),
        (("segment", "data", "--out", "run"), "goal must be"),
        (("segmentation", "data", "--out", "run", "--frozen"), "--encoder"),
        (("segmentation", "data", "--out", "run", "--linear-probe"), "--encoder"),
        (
            ("segmentation", "data", "--out", "run", "--encoder", "e", "--frozen", "--from-scratch"),
            "--from-scratch and --frozen exclude one another",
        ),
        (("segmentation", "data", "--out", "run", "--labels", "0"), "cases.labels"),
        (
            ("segmentation", "data", "--out", "run", "--set", "transfer.layer_decy=0.5"),
            "transfer.layer_decay",
        ),
        (("segmentation", "data", "--out", "run", "--set", "transfer.mode=thaw"), "transfer.mode must be"),
        (("segmentation", "data", "--out", "run", "--config", "fintune"), "finetune"),
    ],
)
def test_mistakes_are_one_sentence(medssl, calls, arguments: tuple[str, ...], sentence: str) -> None:
    finished = medssl("finetune", *arguments)
    assert finished.exit_code == 2
    assert sentence in finished.err
    assert finished.err.count("\n") == 1
    assert not calls


@pytest.mark.parametrize(
    "others", [("segmentation",), ("--out", "x"), ("--encoder", "e"), ("--config", "finetune")]
)
def test_resume_takes_no_other_start(medssl, calls, run_folder: Path, others: tuple[str, ...]) -> None:
    finished = medssl("finetune", *others, "--resume", str(run_folder))
    assert finished.exit_code == 2
    assert "Leave out" in finished.err
    assert not calls


def test_resume_of_what_is_no_run_says_so(medssl, calls, tmp_path: Path) -> None:
    finished = medssl("finetune", "--resume", str(tmp_path))
    assert finished.exit_code == 2
    assert "is not a run folder" in finished.err
