"""What can be said of a set of prepared scans without naming anybody."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from medssl.scans.record import Prepared


def data_fingerprint(scans: Sequence[Prepared]) -> dict[str, Any]:
    """Summarise scans so that others can tell whether they hold the same data.

    Args:
        scans: At least one prepared scan or case; of a case the first channel counts.

    Returns:
        JSON-ready: ``scans`` and ``subjects`` counted; ``content``, a BLAKE2b hash over the sorted content
        hashes, so the order of files tells nothing; smallest, median and largest source shape (voxels) and
        spacing (mm), axis by axis as stored; ``modalities`` counted.
    """
    digest = hashlib.blake2b(digest_size=16)
    for content_hash in sorted(scan.content_hash for scan in scans):
        digest.update(content_hash.encode())
    return {
        "scans": len(scans),
        "subjects": len({scan.record.subject_id for scan in scans}),
        "content": digest.hexdigest(),
        "source_shape": _range([scan.source.shape for scan in scans]),
        "source_spacing_mm": _range([scan.source.spacing_mm for scan in scans]),
        "modalities": dict(sorted(Counter(scan.recipe.modality for scan in scans).items())),
    }


def _range(rows: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    values = np.asarray(rows, dtype=float)
    return {
        "min": values.min(axis=0).round(4).tolist(),
        "median": np.median(values, axis=0).round(4).tolist(),
        "max": values.max(axis=0).round(4).tolist(),
    }
