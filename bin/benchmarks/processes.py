"""Two processes under torchrun beside one, a thread each, on the same batches."""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import MEDSSL, Measured, median_ratio, summary, take_turns
from medssl.progress import SilentProgress
from medssl.scans.simulate import simulate_cohort

REPEATS = 3
SCANS = 12
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]
OPTIONS = ["--config", "test", "--device", "cpu", "--epochs", "2", "--set", "encoder.size=tiny"]
OPTIONS += ["--set", "crop_size=32", "--set", "training.batch_size=8", "--set", "training.crops_per_scan=16"]
OPTIONS += ["--set", "speed.precision=float32", "--set", "speed.channels_last=false"]


def processes(arguments: argparse.Namespace) -> Measured:
    """Time the last epoch of short runs, in turn, and compare their losses."""
    losses: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "scans"
        simulate_cohort(folder, count=SCANS, spacing_mm=4.0, progress=SilentProgress())

        def run(count: int) -> float:
            with tempfile.TemporaryDirectory(dir=scratch) as run:
                torchrun = [
                    sys.executable,
                    "-m",
                    "torch.distributed.run",
                    "--nproc-per-node",
                    str(count),
                    "-m",
                ]
                launcher = MEDSSL if count == 1 else [*torchrun, "medssl"]
                out = Path(run) / "run"
                command = [
                    *launcher,
                    "pretrain",
                    str(folder),
                    "--store",
                    f"{scratch}/store",
                    "--out",
                    str(out),
                ]
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                subprocess.run([*command, *OPTIONS], check=True, capture_output=True, env=environment)
                with (out / "metrics.csv").open() as file:
                    rows = list(csv.DictReader(file))
            losses[count] = float(rows[-1]["train/loss"])
            return float(rows[-1]["step_s"])

        candidates = {str(count): lambda count=count: run(count) for count in (1, 2)}
        one, two = take_turns(candidates, repeats=REPEATS).values()
    return {
        "one process, s a step": summary(one),
        "two processes, s a step": summary(two),
        "one / two": median_ratio(one, two),
        "difference of the last loss": abs(losses[1] - losses[2]),
    }
