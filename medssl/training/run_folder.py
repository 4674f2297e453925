"""The folder a run writes to, and the record of how the run is getting on."""

import csv
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from medssl.atomic import write_text
from medssl.errors import (
    CheckpointError,
    DivergedError,
    InterruptedRunError,
    MedsslError,
    NoUsableScanError,
    SkippedScansError,
    UsageError,
)
from medssl.progress import Progress
from medssl.scans.manifest import write_table

INTERRUPTED_EXIT_CODE = 130
LOCK = ".lock"


class RunFolder:
    """Paths and records of one run.

    Of several processes only the first owns the folder; what the others write is dropped.

    Args:
        path: The folder.
        is_owner: Whether this process writes.
    """

    def __init__(self, path: Path, *, is_owner: bool = True) -> None:
        self.path = path
        self.is_owner = is_owner
        self.config = path / "config.yaml"
        self.command = path / "command.txt"
        self.environment = path / "environment.json"
        self.status = path / "run.json"
        self.manifest = path / "manifest.csv"
        self.skipped = path / "skipped.csv"
        self.split = path / "split.csv"
        self.log_file = path / "log.txt"
        self.metrics = path / "metrics.csv"
        self.tensorboard = path / "tensorboard"
        self.figures = path / "figures"
        self.last_checkpoint = path / "checkpoints" / "last.pt"
        self.best_checkpoint = path / "checkpoints" / "best.pt"
        self.encoder = path / "encoder.safetensors"
        self.report = path / "report.html"
        self.model_card = path / "MODEL_CARD.md"

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, resume: bool, is_owner: bool = True) -> Iterator["RunFolder"]:
        """Open a run for writing, keep others out meanwhile, and record how it ended.

        Args:
            path: Where the run lies, or shall lie.
            resume: Whether to go on with the run that is there.
            is_owner: False in all processes but the first.

        Raises:
            UsageError: If there is no run to resume, a run or other files are in the way, or another process
                is using the folder.
        """
        run = cls(path, is_owner=is_owner)
        if not is_owner:
            yield run
            return
        _check(run, resume=resume)
        path.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            # First of all, so that a run that is killed at once can be resumed.
            run.update_status(status="running", exit_code=None, error=None)
            for folder in (run.last_checkpoint.parent, run.figures, run.tensorboard):
                folder.mkdir(exist_ok=True)
            try:
                yield run
            except (UsageError, NoUsableScanError, CheckpointError) as error:
                # A mistake in the command frees the folder for the next try; what was trained is never lost.
                if resume or run.has_checkpoints:
                    run.update_status(**_ending(error))
                else:
                    _clear(path)
                raise
            except BaseException as error:
                run.update_status(**_ending(error))
                raise
            run.update_status(status="finished", exit_code=0)

    @property
    def has_checkpoints(self) -> bool:
        """Whether something was trained: the run's own network, or one of a run below it."""
        return any(self.path.rglob(self.last_checkpoint.name))

    def update_status(self, **fields: Any) -> None:
        """Set fields of ``run.json``, such as ``status``, ``best`` or ``step_settings``; the others stay."""
        if self.is_owner:
            write_text(self.status, json.dumps({**self.read_status(), **fields}, indent=2) + "\n")

    def read_status(self) -> dict[str, Any]:
        """Return what ``run.json`` holds, nothing if it does not exist yet."""
        if not self.status.exists():
            return {}
        fields: dict[str, Any] = json.loads(self.status.read_text(encoding="utf-8"))
        return fields

    def log(self, message: str) -> None:
        """Add a line with the time of day to ``log.txt``."""
        if self.is_owner:
            with self.log_file.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {message}\n")

    def read_metrics(self) -> list[dict[str, str]]:
        """Return the rows of ``metrics.csv``, one an epoch."""
        if not self.metrics.exists():
            return []
        with self.metrics.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace ``metrics.csv``, whole or not at all; a column that a row lacks stays empty in it."""
        if self.is_owner:
            columns = list(dict.fromkeys(name for row in rows for name in row))
            write_table(self.metrics, columns, rows)


class LoggedProgress:
    """A `Progress` that also writes what it is told to the run's ``log.txt``.

    Attributes:
        warnings: What needed attention in this sitting.
    """

    def __init__(self, progress: Progress, run: RunFolder) -> None:
        self._progress = progress
        self._run = run
        self.track = progress.track
        self.warnings: list[str] = []

    def say(self, message: str) -> None:
        """Tell the user and the log one finished fact."""
        self._run.log(message)
        self._progress.say(message)

    def warn(self, message: str) -> None:
        """Tell the user and the log one fact that may need attention, and keep it for the report."""
        self.warnings.append(message)
        self._run.log(f"warning: {message}")
        self._progress.warn(message)


def _clear(folder: Path) -> None:
    """Remove what a new run wrote; hidden files may be someone else's, and stay with their folder."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.name.startswith("."):
            shutil.rmtree(entry)
        elif not entry.name.startswith(".") or entry.name == LOCK:
            entry.unlink()
    with suppress(OSError):
        folder.rmdir()


def _check(run: RunFolder, *, resume: bool) -> None:
    if run.path.exists() and not run.path.is_dir():
        raise UsageError(f"{run.path} is a file: choose a folder for the run.")
    if resume and not run.status.exists():
        raise UsageError(f"{run.path} holds no run to resume: check the path, or leave out --resume.")
    if not resume and run.status.exists():
        raise UsageError(
            f"{run.path} already holds a run: go on with it by --resume {run.path}, or choose another folder."
        )
    if (
        not resume
        and run.path.exists()
        and any(not entry.name.startswith(".") for entry in run.path.iterdir())
    ):
        raise UsageError(f"{run.path} is not empty: choose a new folder for the run.")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends.

    A record lock belongs to the process: unlike one made by ``flock``, it is not kept alive by worker
    processes that outlive a killed parent.
    """
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"Another run is using {folder}: wait until it ends, or choose another folder."
            ) from error
        yield


def _ending(error: BaseException) -> dict[str, Any]:
    if isinstance(error, SkippedScansError):
        return {"status": "finished", "exit_code": error.exit_code}
    if isinstance(error, InterruptedRunError | KeyboardInterrupt):
        return {"status": "interrupted", "exit_code": INTERRUPTED_EXIT_CODE}
    status = "diverged" if isinstance(error, DivergedError) else "failed"
    exit_code = error.exit_code if isinstance(error, MedsslError) else MedsslError.exit_code
    return {"status": status, "exit_code": exit_code, "error": str(error) or type(error).__name__}
