"""One vector a scan, from a pretrained encoder."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch

from medssl.errors import UsageError
from medssl.evaluate.embedding_table import Embeddings, write_embeddings
from medssl.networks.encoder import Encoder
from medssl.networks.weights import load_encoder
from medssl.progress import Progress
from medssl.scans.covering import covering_crops
from medssl.scans.crop import Size
from medssl.scans.file_memory import FileMemory, file_signature
from medssl.scans.hashing import content_hash
from medssl.scans.manifest import write_skipped
from medssl.scans.record import PreparedScan, SkippedScan
from medssl.scans.store import ScanStore
from medssl.training.allocator import keep_freed_memory
from medssl.training.devices import choose_device
from medssl.workflows.cohort import prepare_as_recorded, tell_skipped
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

    Scans are prepared as they were for pretraining; the weights file says how. Embeddings are kept beside
    ``out`` until all are there, so that a run which was stopped goes on when it is started again.

    Args:
        weights: A run folder or an ``encoder.safetensors``.
        source: A folder, file or CSV of scans.
        out: Table to write, see `medssl.evaluate.embedding_table.write_embeddings`.
        store: Where prepared scans lie, by default ``medssl-store`` beside ``out``.
        device: "auto", "cpu", "cuda" or "cuda:N".
        progress: Who is told.

    Raises:
        CheckpointError: If the weights cannot be read.
        NoUsableScanError: If no scan can be used.
        UsageError: If there is no writer for ``out``.
    """
    keep_freed_memory()
    weights = _weights_file(weights)
    encoder, provenance = load_encoder(weights)
    place = choose_device(device)
    encoder.to(place).eval()
    scans, skipped = prepare_as_recorded(
        source,
        provenance=provenance,
        store=ScanStore(store or default_store(out)),
        progress=progress,
        has_test_scans=True,
    )
    x, y, z = provenance["crop_size"]
    begun = out.with_name(f".{out.stem}-{content_hash(weights)[:8]}.jsonl")
    vectors = _embed_all(
        encoder, scans, crop_size=(x, y, z), device=place, memory=FileMemory(begun), progress=progress
    )
    write_embeddings(
        out,
        Embeddings(
            scan_ids=tuple(scan.record.scan_id for scan in scans),
            subject_ids=tuple(scan.record.subject_id for scan in scans),
            paths=tuple(str(scan.record.path) for scan in scans),
            vectors=vectors,
        ),
    )
    begun.unlink(missing_ok=True)
    if skipped:
        reasons = out.with_name(f"{out.stem}_skipped.csv")
        write_skipped(reasons, skipped)
        progress.warn(tell_skipped(skipped, table=reasons))
    return EmbedOutcome(scans=len(scans), skipped=skipped)


def embed_scans(
    encoder: Encoder, scans: Sequence[PreparedScan], *, crop_size: Size, device: torch.device
) -> Iterator[np.ndarray]:
    """Yield the mean embedding ``(D,)`` over crops that cover each scan.

    A batch holds crops of several scans where they are small; memory does not grow with a scan.
    """
    crops = (
        (index, crop.voxels)
        for index, scan in enumerate(scans)
        for crop in covering_crops([scan], crop_size, fill="mean")
    )
    for _, of_scan in itertools.groupby(_embed_crops(encoder, crops, device), key=itemgetter(0)):
        yield np.mean([vector for _, vector in of_scan], axis=0)


def _embed_crops(
    encoder: Encoder, crops: Iterator[tuple[int, np.ndarray]], device: torch.device
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the embedding of each crop with the number that came with it."""
    while batch := list(itertools.islice(crops, CROPS_AT_ONCE)):
        volumes = torch.from_numpy(np.stack([voxels for _, voxels in batch])).to(device)
        with torch.inference_mode():
            vectors = encoder.embed(volumes).float().cpu().numpy()
        yield from zip((index for index, _ in batch), vectors, strict=True)


def _embed_all(
    encoder: Encoder,
    scans: Sequence[PreparedScan],
    *,
    crop_size: Size,
    device: torch.device,
    memory: FileMemory,
    progress: Progress,
) -> np.ndarray:
    """Return the embeddings ``(N, D)``, of which what was computed before is in the memory."""
    signatures = [file_signature(scan.store_path) for scan in scans]
    known = [
        memory.look_up(scan.store_path, signature) for scan, signature in zip(scans, signatures, strict=True)
    ]
    waiting = [index for index, text in enumerate(known) if text is None]
    new = embed_scans(encoder, [scans[index] for index in waiting], crop_size=crop_size, device=device)
    with progress.track("Embedding", total=len(scans), done=len(scans) - len(waiting)) as advance:
        for index, vector in zip(waiting, new, strict=True):
            known[index] = text = json.dumps(vector.tolist())
            memory.remember(scans[index].store_path, signatures[index], text)
            advance(detail=scans[index].record.scan_id)
    return np.array([json.loads(text) for text in known if text], dtype=np.float32)


def _weights_file(weights: Path) -> Path:
    if not weights.is_dir():
        return weights
    if not (weights / "encoder.safetensors").exists():
        raise UsageError(
            f"{weights} holds no encoder.safetensors: finish the run first, or name a weights file."
        )
    return weights / "encoder.safetensors"
