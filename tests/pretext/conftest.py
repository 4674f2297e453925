"""Small stand-ins that keep the contracts of encoder and task."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from medssl.networks.encoder import Encoder, FeatureMaps
from medssl.pretext.inpainting import InpaintingSettings, InpaintingTask
from medssl.pretext.task import TaskContext
from medssl.training.batch import collate


class TinyEncoder(Encoder):
    """Two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels = 1
        self.channels = (4, 8)
        self.strides = ((1, 1, 1), (2, 2, 2))
        self.architecture = {}
        self.fine = nn.Conv3d(1, 4, kernel_size=3, padding=1)
        self.coarse = nn.Conv3d(4, 8, kernel_size=3, stride=2, padding=1)
        self.calls: list[tuple[int, ...]] = []

    def forward(self, volume: Tensor) -> FeatureMaps:
        self.calls.append(tuple(volume.shape))
        fine = torch.relu(self.fine(volume))
        return [fine, torch.relu(self.coarse(fine))]


@pytest.fixture
def tiny_encoder() -> TinyEncoder:
    """An encoder of two levels that keeps the shapes it was called with in ``calls``."""
    torch.manual_seed(0)
    return TinyEncoder()


@pytest.fixture
def make_context() -> Callable[..., TaskContext]:
    """Make the context of a cube of 16 voxels of 1 mm, with changes."""

    def make(**changes: Any) -> TaskContext:
        defaults = {
            "crop_size": (16, 16, 16),
            "spacing_mm": (1.0, 1.0, 1.0),
            "scan_shapes": ((32, 32, 32),),
            "smallest_input": (3, 3, 3),
        }
        return TaskContext(**(defaults | changes))

    return make


@pytest.fixture
def make_blobs() -> Callable[..., np.ndarray]:
    """Make a volume ``(1, X, Y, Z)`` in [0, 1] of smooth random structure."""

    def make(shape: tuple[int, int, int], seed: int = 0, smoothness: float = 2.0) -> np.ndarray:
        noise = gaussian_filter(np.random.RandomState(seed).rand(*shape), smoothness)
        return ((noise - noise.min()) / np.ptp(noise))[None].astype(np.float32)

    return make


@pytest.fixture
def make_inpainting(make_context):
    def make(crop_size=(16, 16, 16), spacing_mm=(1.0, 1.0, 1.0), **settings) -> InpaintingTask:
        context = make_context(crop_size=crop_size, spacing_mm=spacing_mm)
        return InpaintingTask(InpaintingSettings(**settings), context)

    return make


@pytest.fixture
def make_samples(make_blobs):
    def make(task: InpaintingTask, count: int, smoothness: float = 2.0) -> list[dict]:
        transform = task.make_transform().set_random_state(0)
        return [
            transform({"image": make_blobs(task.context.crop_size, seed, smoothness)})
            for seed in range(count)
        ]

    return make


@pytest.fixture
def make_batch(make_samples):
    def make(task: InpaintingTask, count: int = 2) -> dict[str, torch.Tensor]:
        return collate(make_samples(task, count), task.batch_keys)

    return make
