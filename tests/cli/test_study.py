from pathlib import Path
from typing import Any

import pytest

from medssl.cli.study import parse_arms, parse_labels
from medssl.config.finetune_schema import StudyConfig
from medssl.config.load import dump_yaml, load_run_config
from medssl.errors import UsageError


class Outcome:
    report = Path("study/report.html")
    table = (("labels", "arm"), ("2", "scratch"))
    sentences = ("No gain of pretrained over scratch could be shown.",)


@pytest.fixture
def calls(replace_workflow) -> dict[str, list[dict[str, Any]]]:
    calls: dict[str, list[dict[str, Any]]] = {"study": [], "estimate": []}

    def study(source: Path | None, **options: Any) -> type[Outcome]:
        calls["study"].append({"source": source, **options})
        return Outcome

    def estimate(source: Path, **options: Any) -> list[tuple[str, str]]:
        calls["estimate"].append({"source": source, **options})
        return [("models", "16 to report"), ("time in all", "about 3 h")]

    replace_workflow("study", study=study)
    replace_workflow("study_cost", estimate=estimate)
    return calls


def test_a_study_is_told_in_its_own_words(medssl, calls) -> None:
    finished = medssl("study", "data", "--encoder", "first", "--out", "study")
    assert finished.exit_code == 0, finished.err
    [call] = calls["study"]
    assert (call["source"], call["out"], call["encoder"]) == (Path("data"), Path("study"), Path("first"))
    assert call["config"] == load_run_config(StudyConfig, "finetune")
    assert finished.out.splitlines() == [
        "labels  arm",
        "2       scratch",
        "No gain of pretrained over scratch could be shown.",
        "report  study/report.html",
        "figure  study/study.png",
    ]


def test_flags_are_settings(medssl, calls) -> None:
    finished = medssl(
        "study", "data", "--out", "study", "--labels", "2, 8,all", "--seeds", "3", "--target", "age>65",
        "--covariate", "age", "--arms", "scratch,other=runs/x+y", "--seed", "4", "--device", "cpu",
        "--set", "study.tuning_seeds=2",
    )  # fmt: skip
    assert finished.exit_code == 0, finished.err
    config = calls["study"][0]["config"]
    assert config.goal == "classification"
    assert config.study.labels == (2, 8, "all")
    assert (config.study.seeds, config.study.tuning_seeds, config.training.seed) == (3, 2, 4)
    assert (config.cases.targets, config.cases.covariates) == (("age>65",), ("age",))
    assert {name: (arm.mode, arm.encoder) for name, arm in config.study.arms.items()} == {
        "scratch": ("from_scratch", None), "other": ("full", "runs/x+y"),
    }  # fmt: skip


def test_dry_run_estimates_and_needs_no_folder(medssl, calls) -> None:
    finished = medssl("study", "data", "--encoder", "first", "--dry-run")
    assert finished.exit_code == 0, finished.err
    assert finished.out.splitlines() == ["models       16 to report", "time in all  about 3 h"]
    assert [call["source"] for call in calls["estimate"]] == [Path("data")]
    assert not calls["study"]


def test_labels() -> None:
    assert parse_labels("2, 4,all") == [2, 4, "all"]


def test_arms_are_modes_encoders_and_extras() -> None:
    arms = parse_arms(
        "pretrained, scratch,frozen,linear_probe+covariates,noise=runs/n,noise+mean_teacher=runs/n"
    )
    assert {name: (arm["mode"], arm["encoder"]) for name, arm in arms.items()} == {
        "pretrained": ("full", None),
        "scratch": ("from_scratch", None),
        "frozen": ("frozen", None),
        "linear_probe+covariates": ("linear_probe", None),
        "noise": ("full", "runs/n"),
        "noise+mean_teacher": ("full", "runs/n"),
    }
    assert [name for name, arm in arms.items() if arm["has_covariates"]] == ["linear_probe+covariates"]
    assert [arm["unlabelled"] for arm in arms.values()] == [*["none"] * 5, "mean_teacher"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pretraned,scratch", "There is no arm 'pretraned'"),
        ("pretrained+covariate", "after \\+ comes covariates"),
        ("scratch,scratch", "Arm 'scratch'.*a name of its own"),
        ("=runs/x", "Arm ''.*a name of its own"),
        ("../x=runs/x", "can name a folder"),
    ],
)
def test_arms_that_are_none(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parse_arms(text)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Name the labelled data"),
        (("data",), "Name the labelled data"),
        (("data", "--out", "study", "--labels", "2,four"), "study.labels"),
        (("data", "--out", "study", "--labels", "0"), "study.labels"),
        (("data", "--out", "study", "--set", "study.seds=2"), "study.seeds"),
        (("data", "--out", "study", "--arms", "other"), "There is no arm 'other'"),
    ],
)
def test_mistakes_are_one_sentence(medssl, calls, arguments: tuple[str, ...], sentence: str) -> None:
    finished = medssl("study", *arguments)
    assert finished.exit_code == 2
    assert sentence in finished.err
    assert finished.err.count("\n") == 1
    assert not calls["study"]


def test_resume_goes_on_as_the_study_says(medssl, calls, tmp_path: Path) -> None:
    config = load_run_config(StudyConfig, "finetune", ["study.seeds=7"])
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    finished = medssl("study", "--resume", str(tmp_path), "--labels", "3")
    assert finished.exit_code == 0, finished.err
    [call] = calls["study"]
    assert (call["source"], call["out"], call["resume"]) == (None, tmp_path, True)
    assert (call["config"].study.seeds, call["config"].study.labels) == (7, (3,))
    for others in (("data",), ("--config", "finetune"), ("--arms", "scratch"), ("--dry-run",)):
        refused = medssl("study", *others, "--resume", str(tmp_path))
        assert refused.exit_code == 2
        assert "Leave out DATA" in refused.err
