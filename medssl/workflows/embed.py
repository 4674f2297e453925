"""One vector a scan, from a pretrained encoder."""

import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medssl.atomic import atomic_path
from medssl.config.schema import DataConfig
from medssl.errors import UsageError
from medssl.networks.encoder import Encoder
from medssl.networks.weights import load_encoder
from medssl.progress import Progress
from medssl.scans.covering import covering_crops
from medssl.scans.crop import Size
from medssl.scans.manifest import write_skipped
from medssl.scans.prepare import prepare_scans
from medssl.scans.record import PreparedScan, SkippedScan
from medssl.scans.store import ScanStore
from medssl.training.devices import choose_device
from medssl.workflows.cohort import find_candidates, tell_skipped
from medssl.workflows.pretrain import default_store

CROPS_AT_ONCE = 8


@dataclass(frozen=True)
class EmbedOutcome:
    """What was embedded.

    Attributes:
        scans: Scans in the table.
        skipped: Files that were left out.
    """

    scans: int
    skipped: list[SkippedScan]


def embed(
    weights: Path,
    source: Path,
    *,
    out: Path,
    store: Path | None = None,
    device: str = "auto",
    progress: Progress,
) -> EmbedOutcome:
    """Write one embedding a scan: the mean over crops that cover the scan.

    Scans are prepared as they were for pretraining; the weights file says how.

    Args:
        weights: A run folder or an ``encoder.safetensors``.
        source: A folder, file or CSV of scans.
        out: Table to write. ``.csv``: columns ``scan_id``, ``subject_id``, ``path``, ``e0``, ``e1``, ...;
            ``.npz``: arrays of the first three names and ``embeddings`` ``(N, D)`` float32.
        store: Where prepared scans lie, by default ``medssl-store`` beside ``out``.
        device: "auto", "cpu", "cuda" or "cuda:N".
        progress: Who is told.

    Raises:
        CheckpointError: If the weights cannot be read.
        NoUsableScanError: If no scan can be used.
    """
    encoder, provenance = load_encoder(_weights_file(weights))
    place = choose_device(device)
    encoder.to(place).eval()
    data = DataConfig(**provenance["data"])
    candidates = find_candidates(source, data=data, progress=progress, has_test_scans=True)
    scans, unreadable = prepare_scans(
        candidates.scans,
        store=ScanStore(store or default_store(out)),
        spacing_mm=candidates.spacing_mm,
        data=data,
        progress=progress,
    )
    x, y, z = provenance["crop_size"]
    rows = []
    with progress.track("Embedding", total=len(scans)) as advance:
        for scan in scans:
            rows.append(embed_scan(encoder, scan, crop_size=(x, y, z), device=place))
            advance(detail=scan.record.scan_id)
    skipped = [*candidates.skipped, *unreadable]
    _write_table(out, scans, np.stack(rows))
    if skipped:
        reasons = out.with_name(f"{out.stem}_skipped.csv")
        write_skipped(reasons, skipped)
        progress.warn(tell_skipped(skipped, table=reasons))
    return EmbedOutcome(scans=len(scans), skipped=skipped)


def embed_scan(encoder: Encoder, scan: PreparedScan, *, crop_size: Size, device: torch.device) -> np.ndarray:
    """Return the mean embedding ``(D,)`` over crops that cover a scan; memory does not grow with the scan."""
    total = torch.zeros(encoder.channels[-1], device=device)
    count = 0
    waiting = covering_crops([scan], crop_size, fill="mean")
    while crops := list(itertools.islice(waiting, CROPS_AT_ONCE)):
        volumes = torch.from_numpy(np.stack([crop.voxels for crop in crops])).to(device)
        with torch.inference_mode():
            total += encoder.embed(volumes).float().sum(dim=0)
        count += len(crops)
    return (total / count).cpu().numpy()


def _weights_file(weights: Path) -> Path:
    if not weights.is_dir():
        return weights
    if not (weights / "encoder.safetensors").exists():
        raise UsageError(
            f"{weights} holds no encoder.safetensors: finish the run first, or name a weights file."
        )
    return weights / "encoder.safetensors"


def _write_table(out: Path, scans: Sequence[PreparedScan], embeddings: np.ndarray) -> None:
    names = [(scan.record.scan_id, scan.record.subject_id, str(scan.record.path)) for scan in scans]
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary:
        if out.suffix == ".npz":
            scan_ids, subject_ids, paths = zip(*names, strict=True)
            np.savez(temporary, scan_id=scan_ids, subject_id=subject_ids, path=paths, embeddings=embeddings)
            return
        with temporary.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["scan_id", "subject_id", "path", *(f"e{i}" for i in range(embeddings.shape[1]))])
            table.writerows([*name, *row] for name, row in zip(names, embeddings.tolist(), strict=True))
