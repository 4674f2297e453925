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
from benchmarks.measure import Measured, Rate, median_ratio, summary, take_for, take_turns
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

REPEATS = 5
SECONDS = 2.0
"""Of one measurement at least."""

REST_S = 0.5
"""Until the workers of the stream before have filled their queues."""

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
            candidates: dict[str, Callable[[], Rate]] = {}
            for name, open_stream in streams.all_streams(folder, Path(scratch)).items():
                batches = stack.enter_context(open_stream())
                check_batches(name, batches)
                candidates[name] = lambda batches=batches: rate_of(batches)
            if arguments.nnunet:
                command = [arguments.nnunet, str(NNUNET_STREAM), str(folder), str(Path(scratch) / "nnunet")]
                candidates["nnU-Net, crops alone"] = lambda command=command: _run_nnunet(command)
            rates = take_turns(candidates, repeats=REPEATS)
            per_second = {name: [rate.crops_per_second for rate in rates[name]] for name in rates}
            for name, values in per_second.items():
                measured[f"{size}: {name}, crops/s"] = summary(values)
                if name != "medssl":
                    measured[f"{size}: medssl / {name}"] = median_ratio(per_second["medssl"], values)
            for name in rates:
                measured[f"{size}: {name}, processor ms a crop"] = summary(
                    [rate.processor_ms for rate in rates[name]]
                )
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


def rate_of(batches: Iterator[Tensor]) -> Rate:
    """Take batches for a while, after a rest."""
    time.sleep(REST_S)
    for _ in range(ALREADY_MADE):
        next(batches)
    return take_for(SECONDS, batches, crops=streams.BATCH)


def _run_nnunet(command: list[str]) -> Rate:
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    crops_per_second, processor_ms = map(float, finished.stdout.split()[-2:])
    return Rate(crops_per_second, processor_ms)
