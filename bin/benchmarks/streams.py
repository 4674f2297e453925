"""Endless batches of random crops, of medssl and as the documents of others say to make them.

Every stream yields a float32 tensor ``(4, 1, 64, 64, 64)`` a batch, made by one thread or one worker process.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

import monai.data
import monai.transforms
import numpy as np
import torch
import torchio
from torch import Tensor

from benchmarks import cohorts
from medssl.config.schema import DataConfig, PretrainConfig
from medssl.progress import SilentProgress
from medssl.scans.record import PreparedScan
from medssl.scans.store import open_voxels
from medssl.training.prefetch import batches_in_order
from medssl.workflows.setup import build_network, open_stream

SIDE = 64
BATCH = 4
WORKERS = 1
EPOCHS_IN_ONE = 1000
"""Loaders that start their workers anew in each epoch see the few volumes so often, as if there were many."""

Batches = Iterator[Tensor]
OpenStream = Callable[[], Any]
"""Returns a context manager that gives a stream."""


def all_streams(folder: Path, scratch: Path) -> dict[str, OpenStream]:
    """Return every stream over the scans of a folder, not begun; ``scratch`` takes what they keep on disk."""
    paths = sorted(folder.glob("*.nii"))
    data = DataConfig(spacing_mm=(1.0, 1.0, 1.0), crop_to_foreground=False, val_fraction=0.0)
    compressed = data.model_copy(update={"compress": True})
    scans = cohorts.prepare(folder, scratch / "store", data)
    packed = cohorts.prepare(folder, scratch / "packed", compressed)
    files = [str(path) for path in paths]
    cache = scratch / "monai"
    flat = _write_memory_maps(scans, scratch / "flat")

    @contextmanager
    def ours(scans: Sequence[PreparedScan]) -> Generator[Batches]:
        config = PretrainConfig.model_validate(
            {
                "tasks": {"rotation": {}, "inpainting": {}},
                "crop_size": SIDE,
                "data": data.model_dump(),
                "training": {"batch_size": BATCH},
                "speed": {"loader_threads": WORKERS},
            }
        )
        shapes = [scan.shape for scan in scans]
        network = build_network(config, shapes=shapes, spacing_mm=(1.0, 1.0, 1.0))
        stream = open_stream(scans, network=network, progress=SilentProgress())
        with closing(stream.batches()) as batches:
            yield (batch["image"] for batch in batches)

    return {
        "medssl": lambda: ours(scans),
        "medssl, compressed": lambda: ours(packed),
        "memory map, threads": lambda: _memory_maps(flat),
        "MONAI PersistentDataset": lambda: monai_stream(files, cache),
        "MONAI PersistentDataset, four crops of a volume": lambda: monai_stream(
            files, cache, volumes=1, crops_of_each=BATCH
        ),
        "MONAI PersistentDataset, crops alone": lambda: monai_stream(files, cache, is_corrupted=False),
        "TorchIO Queue, crops alone": lambda: _torchio(files),
    }


def _write_memory_maps(scans: Sequence[Any], folder: Path) -> list[np.ndarray]:
    folder.mkdir()
    maps = []
    for index, scan in enumerate(scans):
        path = folder / f"{index}.npy"
        np.save(path, open_voxels(scan.store_path)[:])
        maps.append(np.load(path, mmap_mode="r"))
    return maps


@contextmanager
def _memory_maps(flat: Sequence[np.ndarray]) -> Generator[Batches]:
    """The floor: voxels are read and converted, and nothing else happens to them."""

    def begin(size: int) -> Tensor:
        return torch.empty((size, 1, *[SIDE] * 3))

    def make(random: np.random.Generator) -> np.ndarray:
        voxels = flat[random.integers(len(flat))]
        starts = [random.integers(length - SIDE, endpoint=True) for length in voxels.shape]
        return voxels[tuple(slice(start, start + SIDE) for start in starts)].astype(np.float32)

    def put(batch: Tensor, place: int, crop: np.ndarray) -> None:
        batch.numpy()[place, 0] = crop

    requests = repeat([np.random.default_rng(0)] * BATCH)
    batches = batches_in_order(
        requests, begin=begin, read=lambda random: random, make=make, put=put, threads=WORKERS
    )
    with closing(batches):
        yield batches


@contextmanager
def monai_stream(
    files: Sequence[str],
    cache: Path,
    *,
    is_corrupted: bool = True,
    side: int = SIDE,
    volumes: int = BATCH // 2,
    crops_of_each: int = 2,
    workers: int = WORKERS,
) -> Generator[Batches]:
    """The loader of MONAI's self-supervised tutorial: two crops of a volume, dropped out and shuffled.

    The tutorial corrupts each crop twice, for its contrastive loss; here that happens once.
    """
    t = monai.transforms
    steps: list[Any] = [
        t.LoadImaged("image", reader="NibabelReader"),
        t.EnsureChannelFirstd("image"),
        t.Orientationd("image", axcodes="RAS", labels=None),
        t.ScaleIntensityd("image"),
        t.RandSpatialCropSamplesd("image", (side,) * 3, num_samples=crops_of_each, random_size=False),
    ]
    if is_corrupted:
        steps += [
            t.CopyItemsd("image", names=["target"]),
            t.OneOf(
                [
                    t.RandCoarseDropoutd("image", 6, 5, max_spatial_size=32, dropout_holes=True, prob=1.0),
                    t.RandCoarseDropoutd("image", 6, 20, max_spatial_size=64, dropout_holes=False, prob=1.0),
                ]
            ),
            t.RandCoarseShuffled("image", 10, 8, prob=0.8),
        ]
    dataset = monai.data.PersistentDataset(
        [{"image": file} for file in files] * EPOCHS_IN_ONE,
        t.Compose(steps),
        cache_dir=cache,
        track_meta=True,
        weights_only=False,
    )
    for index in range(len(files)):
        dataset[index]  # fills the cache, as a first epoch would
    loader = monai.data.DataLoader(dataset, batch_size=volumes, shuffle=True, num_workers=workers)
    yield (batch["image"] for _ in repeat(None) for batch in loader)


@contextmanager
def _torchio(files: Sequence[str]) -> Generator[Batches]:
    """The patch-based pipeline of TorchIO's documents, with four crops of a volume."""
    subjects = [torchio.Subject(image=torchio.ScalarImage(file)) for file in files] * EPOCHS_IN_ONE
    dataset = torchio.SubjectsDataset(
        subjects, transform=torchio.Compose([torchio.ToCanonical(), torchio.RescaleIntensity((0, 1))])
    )
    queue = torchio.Queue(
        dataset,
        max_length=BATCH * len(files),
        samples_per_volume=BATCH,
        sampler=torchio.UniformSampler(SIDE),
        num_workers=WORKERS,
    )
    loader = torchio.SubjectsLoader(queue, batch_size=BATCH, num_workers=0)
    yield (batch["image"][torchio.DATA] for _ in repeat(None) for batch in loader)
