"""A study through the real command line: its cost, killed and resumed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

OPTIONS = (
    "--labels", "2,4", "--seeds", "1", "--device", "cpu", "--set", "study.learning_rates=[0.004]",
    "--set", "study.tuning_cases=1", "--set", "study.workers=1", "--set", "training.epochs=1",
    "--set", "training.steps_per_epoch=2", "--set", "data.prepare_workers=0",
    "--set", "speed.precision=float32", "--set", "speed.channels_last=false",
)  # fmt: skip


def results(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("result.json")}


def test_dry_run_tells_the_cost_and_writes_nothing(balls: Path, ball_run: Path, medssl, tmp_path: Path):
    out = tmp_path / "study"
    before = sorted(balls.parent.iterdir())
    done = medssl("study", balls, "--encoder", ball_run, "--out", out, *OPTIONS, "--dry-run")
    assert done.returncode == 0, done.stderr
    rows = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    rows = {name: value.strip() for name, value in rows.items()}
    assert rows["cases"] == "7 to learn from, 1 to tune on, 3 to test"
    assert rows["models"] == "0 to tune learning rates, 4 to report"
    assert rows["label budgets"] == "2, 4"
    assert rows["updates a model"].startswith("2, ")
    assert rows["time in all"].startswith("about ")
    assert list(tmp_path.iterdir()) == []
    assert sorted(balls.parent.iterdir()) == before


def test_killed_and_resumed_ends_in_the_same_table(
    balls: Path, ball_run: Path, store: Path, medssl, command_environment, tmp_path: Path
):
    words = ["study", balls, "--encoder", ball_run, "--store", store, *OPTIONS]
    whole = medssl(*words, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "medssl", *map(str, words), "--out", str(out)],
        env=command_environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while len(results(out)) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"
    before = results(out)
    assert 2 <= len(before) < 4
    resumed = medssl("study", "--resume", out)
    assert resumed.returncode == 0, resumed.stderr
    after = results(out)
    assert len(after) == 4
    assert {name: after[name] for name in before} == before
    for name in ("study.csv", "split.csv", "tuning.csv"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    told = [done.stdout.splitlines()[:-2] for done in (whole, resumed)]
    assert told[0] == told[1]
    assert any("over scratch" in sentence or "than scratch" in sentence for sentence in told[0])


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (("--labels", "8"), "8 labels are more than the 7 that remain"),
        (("--arms", "pretrained"), "an arm called scratch"),
        (("--set", "study.seds=3"), "study.seeds"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_no_folder(
    extra, sentence: str, balls: Path, ball_run: Path, store: Path, medssl, tmp_path: Path
):
    words = ["study", balls, "--encoder", ball_run, "--store", store, "--out", tmp_path / "study", *OPTIONS]
    done = medssl(*words, *extra)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert sentence in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "study").exists()
