"""Crops a second of nnU-Net's own store and loader, and processor time of each.

Runs in an environment that has nnU-Net 2.8.

python nnunet_stream.py SCANS WORK
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("nnUNet_raw", "/nonexistent")
os.environ.setdefault("nnUNet_preprocessed", "/nonexistent")
os.environ.setdefault("nnUNet_results", "/nonexistent")

import nibabel as nib
import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from measure import take_for
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

SIDE, BATCH, SECONDS = 64, 4, 2.0


def write_store(scans: Path, work: Path) -> None:
    work.mkdir()
    for path in sorted(scans.glob("*.nii")):
        voxels = nib.load(path).get_fdata(dtype=np.float32).transpose(2, 1, 0)[None]
        voxels = (voxels - voxels.mean()) / voxels.std()
        blocks, chunks = comp_blosc2_params(voxels.shape, (SIDE,) * 3)
        nnUNetDatasetBlosc2.save_case(
            voxels,
            np.zeros(voxels.shape, np.int8),
            {"class_locations": {}},
            str(work / path.stem),
            chunks=chunks,
            blocks=blocks,
            chunks_seg=chunks,
            blocks_seg=blocks,
        )


def main() -> None:
    scans, work = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    if not work.exists():
        write_store(scans, work)
    labels = SimpleNamespace(all_labels=[0, 1], has_ignore_label=False)
    loader = nnUNetDataLoader(nnUNetDatasetBlosc2(str(work)), BATCH, (SIDE,) * 3, (SIDE,) * 3, labels)
    batches = NonDetMultiThreadedAugmenter(loader, None, 1, 3)
    for _ in range(10):
        crops = next(batches)["data"]
    assert tuple(crops.shape) == (BATCH, 1, SIDE, SIDE, SIDE)
    assert bool(torch.isfinite(crops).all())
    rate = take_for(SECONDS, batches, crops=BATCH)
    print(rate.crops_per_second, rate.processor_ms, flush=True)
    batches._finish()


if __name__ == "__main__":
    main()
