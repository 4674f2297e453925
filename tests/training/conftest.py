"""Stand-ins that keep the contracts of scans, networks and tasks, small enough to train in a second."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from medssl.config.schema import PretrainConfig
from medssl.errors import ScanError
from medssl.progress import SilentProgress
from medssl.scans.record import IntensityRecipe, PreparedScan, ScanHeader, ScanRecord
from medssl.training.loop import TrainingResult
from medssl.training.pretraining import train
from medssl.training.run_folder import RunFolder
from medssl.training.settings import StepSettings
from medssl.training.stream import CropStream

CROP = 8
SCAN = 12
CLASSES = 2


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_scans(count: int) -> list[PreparedScan]:
    identity = tuple(tuple(row) for row in np.eye(4).tolist())
    header = ScanHeader((SCAN,) * 3, (1.0,) * 3, "RAS", "int16", identity)
    return [
        PreparedScan(
            record=ScanRecord(Path(f"scan{number}.nii.gz"), f"scan{number}", f"subject{number}"),
            content_hash=f"{number:032x}",
            voxels_hash=f"{number:032x}",
            store_path=Path(f"scan{number}.b2nd"),
            shape=(SCAN,) * 3,
            spacing_mm=(1.0,) * 3,
            recipe=IntensityRecipe("mr", 0.0, 1.0),
            source=header,
            foreground=((0, SCAN),) * 3,
        )
        for number in range(count)
    ]


def read_window(scan: PreparedScan, *, rng: np.random.Generator, broken: set[str]) -> dict[str, Any]:
    """Crop a ramp along X whose steepness is the scan's, so that it can be told which way it points."""
    if scan.record.scan_id in broken:
        raise ScanError("its file is gone")
    number = int(scan.record.scan_id.removeprefix("scan"))
    ramp = np.linspace(0.1, 0.6 + 0.3 / (1 + number), SCAN, dtype=np.float32)
    volume = np.broadcast_to(ramp[:, None, None], (SCAN,) * 3)
    x, y, z = rng.integers(0, SCAN - CROP + 1, size=3)
    return {"image": volume[None, x : x + CROP, y : y + CROP, z : z + CROP].copy()}


class FlipTransform:
    """Flips along X or not: the answer is which."""

    def __init__(self) -> None:
        self.R = np.random.RandomState()

    def set_random_state(self, seed: int) -> "FlipTransform":
        self.R = np.random.RandomState(seed)
        return self

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        answer = self.R.randint(CLASSES)
        window = data["image"]
        image = np.ascontiguousarray(window[:, ::-1]) if answer else window
        return {**data, "window": window, "image": image, "whole": image, "flip_answer": answer}


