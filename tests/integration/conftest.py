import io
import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

from medssl.cli.main import main
from medssl.progress import SilentProgress
from medssl.scans.simulate import simulate_cohort

RunCommand = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six small simulated heads."""
    folder = tmp_path_factory.mktemp("heads")
    simulate_cohort(folder, count=6, spacing_mm=5.0, seed=3, progress=SilentProgress())
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all runs, as users have it."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def command_environment() -> dict[str, str]:
    """One thread a process: tests share the machine, and float sums depend on the number of threads."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


@pytest.fixture(scope="session")
def medssl(command_environment: dict[str, str]) -> RunCommand:
    """Run the command line: in this process, which saves the imports, or in others behind ``prefix``."""

    def run(*arguments: str | Path, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        torch.set_num_threads(1)  # a study before may have chosen another number
        words = [*map(str, arguments)]
        if prefix:
            command = [*prefix, "-m", "medssl", *words]
            return subprocess.run(
                command, capture_output=True, text=True, env=command_environment, timeout=800, check=False
            )
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ending:
            main(words)
        return subprocess.CompletedProcess(words, int(ending.value.code or 0), out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def finished_run(
    heads: Path, store: Path, medssl: RunCommand, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of the smallest preset with all three tasks, never interrupted."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    done = medssl("pretrain", heads, "--out", run, "--store", store, "--config", "test")
    assert done.returncode == 0, done.stderr
    return run
