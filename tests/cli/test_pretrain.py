from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from medssl.config.load import dump_yaml, load_config
from medssl.config.schema import PretrainConfig
from medssl.scans.record import SkippedScan


@dataclass
class Calls:
    """What the workflow was asked to do."""

    made: list[dict[str, Any]] = field(default_factory=list)

    @property
    def config(self) -> PretrainConfig:
        return self.made[-1]["config"]


@dataclass(frozen=True)
class Outcome:
    skipped: int = 2


@dataclass(frozen=True)
class DryRun:
    rows: list[tuple[str, str]]
    skipped: list[SkippedScan]
    config: str


@pytest.fixture
def calls(replace_workflow) -> Calls:
    calls = Calls()

    def pretrain(source: Path | None, **options: Any) -> Outcome:
        calls.made.append({"source": source, **options})
        return Outcome()

    def dry_run(source: Path | None, **options: Any) -> DryRun:
        calls.made.append({"source": source, **options})
        return DryRun(
            [("scans", "3")],
            [SkippedScan(Path("/scans/bad.nii"), "It is empty.")],
            "training:\n  epochs: 3\n",
        )

    replace_workflow("pretrain", pretrain=pretrain)
    replace_workflow("dry_run", dry_run=dry_run)
    return calls


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(dump_yaml(load_config("test", ["training.seed=5"])))
    return folder


def test_a_plain_command_takes_the_laptop_preset(medssl, calls: Calls) -> None:
    finished = medssl("pretrain", "scans", "--out", "runs/first")
    assert finished.exit_code == 0
    assert calls.config == load_config("laptop")
    assert calls.made[0]["source"] == Path("scans")
    assert calls.made[0]["out"] == Path("runs/first")
    assert calls.made[0]["resume"] is False
    assert "runs/first/report.html" in finished.out
    assert "tensorboard --logdir runs/first/tensorboard" in finished.out


def test_flags_are_settings(medssl, calls: Calls) -> None:
    flags = "--encoder segresnet --epochs 3 --spacing 1,1,2.5 --seed 4 --device cuda:1 --config test"
    medssl("pretrain", "scans", "--out", "run", *flags.split())
    expected = ["encoder.name=segresnet", "training.epochs=3", "data.spacing_mm=[1, 1, 2.5]"]
    assert calls.config == load_config("test", [*expected, "training.seed=4", "speed.device=cuda:1"])


def test_spacing_can_be_put_back_to_auto(medssl, calls: Calls, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("data: {spacing_mm: [1, 1, 1]}")
    medssl("pretrain", "scans", "--out", "run", "--config", str(mine), "--spacing", "auto")
    assert calls.config.data.spacing_mm == "auto"


def test_set_wins_over_flags_and_the_last_over_the_first(medssl, calls: Calls) -> None:
    settings = ["--set", "training.epochs=4", "--set", "training.epochs=5", "--epochs", "3"]
    medssl("pretrain", "scans", "--out", "run", *settings)
    assert calls.config.training.epochs == 5


def test_tasks_are_chosen_with_the_settings_they_have(medssl, calls: Calls, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("tasks: {rotation: {weight: 3}, position: {gap_voxels: 2}}")
    medssl("pretrain", "scans", "--out", "run", "--config", str(mine), "--tasks", "rotation, inpainting")
    assert calls.config.tasks == {"rotation": {"weight": 3}, "inpainting": {}}


def test_resume_goes_on_with_the_config_of_the_run(medssl, calls: Calls, run_folder: Path) -> None:
    medssl("pretrain", "--resume", str(run_folder), "--epochs", "9")
    assert calls.made[0]["source"] is None
    assert calls.made[0]["out"] == run_folder
    assert calls.made[0]["resume"] is True
    assert calls.config.training.seed == 5
    assert calls.config.training.epochs == 9


def test_resume_takes_no_other_folder(medssl, calls: Calls, run_folder: Path) -> None:
    finished = medssl("pretrain", "scans", "--out", "other", "--dry-run", "--resume", str(run_folder))
    assert finished.exit_code == 2
    assert "Leave out FOLDER and --out and --dry-run" in finished.err
    assert not calls.made


def test_resume_of_what_is_no_run_says_so(medssl, calls: Calls, tmp_path: Path) -> None:
    finished = medssl("pretrain", "--resume", str(tmp_path))
    assert finished.exit_code == 2
    assert "holds no config.yaml" in finished.err


@pytest.mark.parametrize("arguments", [[], ["scans"], ["--out", "run"], ["--dry-run"]])
def test_what_is_missing_is_told(medssl, calls: Calls, arguments: list[str]) -> None:
    finished = medssl("pretrain", *arguments)
    assert finished.exit_code == 2
    assert "Name the folder of scans" in finished.err


def test_strict_ends_with_4_when_scans_were_skipped(medssl, calls: Calls) -> None:
    assert medssl("pretrain", "scans", "--out", "run").exit_code == 0
    finished = medssl("pretrain", "scans", "--out", "run", "--strict")
    assert finished.exit_code == 4
    assert "2 files were skipped; run/skipped.csv says why." in finished.err


def test_a_dry_run_prints_and_needs_no_run_folder(medssl, calls: Calls) -> None:
    finished = medssl("pretrain", "scans", "--dry-run")
    assert finished.exit_code == 0
    assert finished.out.splitlines() == [
        "scans  3",
        "",
        "1 files would be skipped:",
        "  /scans/bad.nii: It is empty.",
        "",
        "The config, with everything that was planned:",
        "training:",
        "  epochs: 3",
    ]
    assert "resume" not in calls.made[0]


def test_a_mistake_in_a_setting_comes_before_any_work(medssl, calls: Calls) -> None:
    finished = medssl("pretrain", "scans", "--out", "run", "--set", "training.epoch=3")
    assert finished.exit_code == 2
    assert finished.err == "command line: training.epoch is not a setting; the nearest is training.epochs.\n"
    assert not calls.made
