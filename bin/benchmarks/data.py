"""How fast crops are made, beside MONAI, TorchIO, nnU-Net, and a floor that only reads."""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import cohorts, streams
from benchmarks.measure import Measured, median_ratio, summary, take_turns
from medssl.training.allocator import keep_freed_memory

VOLUMES = {
    "100 x 80 x 66": (40, (100, 80, 66)),
    "256^3": (6, (256,) * 3),
    "512 x 512 x 300": (3, (512, 512, 300)),
}
"""How many, and their voxels: small ones flatter whoever reads whole volumes; hospitals have the others."""

ON_DISK = {
    "medssl": "store/**/*.[bn]*",
    "medssl, compressed": "packed/**/*.[bn]*",
    "memory maps": "flat/*",
    "MONAI": "monai/*",
}

REPEATS = 3
SECONDS = 2.0
"""Of one measurement at least."""

ALREADY_MADE = 3
"""Batches that may lie ready from a pause: they are taken before the clock starts."""

NNUNET_STREAM = Path(__file__).with_name("nnunet_stream.py")


def data(arguments: argparse.Namespace) -> Measured:
    """Time every stream in turn, after its crops were looked at."""
    torch.set_num_threads(1)
    keep_freed_memory()
    measured: Measured = {}
    for size, (count, shape) in VOLUMES.items():
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
            folder = Path(scratch) / "scans"
            cohorts.make_volumes(folder, count=count, shape=shape)
            candidates: dict[str, Callable[[], float]] = {}
            for name, open_stream in streams.all_streams(folder, Path(scratch)).items():
                batches = stack.enter_context(open_stream())
                check_batches(name, batches)
                candidates[name] = lambda batches=batches: crops_per_second(batches)
            if arguments.nnunet:
                command = [arguments.nnunet, str(NNUNET_STREAM), str(folder), str(Path(scratch) / "nnunet")]
                candidates["nnU-Net, crops alone"] = lambda command=command: _run_nnunet(command)
            rates = take_turns(candidates, repeats=REPEATS)
            for name, values in rates.items():
                measured[f"{size}: {name}, crops/s"] = summary(values)
                if name != "medssl":
                    measured[f"{size}: medssl / {name}"] = median_ratio(rates["medssl"], values)
            for kind, pattern in ON_DISK.items():
                size_mb = sum(file.stat().st_size for file in Path(scratch).glob(pattern)) / 1e6
                measured[f"{size}: disk of {kind}, MB"] = size_mb
    return measured


def check_batches(name: str, batches: Iterator[Tensor]) -> None:
    """Raise SystemExit unless a stream yields finite crops of the right shape that differ from each other."""
    drawn = np.concatenate([np.asarray(next(batches)) for _ in range(8)])
    if drawn.shape != (8 * streams.BATCH, 1, *[streams.SIDE] * 3):
        raise SystemExit(f"{name} makes crops of shape {drawn.shape}")
    if not np.isfinite(drawn).all() or len(np.unique(drawn.mean(axis=(1, 2, 3, 4)))) < len(drawn) / 2:
        raise SystemExit(f"{name} makes crops that are not finite or not varied")


def crops_per_second(batches: Iterator[Tensor]) -> float:
    """Take batches for a while."""
    for _ in range(ALREADY_MADE):
        next(batches)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        next(batches)
        count += streams.BATCH
    return count / (time.perf_counter() - began)


def _run_nnunet(command: list[str]) -> float:
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(finished.stdout.split()[-1])
