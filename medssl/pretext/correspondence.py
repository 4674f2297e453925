"""Correspondence: tell which voxel of one view of a scan is which voxel of another view."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from monai.config import KeysCollection
from pydantic import Field
from torch import Tensor

from medssl.config.schema import Fraction, NonNegativeFloat, PositiveFloat
from medssl.networks.encoder import Encoder
from medssl.pretext.correspondence_cue import CUE_WEIGHTS, distances, mean_match_mm, point_cues
from medssl.pretext.correspondence_head import CorrespondenceHead, CorrespondencePrediction
from medssl.pretext.drawing import Box, orthogonal_slices
from medssl.pretext.task import (
    Batch,
    CueReport,
    PretextTask,
    PretextTransform,
    Sample,
    TaskSettings,
)
from medssl.pretext.turns import may_turn
from medssl.pretext.views import (
    Size3D,
    View,
    ViewRange,
    shared_places,
    take_view,
    to_grid,
    to_indices,
)

TOO_CLOSE_VOXELS = 2.0
"""Voxels, of the finest axis, nearer than which another point is too much the same to be told apart."""

MARK_VOXELS = 3


class CorrespondenceSettings(TaskSettings):
    """Settings of the correspondence task."""

    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = Field(
        20.0, description="Largest turn of a view about each axis; only in the finest plane of thick slices."
    )
    scale: Fraction = Field(0.2, description="Views are scaled by a factor from [1 - scale, 1 + scale].")
    gamma: NonNegativeFloat = Field(
        0.5, description="Intensities of a view are raised to a power from [exp(-gamma), exp(gamma)]."
    )
    points: Annotated[int, Field(ge=2)] = Field(
        256, description="Voxels that are to be found again in the other view."
    )
    temperature: PositiveFloat = Field(0.1, description="By which similarities are divided in the loss.")
    apart_mm: NonNegativeFloat = Field(
        8.0,
        description="How far, seen from the middle of each scan, points of two scans lie apart that count as "
        "different; nearer ones may be the same anatomy.",
    )


@dataclass(frozen=True)
class Pair:
    """Two views and a choice of the points that both show.

    Attributes:
        first: View in which points are voxels.
        second: View in which they lie between voxels.
        picks: Which of the shared points, as shares of their number, ``(N,)`` in [0, 1).
        middle: Of the scan, in voxels of the volume ``(3,)``.
    """

    first: View
    second: View
    picks: np.ndarray
    middle: np.ndarray


class CorrespondencePretextd(PretextTransform):
    """Take two views of a volume, and points that both show.

    Adds ``correspondence_views`` ``(2, C, *crop_size)``; ``correspondence_first`` and
    ``correspondence_second`` ``(N, 3)``, where the points lie in each view in the coordinates of
    `torch.nn.functional.grid_sample`; and ``correspondence_places`` ``(N, 3)``, where they lie in mm from the
    middle of the scan. The volume itself stays as it is.

    ``window_start`` and ``scan_shape``, int ``(3,)`` each, say which part of a scan the volume is; without
    them it is taken for a whole scan.
    """

    def __init__(self, keys: KeysCollection, views: ViewRange, *, points: int = 256) -> None:
        """Set how far views may differ.

        Args:
            keys: Key of a channel-first volume ``(C, X, Y, Z)`` in [0, 1].
            views: Size of the views, and how they are drawn.
            points: How many points are chosen, with replacement where views share fewer.
        """
        super().__init__(keys)
        self.views = views
        self.points = points

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Draw views and points and take them."""
        result = dict(data)
        for key in self.key_iterator(result):
            volume = np.asarray(data[key], dtype=np.float32)
            pair = self.draw(volume.shape[1:])
            if "window_start" in data:
                middle = (np.asarray(data["scan_shape"]) - 1) / 2 - np.asarray(data["window_start"])
                pair = replace(pair, middle=middle)
            result.update(self.apply(volume, pair, key=str(key)))
        return result

    def draw(self, shape: tuple[int, ...]) -> Pair:
        """Draw two views that overlap, and points, of a whole scan."""
        first, second = self.views.draw_pair(shape, self.R)
        return Pair(first, second, self.R.uniform(size=self.points), (np.array(shape) - 1) / 2)

    def apply(self, volume: np.ndarray, parameters: Pair, *, key: str) -> dict[str, Any]:
        """Return both views and the points."""
        shape, crop_size = volume.shape[1:], self.views.crop_size
        pair = (parameters.first, parameters.second)
        shared = shared_places(*pair, shape, crop_size)
        places = shared[(parameters.picks * len(shared)).astype(np.int64)]
        from_middle = (places - parameters.middle) * self.views.spacing_mm
        first, second = (to_grid(view.indices(places, crop_size), crop_size) for view in pair)
        return {
            "correspondence_views": np.stack([take_view(volume, view, crop_size) for view in pair]),
            "correspondence_first": first,
            "correspondence_second": second,
            "correspondence_places": from_middle.astype(np.float32),
        }


