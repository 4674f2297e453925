"""Fixtures that several rooms share."""

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # a busy machine is not a failure
settings.load_profile("no deadline")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """Folder of real scans beside a developer's checkout; tests that want it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real scans of ../shared/data are not on this machine")
    return SHARED_DATA


@pytest.fixture(scope="session")
def write_balls() -> Callable[..., Path]:
    """Write a table of small scans: a bright ball in noise, its label map, its radius in voxels."""

    def write(folder: Path, *, pool: int = 8, test: int = 3, channels: int = 1, side: int = 18) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        rows = []
        for number in range(pool + test):
            radius = (3, 5)[number % 2]
            distances = np.indices((side,) * 3) - rng.integers(6, side - 6, size=(3, 1, 1, 1))
            is_ball = np.linalg.norm(distances, axis=0) <= radius
            names = [f"scan{number}_{channel}.nii.gz" for channel in range(channels)]
            for name in names:
                volume = (400 + 300 * is_ball + rng.normal(0, 60, is_ball.shape)).astype(np.int16)
                nib.Nifti1Image(volume, np.eye(4)).to_filename(folder / name)
            label = f"label{number}.nii.gz"
            nib.Nifti1Image(is_ball.astype(np.uint8), np.eye(4)).to_filename(folder / label)
            rows.append([*names, label, f"sub{number}", "test" if number >= pool else "", radius])
        images = ["image", *(f"image_{channel + 1}" for channel in range(1, channels))]
        table = folder / "cases.csv"
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([[*images, "label", "subject_id", "split", "radius"], *rows])
        return table

    return write


@pytest.fixture(scope="session")
def balls(write_balls: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of eight balls to learn from and three to test on."""
    return write_balls(tmp_path_factory.mktemp("balls"))


@pytest.fixture(scope="session")
def ball_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as pretraining on such scans leaves it: encoder, and decoder in a checkpoint."""
    import torch

    from medssl.config.schema import DataConfig
    from medssl.networks.build import build_encoder
    from medssl.networks.decoder import UNetDecoder
    from medssl.networks.weights import save_encoder

    run = tmp_path_factory.mktemp("pretrained") / "run"
    (run / "checkpoints").mkdir(parents=True)
    torch.manual_seed(1)
    spacing_mm, crop_size = (1.0, 1.0, 1.0), (16, 16, 16)
    encoder = build_encoder("residual_unet", "tiny", crop_size=crop_size, spacing_mm=spacing_mm)
    data = DataConfig(spacing_mm=spacing_mm, modality="mr", crop_to_foreground=False, prepare_workers=0)
    about = {
        "data": data.model_dump(mode="json"),
        "spacing_mm": spacing_mm,
        "crop_size": crop_size,
        "data_fingerprint": {"modalities": {"mr": 8}, "scans": 8},
        **{"tasks": {"location": {}}, "seed": 0, "steps": 1, "medssl_version": "0"},
    }
    save_encoder(run / "encoder.safetensors", encoder, provenance=about)
    decoder = UNetDecoder(encoder.channels, encoder.strides, out_channels=3).state_dict()
    state = {f"heads.location.decoder.{name}": tensor for name, tensor in decoder.items()}
    torch.save(
        {"model": state, "ema": None, "architecture": encoder.architecture, "counters": {}},
        run / "checkpoints" / "last.pt",
    )
    return run
