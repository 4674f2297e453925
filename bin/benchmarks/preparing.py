"""Time and disk of preparing heads, and the same on one core beside MONAI's transforms."""

import argparse
import itertools
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import monai.transforms
import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.measure import MEDSSL, Measured, median_ratio, summary, take_turns
from medssl.config.schema import DataConfig
from medssl.progress import SilentProgress
from medssl.scans.check_headers import check_scans
from medssl.scans.find import find_scans
from medssl.scans.prepare import prepare_scans
from medssl.scans.processes import count_cores
from medssl.scans.read import read_volume
from medssl.scans.resample import resample
from medssl.scans.simulate import simulate_cohort
from medssl.scans.store import ScanStore

HEAD = (180, 212, 176)
"""Voxels of 1 mm, which make whole numbers of `TARGET_MM`."""

REPEATS = 3

BESIDE_MONAI = 3
TARGET_MM = 0.8
"""Scans that are also prepared by MONAI, and to which spacing from 1 mm."""


def prepare(arguments: argparse.Namespace) -> Measured:
    """Prepare simulated heads of 1 mm: with one process and with one a core, then beside MONAI."""
    (count,) = arguments.scans or (16,)
    with tempfile.TemporaryDirectory() as scratch:
        folder, store = Path(scratch) / "scans", Path(scratch) / "store"
        simulate_cohort(folder, count=count, size=HEAD, spacing_mm=1.0, progress=SilentProgress())
        measured: Measured = {"scans": count, "source, MB a scan": _mb(folder.glob("sub-*/anat/*")) / count}
        measured |= _over_cores(folder, store, count)
        return measured | _beside_monai(sorted(folder.glob("sub-*/anat/*_T1w.nii.gz"))[:BESIDE_MONAI], store)


def _over_cores(folder: Path, store: Path, count: int) -> Measured:
    """Compare one process with one a core, less what the command takes when there is nothing to prepare.

    Commands that know nothing of each other, one a core, tell what the machine has to give: cores share
    memory and disk, and each slows down when the others work.
    """
    cores = count_cores()

    def command(store: Path, *options: str) -> list[str]:
        return [*MEDSSL, "prepare", str(folder), "--store", str(store), *options]

    def with_processes(workers: str) -> list[list[str]]:
        return [command(new_store(), "--set", f"data.prepare_workers={workers}")]

    def with_commands() -> list[list[str]]:
        options = ["--set", "data.prepare_workers=1", "--shard"]
        return [command(new_store(), *options, f"{shard}/{cores}") for shard in range(1, cores + 1)]

    def new_store() -> Path:
        return store / f"spread{next(rounds)}"

    rounds = itertools.count()
    _seconds([command(store)])
    measured: Measured = {"store, MB a scan": _mb(store.rglob("*.[bn]*")) / count}
    again = measured["again, s"] = _seconds([command(store)])
    begun = {
        "one process": lambda: with_processes("1"),
        f"one process a core ({cores})": lambda: with_processes("auto"),
        "one command a core": with_commands,
    }
    times = take_turns(
        {name: lambda begin=begin: _seconds(begin()) - again for name, begin in begun.items()},
        repeats=REPEATS,
    )
    for name, values in times.items():
        measured[f"{name}, scans an hour"] = summary([3600 * count / value for value in values])
        if name != "one process":
            measured[f"time of one process / of {name}"] = median_ratio(times["one process"], values)
    return measured


def _seconds(commands: Iterable[list[str]]) -> float:
    """Return how long commands take that begin together."""
    began = time.perf_counter()
    quiet = subprocess.DEVNULL
    processes = [subprocess.Popen(command, stdout=quiet, stderr=quiet) for command in commands]
    exit_codes = [process.wait() for process in processes]
    if any(exit_codes):
        raise SystemExit(f"medssl prepare ended with {exit_codes}")
    return time.perf_counter() - began


def _beside_monai(paths: list[Path], store: Path) -> Measured:
    """Compare with MONAI's chain on one core, reading and computing alike; only ours writes to a store."""
    torch.set_num_threads(1)
    data = DataConfig(spacing_mm=(TARGET_MM,) * 3, modality="mr", prepare_workers=0)
    checked, _ = check_scans(find_scans(paths[0].parents[2]), progress=SilentProgress())
    scans = [scan for scan in checked if scan.record.path in paths]
    rounds = itertools.count()

    def ours() -> float:
        began = time.perf_counter()
        own_store = ScanStore(store / f"round{next(rounds)}")
        prepare_scans(
            scans, store=own_store, spacing_mm=(TARGET_MM,) * 3, data=data, progress=SilentProgress()
        )
        return (time.perf_counter() - began) / len(paths)

    def monai_chain(mode: str | int) -> Callable[[], float]:
        chain = _monai_chain(mode)

        def measure() -> float:
            began = time.perf_counter()
            for path in paths:
                chain({"image": str(path)})
            return (time.perf_counter() - began) / len(paths)

        return measure

    candidates = {
        "medssl": ours,
        "MONAI, linear": monai_chain("bilinear"),
        "MONAI, cubic as medssl": monai_chain(3),
    }
    with threadpool_limits(1):
        seconds = take_turns(candidates, repeats=REPEATS)
    measured: Measured = {f"one core, {name}, s a scan": summary(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        if name != "medssl":
            measured[f"{name} / medssl"] = median_ratio(values, seconds["medssl"])
    return measured | _difference(paths[0])


def _monai_chain(mode: str | int) -> monai.transforms.Compose:
    t = monai.transforms
    return t.Compose(
        [
            t.LoadImaged("image", reader="NibabelReader"),
            t.EnsureChannelFirstd("image"),
            t.Orientationd("image", axcodes="RAS", labels=None),
            t.Spacingd("image", (TARGET_MM,) * 3, mode=mode, padding_mode="reflect", scale_extent=True),
            t.CropForegroundd("image", source_key="image", select_fn=lambda image: image > image.min()),
            t.ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0, 1, clip=True),
        ]
    )


def _difference(path: Path) -> Measured:
    """Compare what both make of a scan, resampled by cubic splines and scaled to its own range."""
    resampled = monai.transforms.Compose(_monai_chain(3).transforms[:4])({"image": str(path)})["image"][0]
    theirs = np.asarray(resampled, dtype=np.float32)
    volume, affine = read_volume(path)
    spacing = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    ours = resample(volume, (spacing[0], spacing[1], spacing[2]), (TARGET_MM,) * 3)
    if ours.shape != theirs.shape:
        raise SystemExit(f"MONAI makes {theirs.shape} of what medssl makes {ours.shape}")
    difference = np.abs(ours - theirs) / np.ptp(volume)
    return {
        "cubic, largest difference, share of the range": float(difference.max()),
        "cubic, mean difference, share of the range": float(difference.mean()),
    }


def _mb(files: Iterable[Path]) -> float:
    return sum(file.stat().st_size for file in files) / 1e6
