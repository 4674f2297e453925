"""From prepared scans and a config to the network, the tasks and the batches of a run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from medssl.config.schema import PretrainConfig
from medssl.errors import NoUsableScanError
from medssl.networks.build import build_encoder, coarsest_stride
from medssl.pretext.mixture import PretextMixture, PretextModel
from medssl.pretext.registry import build_tasks
from medssl.pretext.task import Sample, TaskContext
from medssl.progress import Progress
from medssl.scans.crop import read_window
from medssl.scans.plan import plan_crop_size
from medssl.scans.record import PreparedScan
from medssl.training.devices import choose_loader_threads
from medssl.training.distributed import rank, world_size
from medssl.training.seeds import derive_seed
from medssl.training.stream import CropStream

Size3D = tuple[int, int, int]
Spacing3D = tuple[float, float, float]

PICTURE_SCANS = 2
"""Validation scans whose pictures are drawn again and again, to see the same crop improve."""


@dataclass(frozen=True)
class Network:
    """What is trained.

    Attributes:
        config: With everything filled in that was planned from the data.
        mixture: The tasks.
        model: Encoder and heads, newly initialised from the run's seed.
    """

    config: PretrainConfig
    mixture: PretextMixture
    model: PretextModel


def build_network(config: PretrainConfig, *, shapes: Sequence[Size3D], spacing_mm: Spacing3D) -> Network:
    """Plan the crop from the scans' shapes where the config leaves it open, and build tasks and network.

    Args:
        config: Of the run.
        shapes: Voxels of the prepared scans along R, A and S.
        spacing_mm: Their spacing.

    Raises:
        ConfigError: If a task or the encoder does not fit the crop.
    """
    crop_size = _plan_crop(config, shapes=shapes, spacing_mm=spacing_mm)
    torch.manual_seed(derive_seed("weights", config.training.seed))
    encoder = build_encoder(
        config.encoder.name, config.encoder.size, crop_size=crop_size, spacing_mm=spacing_mm
    )
    context = TaskContext(
        crop_size=crop_size,
        spacing_mm=spacing_mm,
        scan_shapes=tuple(shapes),
        smallest_input=encoder.smallest_input(),
    )
    mixture = PretextMixture(build_tasks(config.tasks, context), crop_size)
    resolved = config.model_copy(
        update={
            "data": config.data.model_copy(update={"spacing_mm": spacing_mm}),
            "crop_size": crop_size,
            "tasks": {task.name: task.settings.model_dump(mode="json") for task in mixture.tasks},
        }
    )
    return Network(config=resolved, mixture=mixture, model=PretextModel(encoder, mixture))


def open_stream(scans: Sequence[PreparedScan], *, network: Network, progress: Progress) -> CropStream:
    """Return the endless batches of a run; a scan that can no longer be read is told once and passed over."""
    training = network.config.training
    return CropStream(
        scans,
        read_window=partial(read_image, size=network.mixture.window_size),
        transform=network.mixture.make_transform(),
        batch_keys=network.mixture.batch_keys,
        batch_size=training.batch_size,
        crops_per_scan=training.crops_per_scan,
        seed=training.seed,
        threads=choose_loader_threads(network.config.speed.loader_threads),
        rank=rank(),
        world_size=world_size(),
        on_unreadable=lambda scan, reason: progress.warn(
            f"{scan.record.path} is left out from here on: {reason}"
        ),
    )


def read_image(scan: PreparedScan, *, size: Size3D, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return a random window of a scan under ``image``, as it is stored, and where in the scan it lies."""
    window = read_window(scan, size, rng)
    return {
        "image": window.voxels,
        "window_start": np.array(window.start),
        "scan_shape": np.array(scan.shape),
    }


def draw_samples(stream: CropStream, scans: Sequence[PreparedScan], *, count: int) -> Iterator[Sample]:
    """Yield ``count`` fixed samples of ``scans``, taking turns, transformed but not collated.

    Raises:
        NoUsableScanError: If there is no scan to draw from.
    """
    if not scans:
        raise NoUsableScanError("There is no scan to draw crops from.")
    for index in range(count):
        yield stream.sample(scans[index % len(scans)], index // len(scans))


def _plan_crop(config: PretrainConfig, *, shapes: Sequence[Size3D], spacing_mm: Spacing3D) -> Size3D:
    if config.crop_size != "auto":
        return config.crop_size
    return plan_crop_size(
        shapes,
        spacing_mm=spacing_mm,
        stride=coarsest_stride(config.encoder.name, config.encoder.size, spacing_mm=spacing_mm),
        max_voxels=config.max_crop_voxels,
    )
