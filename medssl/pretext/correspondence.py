"""Correspondence: tell which voxel of one view of a scan is which voxel of another view."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from monai.config import KeysCollection
from pydantic import Field
from scipy.ndimage import uniform_filter
from torch import Tensor, nn

from medssl.config.schema import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt
from medssl.networks.decoder import UNetDecoder
from medssl.networks.encoder import Encoder
from medssl.pretext.drawing import Box, orthogonal_slices
from medssl.pretext.task import (
    Batch,
    CueReport,
    PretextTask,
    PretextTransform,
    Sample,
    TaskHead,
    TaskSettings,
)
from medssl.pretext.turns import may_turn
from medssl.pretext.views import Floats, Size3D, View, ViewRange, shared_places, take_view, to_grid

EMBEDDING = 32
"""Numbers that describe a voxel."""

TOO_CLOSE_VOXELS = 2.0
"""Voxels, of the finest axis, nearer than which another point is too much the same to be told apart."""

CUE_WIDTHS = (1, 3, 7)
"""Voxels over which the trivial cue averages intensities around a point."""

CUE_WEIGHTS = (0.0, 0.25, 1.0, 4.0)
"""Of a point's place in the crop beside its brightness, in the trivial cue."""

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


@dataclass(frozen=True)
class Pair:
    """Two views and a choice of the points that both show.

    Attributes:
        first: View in which points are voxels.
        second: View in which they lie between voxels.
        picks: Which of the shared points, as shares of their number, ``(N,)`` in [0, 1).
    """

    first: View
    second: View
    picks: np.ndarray


class CorrespondencePretextd(PretextTransform):
    """Take two views of a volume, and points that both show.

    Adds ``correspondence_views`` ``(2, C, *crop_size)``; ``correspondence_first`` and
    ``correspondence_second`` ``(N, 3)``, where the points lie in each view in the coordinates of
    `torch.nn.functional.grid_sample`; and ``correspondence_places`` ``(N, 3)``, where they lie in the volume,
    in mm. The volume itself stays as it is.
    """

    def __init__(self, keys: KeysCollection, views: ViewRange, *, points: PositiveInt = 256) -> None:
        """Set how far views may differ.

        Args:
            keys: Key of a channel-first volume ``(C, X, Y, Z)`` in [0, 1].
            views: Size of the views, and how they are drawn.
            points: How many points are chosen, with replacement where views share fewer.
        """
        super().__init__(keys)
        self.views = views
        self.points = points

    def draw(self, shape: tuple[int, ...]) -> Pair:
        """Draw two views that overlap, and points."""
        first, second = self.views.draw_pair(shape, self.R)
        return Pair(first, second, self.R.uniform(size=self.points))

    def apply(self, volume: np.ndarray, parameters: Pair, *, key: str) -> dict[str, Any]:
        """Return both views and the points."""
        shape, crop_size = volume.shape[1:], self.views.crop_size
        pair = (parameters.first, parameters.second)
        shared = shared_places(*pair, shape, crop_size)
        places = shared[(parameters.picks * len(shared)).astype(np.int64)]
        first, second = (to_grid(view.indices(places, crop_size), crop_size) for view in pair)
        return {
            "correspondence_views": np.stack([take_view(volume, view, crop_size) for view in pair]),
            "correspondence_first": first,
            "correspondence_second": second,
            "correspondence_places": (places * self.views.spacing_mm).astype(np.float32),
        }