class FlipTask:
    name = "flip"
    input_key = "image"
    intensity_keys = ()
    key_metric = "accuracy"

    def loss(self, prediction: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        return F.cross_entropy(prediction, batch["flip_answer"], reduction="none")

    def metrics(self, prediction: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"accuracy": (prediction.argmax(1) == batch["flip_answer"]).float()}

    def picture(self, sample: Mapping[str, Any], prediction: Tensor) -> Figure:
        figure = Figure(figsize=(1, 1))
        figure.figimage(sample["window"][0, :, :, 0] * prediction.mean().item())
        return figure


class MeanTask(FlipTask):
    """Predicts a crop's mean intensity, one side of whose samples does not count."""

    name = "mean"
    intensity_keys = ("whole",)
    key_metric = "mae"

    def loss(self, prediction: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        return (prediction[:, 0] - batch["whole"].mean(dim=(1, 2, 3, 4))) ** 2

    def metrics(self, prediction: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        error = self.loss(prediction, batch).sqrt()
        return {"mae": torch.where(batch["flip_answer"] == 0, error, torch.nan)}


class TinyMixture:
    """Keeps the contract of `medssl.pretext.mixture.PretextMixture`."""

    tasks = (FlipTask(), MeanTask())
    window_size = (CROP,) * 3
    batch_keys = ("image", "whole", "flip_answer")

    def make_transform(self) -> FlipTransform:
        return FlipTransform()

    def losses(self, predictions: Mapping[str, Any], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {task.name: task.loss(predictions[task.name], batch) for task in self.tasks}

    def total_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        return (losses["flip"].mean() + 2 * losses["mean"].mean()) / 3

    def metrics(self, predictions: Mapping[str, Any], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            f"{task.name}/{name}": value
            for task in self.tasks
            for name, value in task.metrics(predictions[task.name], batch).items()
        }

    def shuffle_targets(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {key: value.roll(1, 0) if key == "flip_answer" else value for key, value in batch.items()}


class TinyEncoder(nn.Module):
    channels = (4, 6)
    strides = ((1, 1, 1), (2, 2, 2))

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.architecture = {"name": "tiny", "channels": (4, 6)}
        self.stem = nn.Conv3d(1, 4, 3, padding=1, bias=False)
        self.down = nn.Conv3d(4, 6, 3, stride=2, padding=1)
        self.norm = nn.InstanceNorm3d(4, affine=True)
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, volume: Tensor) -> list[Tensor]:
        fine = torch.relu(self.dropout(self.norm(self.stem(volume))))
        return [fine, torch.relu(self.down(fine))]

    def embed(self, volume: Tensor) -> Tensor:
        return self(volume)[-1].mean(dim=(2, 3, 4))


class TinyModel(nn.Module):
    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = TinyEncoder(dropout)
        self.heads = nn.ModuleDict(
            {"flip": nn.Linear(6 * 64, CLASSES), "mean": nn.Linear(6 * 64, 1), "unused": nn.Linear(2, 2)}
        )

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        features = self.encoder(batch["image"])[-1].flatten(1)
        return {name: self.heads[name](features) for name in ("flip", "mean")}


def make_stream(scans: Sequence[PreparedScan], **changes: Any) -> CropStream:
    broken = changes.pop("broken", set())
    settings: dict[str, Any] = {
        "read_window": partial(read_window, broken=broken),
        "transform": FlipTransform(),
        "batch_keys": TinyMixture.batch_keys,
        "batch_size": 4,
        "crops_per_scan": 2,
        "seed": 3,
        "threads": 2,
    }
    return CropStream(scans, **(settings | changes))


def make_model(seed: int = 0, dropout: float = 0.1) -> TinyModel:
    torch.manual_seed(seed)
    return TinyModel(dropout)


def make_config(**sections: Mapping[str, Any]) -> PretrainConfig:
    training = {
        "epochs": 3,
        "crops_per_scan": 2,
        "batch_size": 4,
        "seed": 3,
        "log_every_steps": 2,
        **sections.pop("training", {}),
    }
    return PretrainConfig.model_validate({"training": training, **sections})


def embedding_health(embeddings: Tensor) -> dict[str, float]:
    return {"effective_rank": 3.0, "spread": float(embeddings.std()), "mean_cosine": 0.0}


CUES = {
    "flip": SimpleNamespace(metric="accuracy", chance=0.5, trivial=0.6, higher_is_better=True, cues="none"),
    "mean": SimpleNamespace(metric="mae", chance=0.3, trivial=0.2, higher_is_better=False, cues="none"),
}


@dataclass
class TinyRun:
    """Trains in a folder as often as it is told to, as a workflow would."""

    folder: Path
    scans: int = 8
    val_scans: int = 3
    mixture: TinyMixture = field(default_factory=TinyMixture)

    def __call__(
        self,
        config: PretrainConfig | None = None,
        *,
        resume: bool = False,
        progress: Any = None,
        stream: CropStream | None = None,
        model: TinyModel | None = None,
        settings: StepSettings | None = None,
        rank: int = 0,
        world_size: int = 1,
        health: Callable[[Tensor], dict[str, float]] = embedding_health,
    ) -> TrainingResult:
        config = config or make_config()
        model = model or make_model()
        scans = make_scans(self.scans + self.val_scans)
        stream = stream or make_stream(
            scans[: self.scans], batch_size=config.training.batch_size, rank=rank, world_size=world_size
        )
        val = scans[self.scans :]
        self.model = model
        with RunFolder.open(self.folder, resume=resume, is_owner=rank == 0) as run:
            return train(
                model,
                mixture=self.mixture,
                train_stream=stream,
                val_batches=stream.fixed_batches(val, crops_per_scan=3) if val else None,
                picture_samples=[stream.sample(scan, 0) for scan in val[:1]],
                config=config,
                run=run,
                cues=CUES,
                embedding_health=health,
                settings=settings or StepSettings("cpu"),
                progress=progress or SilentProgress(),
                resume=resume,
                continue_command="medssl pretrain --resume",
            )

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the last model's weights."""
        return {name: value.clone() for name, value in self.model.state_dict().items()}


@pytest.fixture
def standins() -> dict[str, Any]:
    """Everything above that a test may want."""
    return SimpleNamespace(**{name: value for name, value in globals().items() if not name.startswith("__")})


@pytest.fixture
def tiny_run(tmp_path: Path) -> TinyRun:
    return TinyRun(tmp_path / "run")
