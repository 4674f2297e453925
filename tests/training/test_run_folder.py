import json
import subprocess
import sys
from pathlib import Path

import pytest

from medssl.errors import (
    CheckpointError,
    DivergedError,
    InterruptedRunError,
    NoUsableScanError,
    SkippedScansError,
    UsageError,
)
from medssl.progress import SilentProgress
from medssl.training.environment import describe_environment
from medssl.training.run_folder import LoggedProgress, RunFolder


def test_a_new_run_has_its_folders_and_ends_finished(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "deep" / "run", resume=False) as run:
        assert run.last_checkpoint.parent.is_dir()
        assert run.figures.is_dir()
        assert run.read_status()["status"] == "running"
        run.update_status(best={"epoch": 3})
    assert run.read_status() == {"status": "finished", "exit_code": 0, "error": None, "best": {"epoch": 3}}


@pytest.mark.parametrize(
    ("error", "status", "exit_code"),
    [
        (InterruptedRunError("stopped"), "interrupted", 130),
        (KeyboardInterrupt(), "interrupted", 130),
        (DivergedError("nan"), "diverged", 5),
        (SkippedScansError("two"), "finished", 4),
        (ZeroDivisionError(), "failed", 1),
    ],
)
def test_how_a_run_ended_is_recorded(
    tmp_path: Path, error: BaseException, status: str, exit_code: int
) -> None:
    with pytest.raises(type(error)), RunFolder.open(tmp_path / "run", resume=False) as run:
        raise error
    assert (run.read_status()["status"], run.read_status()["exit_code"]) == (status, exit_code)
    with RunFolder.open(tmp_path / "run", resume=True):
        assert run.read_status()["error"] is None


@pytest.mark.parametrize("error", [NoUsableScanError("none"), UsageError("typo"), CheckpointError("none")])
def test_a_mistake_leaves_the_folder_free_for_the_next_try(tmp_path: Path, error: Exception) -> None:
    for folder in (tmp_path / "new", tmp_path / "with hidden files"):
        if folder.name != "new":
            folder.mkdir()
            (folder / ".someone_elses").touch()
        with pytest.raises(type(error)), RunFolder.open(folder, resume=False):
            raise error
    assert not (tmp_path / "new").exists()
    assert [path.name for path in folder.iterdir()] == [".someone_elses"]


def test_what_was_trained_outlives_a_store_that_vanishes(tmp_path: Path) -> None:
    def train(run: RunFolder) -> None:
        run.last_checkpoint.write_text("hours of work")
        raise NoUsableScanError("none can be read any more")

    with pytest.raises(NoUsableScanError), RunFolder.open(tmp_path / "run", resume=False) as run:
        train(run)
    assert run.last_checkpoint.read_text() == "hours of work"
    assert (run.read_status()["status"], run.read_status()["exit_code"]) == ("failed", 3)


def test_what_was_trained_below_outlives_a_mistake(tmp_path: Path) -> None:
    """The folds of a run and the models of a study lie in run folders of their own."""

    def train_one(run: RunFolder) -> None:
        with RunFolder.open(run.path / "fold_1", resume=False) as below:
            below.last_checkpoint.write_text("hours of work")
        raise UsageError("other labels")

    with pytest.raises(UsageError), RunFolder.open(tmp_path / "run", resume=False) as run:
        train_one(run)
    assert (run.path / "fold_1" / "checkpoints" / "last.pt").read_text() == "hours of work"


def test_a_run_that_is_killed_at_once_is_one_or_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    def die(run: RunFolder, **fields: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "update_status", die)
        with pytest.raises(SystemExit), RunFolder.open(tmp_path / "run", resume=False):
            pass
    with RunFolder.open(tmp_path / "run", resume=False) as run:
        assert run.read_status()["status"] == "running"


def test_a_mistake_on_resume_leaves_the_run_as_it_is(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", resume=False) as run:
        run.last_checkpoint.touch()
    with pytest.raises(UsageError), RunFolder.open(tmp_path / "run", resume=True):
        raise UsageError("other settings")
    assert run.last_checkpoint.exists()


def test_a_run_or_other_files_in_the_way_are_refused(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", resume=False):
        pass
    with (
        pytest.raises(UsageError, match="already holds a run"),
        RunFolder.open(tmp_path / "run", resume=False),
    ):
        pass
    with pytest.raises(UsageError, match="is not empty"), RunFolder.open(tmp_path, resume=False):
        pass
    with pytest.raises(UsageError, match="holds no run to resume"), RunFolder.open(tmp_path, resume=True):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"), RunFolder.open(tmp_path / "file", resume=False):
        pass


OPEN = """
import sys, pathlib
from medssl.errors import UsageError
from medssl.training.run_folder import RunFolder
try:
    with RunFolder.open(pathlib.Path(sys.argv[1]), resume=True):
        print("opened")
except UsageError as error:
    print(error)
"""


def open_elsewhere(path: Path) -> str:
    done = subprocess.run([sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=True)
    return done.stdout


def test_two_processes_cannot_use_a_run_at_once(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", resume=False):
        assert "Another run is using" in open_elsewhere(tmp_path / "run")
    assert open_elsewhere(tmp_path / "run") == "opened\n"


def test_only_the_owner_writes(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", resume=False) as run:
        with RunFolder.open(tmp_path / "run", resume=False, is_owner=False) as other:
            other.log("lost")
            other.update_status(status="lost")
            other.write_metrics([{"epoch": 1}])
        assert run.read_status()["status"] == "running"
        assert not run.log_file.exists()
        assert run.read_metrics() == []


def test_metrics_keep_columns_that_come_later(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", resume=False) as run:
        run.write_metrics([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "val/loss": 0.75}])
        assert run.metrics.read_text() == "epoch,loss,val/loss\n1,0.5,\n2,0.25,0.75\n"
        assert [row["val/loss"] for row in run.read_metrics()] == ["", "0.75"]


def test_what_is_said_is_logged_too(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", resume=False) as run:
        progress = LoggedProgress(SilentProgress(), run)
        progress.say("two scans")
        progress.warn("one is odd")
        with progress.track("work", total=2) as advance:
            advance(1)
    first, second = run.log_file.read_text().splitlines()
    assert first.endswith("  two scans")
    assert second.endswith("  warning: one is odd")


def test_the_environment_names_versions_but_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "hospital-7")
    monkeypatch.setenv("USER", "dr-who")
    text = json.dumps(describe_environment())
    assert '"torch": "' in text
    assert "hospital-7" not in text
    assert "dr-who" not in text
