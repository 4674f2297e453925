"""A whole study of tiny models."""

import json
import shutil
from pathlib import Path

import pytest

from medssl.config.finetune_schema import StudyConfig
from medssl.config.load import load_run_config
from medssl.errors import UsageError
from medssl.progress import SilentProgress
from medssl.scans.manifest import read_table
from medssl.workflows import study as workflow
from medssl.workflows.study import study
from medssl.workflows.study_findings import StudyOutcome

SMALL = (
    "training.epochs=1", "training.steps_per_epoch=2", "data.prepare_workers=0", "speed.device=cpu",
    "speed.precision=float32", "speed.channels_last=false", "study.workers=1", "study.labels=[2,4]",
    "study.seeds=1", "study.tuning_cases=1", "study.learning_rates=[0.002,0.004]", "study.tune_at=[2]",
    "study.arms={pretrained: {}, scratch: {mode: from_scratch}, twin: {mode: from_scratch}}",
)  # fmt: skip


def run_study(source: Path | None, out: Path, encoder: Path | None, *overrides: str) -> StudyOutcome:
    return study(
        source,
        config=load_run_config(StudyConfig, "finetune", [*SMALL, *overrides]),
        out=out,
        encoder=encoder,
        resume=source is None,
        progress=SilentProgress(),
    )


@pytest.fixture(scope="module")
def finished(balls: Path, ball_run: Path, tmp_path_factory) -> tuple[Path, StudyOutcome]:
    out = tmp_path_factory.mktemp("studies") / "study"
    return out, run_study(balls, out, ball_run)


@pytest.fixture
def own_study(finished, tmp_path: Path) -> Path:
    """A copy of the finished study that a test may spoil."""
    return shutil.copytree(finished[0], tmp_path / "study")


