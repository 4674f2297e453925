"""Small scans, and models that segment them by a threshold."""

from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from medssl.config.schema import DataConfig
from medssl.finetune.model import FinetuneModel
from medssl.finetune.predictor import Predictor
from medssl.finetune.segmentation import Segmentation
from medssl.finetune.weights import MODEL, save_model
from medssl.networks.build import build_encoder
from medssl.training.settings import StepSettings

CROP = (16, 16, 16)
CLASSES = {0: "background", 3: "bright"}


class Threshold(nn.Module):
    """Says class 1 where the first channel is above a threshold."""

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        above = batch["image"][:, :1] - self.threshold
        return {"segmentation": 20 * torch.cat([-above, above], dim=1)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def threshold() -> Callable[..., Predictor]:
    """Make a predictor of one network for each threshold."""

    def make(*thresholds: float) -> Predictor:
        models = [Threshold(value) for value in thresholds or (0.5,)]
        return Predictor(models, Segmentation(CLASSES), CROP, StepSettings("cpu"))  # type: ignore[arg-type]

    return make


@pytest.fixture
def write_scan(tmp_path: Path) -> Callable[..., Path]:
    """Write a smooth scan below a folder; another seed gives another one."""

    def write(name: str, *, seed: int = 0, shape=(24, 20, 18), affine: NDArray | None = None) -> Path:
        noise = np.random.default_rng(seed).normal(size=shape)
        smooth = ndimage.gaussian_filter(noise, 2)
        voxels = np.round(1000 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.int16)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine).to_filename(path)
        return path

    return write


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    """Write a run folder with a small segmentation model of random weights."""

    def write(
        run: Path, *, seed: int = 0, channel_names=("image",), name: str = MODEL, time_points: str = "skip"
    ) -> Path:
        torch.manual_seed(seed)
        spacing_mm = (1.0, 1.0, 1.0)
        encoder = build_encoder(
            "segresnet", "tiny", in_channels=len(channel_names), crop_size=CROP, spacing_mm=spacing_mm
        )
        goal = Segmentation(CLASSES)
        model = FinetuneModel(encoder, goal.make_head(encoder, is_linear=False), name=goal.name)
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = DataConfig(modality="mr", prepare_workers=0, time_points=time_points)
        about = {
            "is_linear": False,
            "data": data.model_dump(mode="json"),
            "spacing_mm": list(spacing_mm),
            "crop_size": list(CROP),
            "channel_names": list(channel_names),
        }
        save_model(path, model, goal=goal, provenance=about)
        return run

    return write
