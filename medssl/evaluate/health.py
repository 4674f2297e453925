"""Whether an encoder still tells scans apart, from its embeddings alone."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MEASURES = ("effective_rank", "spread", "mean_cosine")


def embedding_health(embeddings: Tensor) -> dict[str, float]:
    """Measure how much of the embedding space is in use.

    Args:
        embeddings: One row for each of N crops of different places or scans, ``(N, D)``, any device or
            floating type.

    Returns:
        ``effective_rank``: How many directions the embeddings vary along, 1 to min(N - 1, D): the exponential
        of the entropy of the normalised singular values of the centred matrix (Roy & Vetterli, "The
        effective rank", EUSIPCO 2007).
        ``spread``: How far directions differ, 0 to 1: the standard deviation of each dimension over rows of
        length one, averaged over dimensions and multiplied by the square root of D (Chen & He, "Exploring
        simple Siamese representation learning", CVPR 2021, who plot it without the factor). It does not
        change when the embeddings are scaled; isotropic embeddings are near 1, identical ones 0.
        ``mean_cosine``: Mean cosine of the angle between two different rows, -1 to 1.
        All are NaN for fewer than three rows or where a value is not finite.
    """
    rows = embeddings.detach().double()
    count, dimensions = rows.shape
    if count < 3 or not rows.isfinite().all():
        return dict.fromkeys(MEASURES, math.nan)
    directions = F.normalize(rows, dim=1)
    cosines = directions @ directions.T
    between_rows = (cosines.sum() - cosines.trace()) / (count * (count - 1))
    return {
        "effective_rank": _effective_rank(rows),
        "spread": float(directions.std(dim=0, correction=0).mean()) * math.sqrt(dimensions),
        "mean_cosine": float(between_rows),
    }


def _effective_rank(rows: Tensor) -> float:
    singular = torch.linalg.svdvals(rows - rows.mean(dim=0))
    # What float32 embeddings leave of an exact zero is rounding, not a direction.
    singular = singular[singular > rows.norm() * torch.finfo(torch.float32).eps]
    shares = singular / singular.sum()
    return float(torch.exp(-(shares * shares.log()).sum()))
