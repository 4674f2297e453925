"""How far correspondence gets without anatomy: points of like brightness at like places match."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

from medssl.pretext.task import Sample
from medssl.pretext.views import to_indices

CUE_WIDTHS = (1, 3, 7)
"""Voxels over which intensities around a point are averaged."""

CUE_WEIGHTS = (0.0, 0.25, 1.0, 4.0)
"""Of a point's place in the crop beside its brightness; the best is chosen on training scans."""


@dataclass(frozen=True)
class PointCues:
    """What the trivial model knows of a crop's points in both views, and where in the scan they are.

    Attributes:
        brightness: Standardised means around each point ``(2, N, widths)``.
        position: In the view, in quarters of its sides ``(2, N, 3)``.
        places: In mm ``(N, 3)``.
    """

    brightness: np.ndarray
    position: np.ndarray
    places: np.ndarray


def point_cues(sample: Sample) -> PointCues:
    """Return the cues of a transformed sample's points."""
    brightness, position = [], []
    views = np.asarray(sample["correspondence_views"])[:, 0]
    for view, key in zip(views, ("correspondence_first", "correspondence_second"), strict=True):
        indices = to_indices(sample[key], view.shape)
        x, y, z = np.round(indices).astype(int).T
        means = np.stack([uniform_filter(view, width)[x, y, z] for width in CUE_WIDTHS], axis=1)
        brightness.append((means - means.mean(axis=0)) / (means.std(axis=0) + np.finfo(np.float32).eps))
        position.append(indices / np.array(view.shape) * 4)
    return PointCues(np.array(brightness), np.array(position), np.asarray(sample["correspondence_places"]))


def mean_match_mm(cues: Sequence[PointCues], weight: float) -> float:
    """Return how far from each point the one with the nearest cues lies, mean over points and samples in mm.

    Args:
        cues: Of each sample.
        weight: Of position beside brightness.
    """
    return float(np.mean([_match_mm(points, weight) for points in cues]))


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the distance of each row of one array from each of the other."""
    between: np.ndarray = np.linalg.norm(first[:, None] - second[None], axis=-1)
    return between


def _match_mm(points: PointCues, weight: float) -> float:
    first, second = np.concatenate([points.brightness, weight * points.position], axis=-1)
    found = distances(first, second).argmin(axis=1)
    return float(np.linalg.norm(points.places[found] - points.places, axis=1).mean())