def test_each_test_case_is_scored_by_each_model(finished):
    out, _ = finished
    rows = read_table(out / "study.csv")
    keys = [(row["arm"], row["label_budget"], row["seed"], row["subject_id"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {
        (arm, budget, "0", subject)
        for arm in ("pretrained", "scratch", "twin")
        for budget in ("2", "4")
        for subject in ("sub8", "sub9", "sub10")
    }
    assert all(0 <= float(row["dice"]) <= 1 for row in rows)
    cells = read_table(out / "cells.csv")
    assert {row["updates"] for row in cells} == {"2"}
    assert len(cells) == 6


def test_twins_of_one_kind_agree_to_the_last_bit(finished):
    """Both arms from scratch get the same cases, weights, crops and updates, and so the same scores."""
    out, _ = finished
    by_arm = {
        arm: [
            {name: value for name, value in row.items() if name != "arm"}
            for row in read_table(out / "study.csv")
            if row["arm"] == arm
        ]
        for arm in ("scratch", "twin", "pretrained")
    }
    assert by_arm["scratch"] == by_arm["twin"]
    assert by_arm["scratch"] != by_arm["pretrained"]


def test_what_brings_nothing_is_said_to_bring_nothing(finished):
    _, outcome = finished
    judged = [sentence for sentence in finished[1].sentences if "twin" in sentence]
    assert "No gain of twin over scratch could be shown at 2 labels" in judged[0]
    assert not any("twin is better" in sentence for sentence in outcome.sentences)


def test_the_table_has_a_row_for_each_arm_and_budget(finished):
    _, outcome = finished
    heading, *rows = outcome.table
    assert heading[:4] == ("labels", "arm", "Dice", "difference from scratch")
    assert {row[1] for row in rows} == {"scratch", "twin", "pretrained"}
    assert all(len(row) == len(heading) for row in rows)
    assert {row[3] for row in rows if row[1] == "twin"} == {"+0.000 [0.000, 0.000]"}


def test_from_scratch_has_the_architecture_of_the_arm_it_is_compared_with():
    arms = "study.arms={scratch: {mode: from_scratch}, noise: {encoder: runs/noise}}"
    config = load_run_config(StudyConfig, "finetune", [arms])
    named = Path("runs/noise")
    assert workflow._find_encoders(config, None) == {"scratch": named, "noise": named}
    default = Path("runs/first")
    assert workflow._find_encoders(config, default) == {"scratch": default, "noise": named}


def test_rates_were_chosen_on_tuning_cases(finished):
    out, _ = finished
    rows = read_table(out / "tuning.csv")
    assert {(row["arm"], row["label_budget"], row["learning_rate"]) for row in rows} == {
        (arm, "2", rate) for arm in ("pretrained", "scratch", "twin") for rate in ("0.002", "0.004")
    }
    chosen = {row["arm"]: row["learning_rate"] for row in rows if row["is_chosen"] == "True"}
    assert {row["arm"]: row["learning_rate"] for row in read_table(out / "cells.csv")} == chosen
    tuning = {row["scan_id"] for row in read_table(out / "split.csv") if row["split"] == "tuning"}
    for path in out.glob("tuning/*/*/*/result.json"):
        judged = {row["scan_id"] for row in json.loads(path.read_text())["rows"]}
        assert judged == tuning
    for path in out.glob("cells/*/*/*/result.json"):
        assert not tuning & {row["scan_id"] for row in json.loads(path.read_text())["rows"]}


def test_report_and_figure_are_there(finished):
    out, outcome = finished
    page = outcome.report.read_text()
    assert outcome.report == out / "report.html"
    assert "last state was kept" in page
    assert (out / "study.png").stat().st_size > 10_000
    assert json.loads((out / "run.json").read_text())["status"] == "finished"


def snapshot(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("result.json")}


def test_what_is_finished_is_not_trained_again(own_study: Path, balls: Path):
    table = (own_study / "study.csv").read_bytes()
    lost = own_study / "cells" / "pretrained" / "labels_4" / "seed_0"
    shutil.rmtree(lost)
    before = snapshot(own_study)
    run_study(None, own_study, None)
    after = snapshot(own_study)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"cells/pretrained/labels_4/seed_0/result.json"}
    assert (own_study / "study.csv").read_bytes() == table


def test_more_seeds_are_added(own_study: Path):
    before = snapshot(own_study)
    run_study(None, own_study, None, "study.seeds=2", "study.labels=[2]")
    after = snapshot(own_study)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[-2] for name in set(after) - set(before)} == {"seed_1"}
    assert {row["seed"] for row in read_table(own_study / "study.csv")} == {"0", "1"}


def test_a_late_mistake_loses_no_model(balls: Path, ball_run: Path, tmp_path: Path, monkeypatch):
    def fail(*arguments):
        raise UsageError("The table is odd.")

    monkeypatch.setattr(workflow, "write_findings", fail)
    out = tmp_path / "study"
    small = ("study.arms={scratch: {mode: from_scratch}}", "study.labels=[2]", "study.seeds=1")
    with pytest.raises(UsageError, match="table is odd"):
        run_study(balls, out, ball_run, *small, "study.learning_rates=[0.004]")
    assert (out / "cells" / "scratch" / "labels_2" / "seed_0" / "result.json").is_file()


def test_an_early_mistake_leaves_no_folder(balls: Path, ball_run: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="9 labels are more than the 7 that remain"):
        run_study(balls, tmp_path / "study", ball_run, "study.labels=[9]")
    assert not (tmp_path / "study").exists()


def test_classification_beside_a_covariate(balls: Path, ball_run: Path, tmp_path: Path):
    outcome = run_study(
        balls, tmp_path / "study", ball_run, "goal=classification", "cases.targets=[radius>4]",
        "cases.covariates=[radius]", "study.labels=[4]", "study.seeds=1", "study.learning_rates=[0.004]",
        "study.tuning_cases=2", "training.seed=1",
        "study.arms={scratch: {mode: from_scratch}, both: {has_covariates: true}, "
        "radius: {mode: covariates_only, has_covariates: true}}",
    )  # fmt: skip
    rows = read_table(tmp_path / "study" / "study.csv")
    assert {row["target"] for row in rows} == {"radius>4"}
    by_arm = {
        arm: [float(r["probability"]) for r in rows if r["arm"] == arm] for arm in ("scratch", "radius")
    }
    truth = [int(row["truth"]) for row in rows if row["arm"] == "radius"]
    assert [probability > 0.5 for probability in by_arm["radius"]] == [answer == 1 for answer in truth]
    assert all(0 <= probability <= 1 for probability in by_arm["scratch"])
    assert any("AUROC" in sentence for sentence in outcome.sentences)