class CorrespondenceTask(PretextTask[CorrespondenceSettings]):
    """Dense contrastive learning: what is the same place must look the same, and everything else different.

    As in Yan et al. (IEEE TMI 2022, "SAM: Self-supervised learning of pixel-wise anatomical embeddings in
    radiological images") and Goncharov et al. (MICCAI 2023, "vox2vec"), each voxel gets an embedding by which
    it is found again in another view, among the points of all scans of the batch. That matters: told apart
    within its own scan alone, a voxel is found by the texture of that scan. Points at about the same place of
    two scans are neither a match nor different, as they may be the same anatomy. The batch is that of all
    processes, so that their number does not matter; ``optimiser.accumulate`` makes it smaller.
    """

    name = "correspondence"
    Settings = CorrespondenceSettings
    input_key = "correspondence_views"
    acts_on_window = True
    target_keys = ("correspondence_second",)
    batch_keys = (
        "correspondence_views",
        "correspondence_first",
        "correspondence_second",
        "correspondence_places",
    )
    key_metric = "match_mm"

    @property
    def window_size(self) -> Size3D:
        """Half as much again as the crop, so that views lie at different places."""
        x, y, z = (side + side // 2 for side in self.context.crop_size)
        return x, y, z

    def make_transform(self) -> CorrespondencePretextd:
        """Return the transform that takes two views."""
        crop_size, spacing_mm = self.context.crop_size, self.context.spacing_mm
        most = self.settings.rotate_degrees
        x, y, z = (most if may_turn(axis, crop_size, spacing_mm) else 0.0 for axis in range(3))
        views = ViewRange(crop_size, spacing_mm, (x, y, z), self.settings.scale, self.settings.gamma)
        return CorrespondencePretextd("image", views, points=self.settings.points)

    def make_head(self, encoder: Encoder) -> CorrespondenceHead:
        """Return a new decoder and projection."""
        return CorrespondenceHead(encoder)

    def loss(self, prediction: CorrespondencePrediction, batch: Batch) -> Tensor:
        """Return the InfoNCE loss of each sample ``(B,)``, the mean of both directions."""
        is_match, is_alike = self._compare(prediction, batch["correspondence_places"])
        losses = []
        for view, other in ((0, 1), (1, 0)):
            own, others = prediction.embeddings[:, view], prediction.candidates[:, other].flatten(0, 1)
            logits = (own @ others.T / self.settings.temperature).masked_fill(is_alike, -torch.inf)
            losses.append(-logits.log_softmax(dim=2)[is_match].unflatten(0, own.shape[:2]).mean(dim=1))
        return torch.stack(losses).mean(dim=0)

    def _compare(self, prediction: CorrespondencePrediction, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return which candidate is a point's match, and which others are too much like it.

        Returns:
            Two boolean masks ``(B, N, G * N)``.
        """
        distance = torch.cdist(places, prediction.places.flatten(0, 1))
        own = torch.arange(len(places), device=places.device) + prediction.offset
        is_own_scan = F.one_hot(own, len(prediction.places)).bool()
        is_same_point = torch.eye(places.shape[1], dtype=torch.bool, device=places.device)
        is_match = (is_own_scan[:, None, :, None] & is_same_point[None, :, None]).flatten(2)
        nearest = torch.where(
            is_own_scan, TOO_CLOSE_VOXELS * min(self.context.spacing_mm), self.settings.apart_mm
        )
        is_alike = distance < nearest.repeat_interleave(places.shape[1], dim=1)[:, None]
        return is_match, is_alike & ~is_match

    def metrics(self, prediction: CorrespondencePrediction, batch: Batch) -> dict[str, Tensor]:
        """Return how far from each point the most similar of its scan's points lies, mean in mm ``(B,)``."""
        found = _similarities(prediction.embeddings.detach()).argmax(dim=2)
        places = batch["correspondence_places"]
        guess = places.gather(1, found[..., None].expand_as(places))
        return {"match_mm": (guess - places).norm(dim=-1).mean(dim=1)}

    def trivial_cues(self, train: Iterable[Sample], val: Iterable[Sample]) -> CueReport:
        """Match points by brightness around them and by their place in the crop."""
        fitted = [point_cues(sample) for sample in train]
        weight = min(CUE_WEIGHTS, key=lambda weight: mean_match_mm(fitted, weight))
        scored = [point_cues(sample) for sample in val]
        return CueReport(
            metric="match_mm",
            chance=float(np.mean([distances(points.places, points.places).mean() for points in scored])),
            trivial=mean_match_mm(scored, weight),
            higher_is_better=False,
            cues="brightness around a point and its place in the crop, nearest; chance takes any point",
        )

    def picture(self, sample: Sample, prediction: CorrespondencePrediction) -> Figure:
        """Draw a point in the first view, and where it is and is taken to be in the second."""
        found = int(_similarities(prediction.embeddings.detach())[0, 0].argmax())
        views = np.asarray(sample["correspondence_views"])[:, 0]
        places = np.asarray(sample["correspondence_places"])
        point, match, guess = (
            np.round(to_indices(sample[f"correspondence_{view}"], views.shape[1:])[number]).astype(int)
            for view, number in (("first", 0), ("second", 0), ("second", found))
        )
        off_mm = float(np.linalg.norm(places[found] - places[0]))
        figure = Figure(figsize=(8, 6), dpi=100, layout="constrained")
        figure.suptitle(f"a point and where it is found again: {off_mm:.1f} mm off", fontsize=10)
        rows = (
            ("first view", views[0], point, [_mark(point, "deepskyblue", "point")]),
            (
                "second view",
                views[1],
                match,
                [_mark(match, "deepskyblue", "truth"), _mark(guess, "orange", "guess")],
            ),
        )
        for panels, (title, view, centre, boxes) in zip(figure.subplots(2, 3), rows, strict=True):
            orthogonal_slices(
                panels,
                view,
                spacing_mm=self.context.spacing_mm,
                title=title,
                centre=centre.tolist(),
                boxes=boxes,
            )
        return figure


def _similarities(embeddings: Tensor) -> Tensor:
    """Return the cosine of each point in the first view and each in the second ``(B, N, N)``."""
    first, second = embeddings.unbind(dim=1)
    return first @ second.transpose(1, 2)


def _mark(centre: np.ndarray, colour: str, label: str) -> Box:
    return Box((centre - MARK_VOXELS // 2).tolist(), [MARK_VOXELS] * 3, colour, label)