class CorrespondenceHead(TaskHead):
    """A U-Net decoder, and two layers from its features at a point to the point's embedding."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.decoder = UNetDecoder(encoder.channels, encoder.strides, out_channels=2 * EMBEDDING)
        self.project = nn.Sequential(nn.LeakyReLU(), nn.Linear(2 * EMBEDDING, EMBEDDING))

    def forward(self, features: list[Tensor], batch: Batch) -> Tensor:
        """Return embeddings of unit length ``(B, 2, N, EMBEDDING)``."""
        dense = self.decoder.body(features, batch["correspondence_views"].shape[3:])
        grid = torch.stack([batch["correspondence_first"], batch["correspondence_second"]], dim=1)
        at_points = F.grid_sample(
            dense, grid.flatten(0, 1)[:, None, None].to(dense.dtype), align_corners=True
        )
        embedded = self.project(self.decoder.out(at_points)[:, :, 0, 0].movedim(1, -1))
        return F.normalize(embedded.float(), dim=-1).unflatten(0, grid.shape[:2])


class CorrespondenceTask(PretextTask[CorrespondenceSettings]):
    """Dense contrastive learning: what is the same place must look the same, and everything else different.

    As in Yan et al. (IEEE TMI 2022, "SAM: Self-supervised learning of pixel-wise anatomical embeddings in
    radiological images") and Goncharov et al. (MICCAI 2023, "vox2vec"), each voxel gets an embedding by which
    it is found again in another view. Here only points of the same scan are told apart: points of other scans
    may be the same anatomy, and the loss of a sample does not depend on its batch, nor on how many processes
    share that.
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

    def loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Return the InfoNCE loss of each sample ``(B,)``, the mean of both directions.

        Points within `TOO_CLOSE_VOXELS` of a point are neither its match nor different from it.
        """
        similarity = _similarities(prediction) / self.settings.temperature
        distance = torch.cdist(batch["correspondence_places"], batch["correspondence_places"])
        is_close = distance < TOO_CLOSE_VOXELS * min(self.context.spacing_mm)
        is_match = torch.eye(distance.shape[-1], dtype=torch.bool, device=distance.device)
        similarity = similarity.masked_fill(is_close & ~is_match, -torch.inf)
        there, back = similarity.log_softmax(dim=2), similarity.log_softmax(dim=1)
        matched = (there + back).diagonal(dim1=1, dim2=2) / 2
        return -matched.mean(dim=1)

    def metrics(self, prediction: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return how far, in mm, from a point's place the most similar point lies, on average ``(B,)``."""
        found = _similarities(prediction.detach()).argmax(dim=2)
        places = batch["correspondence_places"]
        guess = places.gather(1, found[..., None].expand_as(places))
        return {"match_mm": (guess - places).norm(dim=-1).mean(dim=1)}

    def trivial_cues(self, train: Sequence[Sample], val: Sequence[Sample]) -> CueReport:
        """Match points by brightness around them and by their place in the crop."""
        weight = min(CUE_WEIGHTS, key=lambda weight: _mean_match_mm(train, weight))
        places = [np.asarray(sample["correspondence_places"]) for sample in val]
        return CueReport(
            metric="match_mm",
            chance=float(np.mean([_distances(points, points).mean() for points in places])),
            trivial=_mean_match_mm(val, weight),
            higher_is_better=False,
            cues="brightness around a point and its place in the crop, nearest; chance takes any point",
        )

    def picture(self, sample: Sample, prediction: Tensor) -> Figure:
        """Draw a point in the first view, and where it is and is taken to be in the second."""
        found = int(_similarities(prediction.detach())[0, 0].argmax())
        views = np.asarray(sample["correspondence_views"])[:, 0]
        places = np.asarray(sample["correspondence_places"])
        point, match, guess = (
            np.round(_to_indices(sample[f"correspondence_{view}"], views.shape[1:])[number]).astype(int)
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


def _similarities(prediction: Tensor) -> Tensor:
    """Return the cosine of each point in the first view and each in the second ``(B, N, N)``."""
    first, second = prediction.unbind(dim=1)
    return first @ second.transpose(1, 2)


def _mean_match_mm(samples: Sequence[Sample], weight: float) -> float:
    return float(np.mean([_match_mm(sample, weight) for sample in samples]))


def _match_mm(sample: Sample, weight: float) -> float:
    views = np.asarray(sample["correspondence_views"])[:, 0]
    cues = []
    for view, key in zip(views, ("correspondence_first", "correspondence_second"), strict=True):
        indices = _to_indices(sample[key], view.shape)
        x, y, z = np.round(indices).astype(int).T
        brightness = np.stack([uniform_filter(view, width)[x, y, z] for width in CUE_WIDTHS], axis=1)
        deviation = brightness.std(axis=0) + np.finfo(np.float32).eps
        standardised = (brightness - brightness.mean(axis=0)) / deviation
        cues.append(np.concatenate([standardised, weight * indices / np.array(view.shape) * 4], axis=1))
    found = _distances(*cues).argmin(axis=1)
    places = np.asarray(sample["correspondence_places"])
    return float(np.linalg.norm(places[found] - places, axis=1).mean())


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the distance of each row of one array from each of the other."""
    distances: np.ndarray = np.linalg.norm(first[:, None] - second[None], axis=-1)
    return distances


def _to_indices(grid: Any, shape: Sequence[int]) -> Floats:
    """Return voxel indices ``(N, 3)`` of what `to_grid` made."""
    longest = np.maximum(np.array(shape) - 1, 1)
    return np.asarray((np.asarray(grid)[:, ::-1] + 1) / 2 * longest, dtype=np.float32)


def _mark(centre: np.ndarray, colour: str, label: str) -> Box:
    return Box((centre - MARK_VOXELS // 2).tolist(), [MARK_VOXELS] * 3, colour, label)
