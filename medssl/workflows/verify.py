"""Whether a folder holds the scans that weights were trained on."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.errors import UsageError
from medssl.networks.provenance import flat_rows, read_provenance
from medssl.progress import Progress
from medssl.scans.fingerprint import data_fingerprint
from medssl.scans.store import ScanStore
from medssl.workflows.cohort import prepare_as_recorded


@dataclass(frozen=True)
class Verified:
    """How data compare with those of a training.

    Attributes:
        is_same: Whether the same files, and no others, could be prepared.
        rows: Name of a fact, what the weights say, and what was found.
    """

    is_same: bool
    rows: tuple[tuple[str, str, str], ...]


def verify(weights: Path, source: Path, *, store: Path | None, progress: Progress) -> Verified:
    """Prepare scans as the weights say and compare their fingerprint with the one recorded in training.

    Args:
        weights: A weights file of pretraining.
        source: A folder, file or CSV of scans.
        store: Where prepared scans lie; None for a temporary place.
        progress: Who is told.

    Raises:
        CheckpointError: If the weights cannot be read.
        UsageError: If they are of a fine-tuned model, which learned from a part of a labelled data set.
        NoUsableScanError: If no scan can be used.
    """
    provenance = read_provenance(weights)
    if "goal" in provenance:
        raise UsageError(f"{weights} is fine-tuned; name the encoder.safetensors of a pretraining run.")
    with tempfile.TemporaryDirectory() as scratch:
        place = ScanStore(store or Path(scratch))
        scans, _ = prepare_as_recorded(source, provenance=provenance, store=place, progress=progress)
    return compare(provenance["data_fingerprint"], data_fingerprint(scans))


def compare(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> Verified:
    """Return how two fingerprints compare, see `medssl.scans.fingerprint.data_fingerprint`."""
    there, here = dict(flat_rows(recorded)), dict(flat_rows(found))
    rows = tuple((name, there.get(name, "-"), here.get(name, "-")) for name in {**there, **here})
    return Verified(recorded["content"] == found["content"], rows)
