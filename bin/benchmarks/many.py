"""Many scans: finding, checking and planning them, and the memory of training on them."""

import argparse
import gzip
import resource
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.measure import MEDSSL, Measured, peak_mb, summary, timed
from medssl.config.schema import DataConfig
from medssl.progress import SilentProgress
from medssl.scans.check_headers import check_scans, header_memory
from medssl.scans.find import find_scans
from medssl.scans.plan import plan_spacing

IN_A_FOLDER = 100
"""Scans in a folder of the index, with the same spacing."""

SMALL = ["--config", "test", "--set", "data.prepare_workers=auto"]
EPOCH = ["--epochs", "1", "--set", "training.batch_size=64", "--set", "training.log_every_steps=10"]


def scale(arguments: argparse.Namespace) -> Measured:
    """Index a folder of small scans, and once more from what was remembered."""
    (count,) = arguments.scans or (100_000,)
    measured: Measured = {"scans": count}
    with tempfile.TemporaryDirectory() as scratch:
        folder, store = Path(scratch) / "scans", Path(scratch) / "store"
        with timed(measured, "make"):
            _make_index(folder, count)
        for name in ("first", "again"):
            with timed(measured, f"{name}: find"):
                found = find_scans(folder)
            with timed(measured, f"{name}: check headers"):
                memory = header_memory(store)
                checked, skipped = check_scans(found, progress=SilentProgress(), memory=memory)
            with timed(measured, f"{name}: plan"):
                plan_spacing([scan.header for scan in checked], DataConfig())
            if len(checked) != count or skipped:
                raise SystemExit(f"{len(checked)} of {count} scans passed")
            measured[f"{name}: peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            del found, checked, memory  # as a run of its own begins without them
    return measured


def _make_index(folder: Path, count: int) -> None:
    """Write small scans, each with an origin of its own, as patients lie differently in the scanner."""
    random = np.random.default_rng(0)
    for index in range(count):
        subject = folder / f"site{index // IN_A_FOLDER:04}"
        if index % IN_A_FOLDER == 0:
            subject.mkdir(parents=True)
            voxels = random.integers(0, 1000, (10, 11, 12)).astype(np.int16)
            content = nib.Nifti1Image(voxels, np.diag([*random.uniform(0.5, 2, 3), 1])).to_bytes()
            header = nib.Nifti1Header(content[: nib.Nifti1Header.sizeof_hdr])
        for row in ("srow_x", "srow_y", "srow_z"):
            header[row][3] = random.uniform(-200, 200)
        packed = gzip.compress(header.binaryblock + content[header.sizeof_hdr :], compresslevel=1)
        (subject / f"scan{index:06}.nii.gz").write_bytes(packed)


def memory(arguments: argparse.Namespace) -> Measured:
    """Pretrain for an epoch on more and more scans, and watch what the process has for itself.

    Pages of the store that are mapped into memory are left out: the system takes them back when it needs to.
    """
    measured: Measured = {"medssl --help, s": summary([_seconds([*MEDSSL, "--help"]) for _ in range(5)])}
    with tempfile.TemporaryDirectory() as scratch:
        for count in arguments.scans or (100, 1000, 10_000):
            folder, store, run = (Path(scratch) / f"{name}{count}" for name in ("scans", "store", "run"))
            _make_small_scans(folder, count)
            common = [str(folder), "--store", str(store), *SMALL]
            subprocess.run([*MEDSSL, "prepare", *common], check=True, stdout=subprocess.DEVNULL)
            command = [*MEDSSL, "pretrain", *common, "--out", str(run), "--device", "cpu", *EPOCH]
            began = datetime.now()
            measured[f"{count} scans, MB"] = peak_mb(command)
            measured[f"{count} scans, s until the first step"] = (_first_step(run) - began).total_seconds()
    return measured


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _first_step(run: Path) -> datetime:
    """Return when a run had settled how to train, which is the last thing before the first step."""
    lines = (run / "log.txt").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if "Training on" in line)
    return datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S")


def _make_small_scans(folder: Path, count: int) -> None:
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(count):
        voxels = gaussian_filter(random.normal(500, 300, (20, 20, 20)), 1).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / f"scan{index:06}.nii")
