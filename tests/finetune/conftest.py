"""Small cases in a store, and a small network."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medssl.config.schema import DataConfig
from medssl.networks.build import build_encoder
from medssl.networks.encoder import Encoder
from medssl.progress import SilentProgress
from medssl.scans.cases import PreparedCase, prepare_cases
from medssl.scans.datasets import find_labelled
from medssl.scans.labelled import LabelledCase
from medssl.scans.record import IntensityRecipe, ScanHeader, ScanRecord
from medssl.scans.store import ScanStore

CROP = (16, 16, 8)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_row() -> Callable[..., LabelledCase]:
    """Make a case with some columns and without any file."""

    def make(name: str = "a", **values: str) -> LabelledCase:
        return LabelledCase(name, f"sub-{name}", (Path(f"/{name}.nii"),), None, values)

    return make


@pytest.fixture
def put_case(tmp_path: Path) -> Callable[..., PreparedCase]:
    """Put a case of some channels ``(C, X, Y, Z)`` with some columns into a store."""
    store = ScanStore(tmp_path / "store")

    def put(name: str, channels: NDArray[np.floating], **values: str) -> PreparedCase:
        x, y, z = channels.shape[1:]
        images = tuple(Path(f"/{name}_{number}.nii") for number in range(len(channels)))
        scans = [
            store.write(
                ScanRecord(image, name, f"sub-{name}"),
                volume,
                key="k",
                content_hash=image.stem,
                spacing_mm=(1.0, 1.0, 2.0),
                recipe=IntensityRecipe("ct", 0.0, 1.0),
                source=ScanHeader((x, y, z), (1.0, 1.0, 2.0), "RAS", "int16", ()),
                foreground=((0, x), (0, y), (0, z)),
            )
            for image, volume in zip(images, channels, strict=True)
        ]
        return PreparedCase(LabelledCase(name, f"sub-{name}", images, None, values), tuple(scans))

    return put


@pytest.fixture
def small_encoder() -> Encoder:
    """An encoder of three levels for crops of 16 x 16 x 8 voxels of 1 x 1 x 2 mm."""
    torch.manual_seed(0)
    return build_encoder("residual_unet", "tiny", crop_size=CROP, spacing_mm=(1.0, 1.0, 2.0))


@pytest.fixture(scope="session")
def ball_cases(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> list[PreparedCase]:
    """The labelled balls in a store: eight to learn from, then three to test on."""
    prepared, skipped = prepare_cases(
        find_labelled(balls).cases,
        store=ScanStore(tmp_path_factory.mktemp("store")),
        spacing_mm=(1.0, 1.0, 1.0),
        data=DataConfig(modality="mr", crop_to_foreground=False, prepare_workers=0),
        progress=SilentProgress(),
    )
    assert not skipped
    return prepared
