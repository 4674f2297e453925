"""Two gloo processes under torchrun against one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medssl.training.checkpoint import read_checkpoint
from medssl.training.distributed import (
    any_process,
    from_first,
    gather,
    mean_over_processes,
    process_group,
    synchronised,
    world_size,
)
from medssl.training.run_folder import RunFolder

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


SECTIONS = {"optimiser": {"accumulate": 2, "ema_decay": 0.9}}


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which two processes trained."""
    folder = tmp_path_factory.mktemp("two")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = [str(HERE / "two_processes.py"), str(HERE / "conftest.py"), str(folder), json.dumps(SECTIONS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, *launcher, *script],
        capture_output=True,
        text=True,
        env=environment,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def numbers(run: Path) -> list[dict[str, float]]:
    skipped = ("seconds", "step_s", "data_wait_s", "data_wait_share")
    return [
        {name: float(value) for name, value in row.items() if value and name not in skipped}
        for row in RunFolder(run).read_metrics()
    ]


def test_two_processes_give_the_losses_and_weights_of_one(
    tiny_run: Any, standins: SimpleNamespace, two_processes: Path
) -> None:
    tiny_run(standins.make_config(**SECTIONS), model=standins.make_model(dropout=0.0))
    together, alone = numbers(two_processes / "whole"), numbers(tiny_run.folder)
    assert len(together) == len(alone) == 3
    for one, two in zip(alone, together, strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-6)
    weights = torch.load(two_processes / "weights.pt", weights_only=True)
    for name, value in tiny_run.weights().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5)


def test_a_signal_to_one_process_stops_both_at_the_same_step(two_processes: Path) -> None:
    for rank in range(2):
        message = (two_processes / f"stopped{rank}.txt").read_text()
        assert message.startswith("Stopped and saved after step 2")
    assert RunFolder(two_processes / "stopped").read_status()["status"] == "interrupted"
    checkpoint = read_checkpoint(two_processes / "stopped" / "checkpoints" / "last.pt")
    assert checkpoint["counters"]["step"] == 2
    assert checkpoint["averages"]["flip/loss"][1] == 8  # the samples of both processes in two steps


def test_alone_everything_is_itself(standins: SimpleNamespace) -> None:
    model, values = standins.make_model(), torch.tensor([1.0, 2.0])
    with process_group(torch.device("cpu")):
        assert world_size() == 1
        assert gather("a") == ["a"]
        assert from_first(lambda: 3) == 3
        assert any_process([True, False]) == [True, False]
        assert mean_over_processes(values) is values
        assert synchronised(model, torch.device("cpu")) is model
