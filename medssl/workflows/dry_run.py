"""What a pretraining run would do and cost, without writing anything."""

import math
import resource
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medssl.config.load import dump_yaml
from medssl.config.schema import PretrainConfig
from medssl.progress import Progress
from medssl.scans.plan import planned_shape
from medssl.scans.record import SkippedScan
from medssl.training.batch import collate
from medssl.training.devices import choose_device
from medssl.training.precision import time_step
from medssl.workflows.cohort import Candidates, find_candidates
from medssl.workflows.pretrain import default_store
from medssl.workflows.setup import Network, build_network

BYTES_A_VOXEL = 2
PREPARING_VOXELS_A_S = 4e6
"""Source voxels one core prepares in a second: a quarter of its rate on cached heads, to allow for disks."""

GIB = 2**30


@dataclass(frozen=True)
class DryRun:
    """What would happen.

    Attributes:
        rows: Names and values to print.
        skipped: Files that would be left out, judged by their names and headers.
        config: The resolved config as YAML.
    """

    rows: list[tuple[str, str]]
    skipped: list[SkippedScan]
    config: str


def dry_run(
    source: Path, *, config: PretrainConfig, out: Path | None, store: Path | None, progress: Progress
) -> DryRun:
    """Find scans, plan the run, time one step on noise, and write nothing.

    Args:
        source: A folder, file or CSV.
        config: The run's settings.
        out: The run folder it would make, if known already.
        store: Where it would keep prepared scans, if not in the usual place.
        progress: Who is told.

    Raises:
        MedsslError: As `medssl.workflows.pretrain.pretrain` would for the same input.
    """
    candidates = find_candidates(source, data=config.data, progress=progress)
    shapes = [planned_shape(scan.header, candidates.spacing_mm) for scan in candidates.scans]
    network = build_network(config, shapes=shapes, spacing_mm=candidates.spacing_mm)
    device = choose_device(config.speed.device)
    step_s = time_step(
        network.model,
        _noise_batch(network),
        objective=network.mixture,
        speed=network.config.speed,
        optimiser=network.config.optimiser,
        device=device,
    )
    rows = [
        *_describe_scans(source, candidates, config),
        *_describe_network(network, candidates),
        *_describe_cost(network, candidates, shapes, device=device, step_s=step_s),
        *_describe_places(out, store),
    ]
    return DryRun(rows=rows, skipped=candidates.skipped, config=dump_yaml(network.config))


def _describe_scans(source: Path, candidates: Candidates, config: PretrainConfig) -> list[tuple[str, str]]:
    subjects = {scan.record.subject_id for scan in candidates.scans}
    held_out = round(config.data.val_fraction * len(subjects))
    return [
        ("source", f"{source} ({candidates.layout})"),
        ("scans", f"{len(candidates.scans)} of {len(subjects)} subjects, about {held_out} of them held out"),
        ("skipped", f"{len(candidates.skipped)} files; more may follow once voxels are read"),
    ]


def _describe_network(network: Network, candidates: Candidates) -> list[tuple[str, str]]:
    encoder = network.config.encoder
    parameters = sum(parameter.numel() for parameter in network.model.encoder.parameters())
    heads = sum(parameter.numel() for parameter in network.model.heads.parameters())
    facts = {task.name: task.facts() for task in network.mixture.tasks}
    tasks = [
        f"{name} ({', '.join(f'{fact} {value}' for fact, value in values.items())})" if values else name
        for name, values in facts.items()
    ]
    return [
        ("spacing", f"{_by(candidates.spacing_mm)} mm"),
        ("crop", f"{_by(network.mixture.crop_size)} voxels"),
        ("window read for it", f"{_by(network.mixture.window_size)} voxels"),
        ("tasks", ", ".join(tasks)),
        ("encoder", f"{encoder.name} {encoder.size}, {parameters / 1e6:.2f} M parameters"),
        ("heads", f"{heads / 1e6:.2f} M parameters"),
    ]


def _describe_cost(
    network: Network,
    candidates: Candidates,
    shapes: Sequence[tuple[int, int, int]],
    *,
    device: torch.device,
    step_s: float,
) -> list[tuple[str, str]]:
    training = network.config.training
    n_train = len(candidates.scans) * (1 - network.config.data.val_fraction)
    steps = training.epochs * math.ceil(n_train * training.crops_per_scan / training.batch_size)
    disk_bytes = sum(math.prod(shape) for shape in shapes) * BYTES_A_VOXEL
    source_voxels = sum(math.prod(scan.header.shape) for scan in candidates.scans)
    prepare_s = source_voxels / PREPARING_VOXELS_A_S
    return [
        ("steps", f"{steps} in {training.epochs} epochs, {training.batch_size} crops each"),
        ("device", f"{device}, {step_s:.2g} s a step as timed now on noise"),
        (
            "memory",
            f"about {_peak_memory_bytes(device) / GIB:.1f} GiB for a process, as measured in that step",
        ),
        ("disk", f"at most {disk_bytes / GIB:.2f} GiB for prepared scans"),
        (
            "time",
            f"about {_duration(prepare_s)} of one core to prepare, {_duration(steps * step_s)} to train",
        ),
    ]


def _describe_places(out: Path | None, store: Path | None) -> list[tuple[str, str]]:
    rows = []
    if out is not None:
        free = shutil.disk_usage(next(parent for parent in out.absolute().parents if parent.exists())).free
        rows = [
            ("run folder", f"{out}, {free / GIB:.1f} GiB free there"),
            ("store", str(store or default_store(out))),
        ]
    return rows


def _noise_batch(network: Network) -> dict[str, Tensor]:
    """Return a batch of transformed noise: the cost of a step does not depend on what it sees."""
    transform = network.mixture.make_transform()
    transform.set_random_state(seed=0)
    rng = np.random.default_rng(0)
    window = (1, *network.mixture.window_size)
    samples = [
        transform({"image": rng.random(window, dtype=np.float32)})
        for _ in range(network.config.training.batch_size)
    ]
    seeds = torch.arange(len(samples))
    return {**collate(samples, network.mixture.batch_keys), "seed": seeds}


def _peak_memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
