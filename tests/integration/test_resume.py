"""Runs that are killed, interrupted or shared between processes end as if nothing had happened."""

import csv
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.slow

OPTIONS = (
    "--config", "test", "--epochs", "3",
    "--set", "training.crops_per_scan=8", "--set", "training.checkpoint_every_s=0",
)  # fmt: skip


def metrics(run: Path) -> list[dict[str, str]]:
    timings = {"seconds", "step_s", "data_wait_s", "data_wait_share"}
    with (run / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in timings} for row in csv.DictReader(file)]


def number(text: str) -> float:
    """Return a cell of the table; an empty one, of a metric that did not apply, is not a number."""
    return float(text or "nan")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = load_file(one / "encoder.safetensors"), load_file(other / "encoder.safetensors")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name].tobytes() != second[name].tobytes()] == []


@pytest.fixture(scope="module")
def whole_run(heads: Path, store: Path, medssl, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    done = medssl("pretrain", heads, "--out", run, "--store", store, *OPTIONS)
    assert done.returncode == 0, done.stderr
    return run


def start(heads: Path, store: Path, run: Path, environment: dict[str, str]) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "medssl",
        "pretrain",
        str(heads),
        "--out",
        str(run),
        "--store",
        str(store),
    ]
    return subprocess.Popen([*command, *OPTIONS], env=environment, text=True, stderr=subprocess.PIPE)


def wait_for_saves(count: int, run: Path, process: "subprocess.Popen[str]") -> None:
    """Return once ``last.pt``, which is saved after every step, was seen to change ``count`` times."""
    seen: set[int] = set()
    while len(seen) < count and process.poll() is None:
        with suppress(FileNotFoundError):
            seen.add((run / "checkpoints" / "last.pt").stat().st_mtime_ns)
        time.sleep(0.005)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_a_random_moment_and_resumed_ends_bit_identical(
    seed: int, heads: Path, store: Path, whole_run: Path, medssl, command_environment, tmp_path: Path
) -> None:
    run, moment = tmp_path / "run", random.Random(seed)
    process = start(heads, store, run, command_environment)
    wait_for_saves(moment.randint(1, 15), run, process)
    time.sleep(moment.uniform(0, 0.2))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was over before it could be killed"
    resumed = medssl("pretrain", "--resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_weights(run, whole_run)
    assert metrics(run) == metrics(whole_run)


def test_killed_before_the_first_step_and_resumed_ends_bit_identical(
    heads: Path, whole_run: Path, medssl, command_environment, tmp_path: Path
) -> None:
    run, new_store = tmp_path / "run", tmp_path / "store"
    process = start(heads, new_store, run, command_environment)
    while not new_store.exists() and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    resumed = medssl("pretrain", "--resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_weights(run, whole_run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_saves_and_says_how_to_go_on(
    number: signal.Signals,
    heads: Path,
    store: Path,
    whole_run: Path,
    medssl,
    command_environment,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    process = start(heads, store, run, command_environment)
    wait_for_saves(2, run, process)
    process.send_signal(number)
    _, told = process.communicate(timeout=400)
    assert process.returncode == 130, told
    assert f"medssl pretrain --resume {run}" in told
    resumed = medssl("pretrain", "--resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_weights(run, whole_run)


def test_two_processes_give_the_losses_of_one(
    heads: Path, store: Path, whole_run: Path, medssl, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = medssl("pretrain", heads, "--out", run, "--store", store, *OPTIONS, prefix=torchrun)
    assert done.returncode == 0, done.stderr
    for ours, theirs in zip(metrics(run), metrics(whole_run), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            close = pytest.approx(number(value), rel=1e-3, abs=1e-3, nan_ok=True)
            assert number(ours[name]) == close, name
