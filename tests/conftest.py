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
def ball_run(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of pretraining on the same scans."""
    from medssl.config.load import load_config
    from medssl.workflows.pretrain import pretrain

    run = tmp_path_factory.mktemp("pretrained") / "run"
    options = ["tasks={inpainting: {}, location: {}}", "training.epochs=1", "data.modality=mr"]
    scans = balls.with_name("scans.csv")
    scans.write_text("image\n" + "".join(f"scan{number}_0.nii.gz\n" for number in range(8)))
    pretrain(scans, config=load_config("test", options), out=run)
    return run
