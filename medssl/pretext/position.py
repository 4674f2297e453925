"""Position: where does one patch lie as seen from another?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from monai.config import KeysCollection
from pydantic import Field, field_validator
from torch import Tensor

from medssl.config.schema import Auto, NonNegativeInt, Size3D
from medssl.networks.encoder import Encoder
from medssl.networks.heads import PairHead
from medssl.pretext.cues import block_means, border_continuity
from medssl.pretext.drawing import Box, orthogonal_slices
from medssl.pretext.pairs import PairShape, describe_direction, plan_pairs
from medssl.pretext.probe import linear_probe
from medssl.pretext.task import (
    Batch,
    CueReport,
    PretextTask,
    PretextTransform,
    Sample,
    TaskContext,
    TaskHead,
    TaskSettings,
)
from medssl.scans.store import widen

NO_ROOM = -1
"""Target of a sample whose scan is too small for two patches; it is neither trained on nor scored."""

SMALLEST_DEVIATION = 1e-6
"""Standard deviation up to which a patch is constant: far below the steps of a 16-bit store."""


class PositionSettings(TaskSettings):
    """Settings of the position task."""

    patch_size: Size3D | Auto = Field(
        "auto", description="Voxels of a patch; one number means a cube; auto suits encoder and scans."
    )
    gap: NonNegativeInt | Auto = Field(
        "auto",
        description="Fewest voxels between the patches, whose borders tell the answer without one; "
        "auto is half a patch.",
    )
    jitter: NonNegativeInt | Auto = Field(
        "auto",
        description="Most voxels added to the gap, and most offset to the sides; auto is a third of a patch.",
    )
    axes: Annotated[tuple[Literal[0, 1, 2], ...], Field(min_length=1)] | Auto = Field(
        "auto",
        description="Axes that may separate the patches: 0 left-right, 1 posterior-anterior, "
        "2 inferior-superior; auto takes those along which most scans have room.",
    )

    @field_validator("patch_size", mode="before")
    @classmethod
    def _cube_from_one_number(cls, value: Any) -> Any:
        return (value,) * 3 if isinstance(value, int) and not isinstance(value, bool) else value


@dataclass(frozen=True)
class Placement:
    """Where two patches lie.

    Attributes:
        target: Index of the direction from the first to the second, or `NO_ROOM`.
        starts: First voxel of each patch along X, Y and Z ``(2, 3)``.
    """

    target: int
    starts: np.ndarray


class PositionPretextd(PretextTransform):
    """Cut two patches that lie beside each other and keep in which direction.

    Adds ``position_patches`` ``(2, C, *patch_size)``, ``position_target``, int64, an index into
    `PairShape.directions` or -1 where the volume has no room, and ``position_boxes``, the patches' first
    voxels, int64 ``(2, 3)``. The volume itself stays as it is.
    """

    takes_float16 = True

    def __init__(
        self,
        keys: KeysCollection,
        patch_size: Sequence[int],
        *,
        gap: int | Sequence[int] | None = None,
        jitter: int | Sequence[int] | None = None,
        axes: Sequence[int] = (0, 1, 2),
        normalise: bool = True,
    ) -> None:
        """Set how pairs are drawn.

        Args:
            keys: Key of a channel-first volume ``(C, X, Y, Z)``.
            patch_size: Voxels of a patch along X, Y and Z.
            gap: Fewest voxels between the patches along axes that separate them; None for half a patch.
            jitter: Most voxels added to the gap, and most offset along axes that do not separate them; None
                for a third of a patch.
            axes: Axes that may separate them; 26, 8 or 2 classes for 3, 2 or 1 axes.
            normalise: Give each channel of each patch zero mean and unit variance, so that brightness and
                slow shading tell nothing. A constant patch becomes zeros.
        """
        super().__init__(keys)
        self.pair = PairShape.of(patch_size, gap=gap, jitter=jitter, axes=axes)
        self.normalise = normalise

    def draw(self, shape: tuple[int, ...]) -> Placement:
        """Draw a direction, each as likely, then any placement that fits."""
        if not self.pair.has_room(shape):
            return Placement(NO_ROOM, np.zeros((2, 3), dtype=np.int64))
        target = int(self.R.randint(len(self.pair.directions)))
        direction = np.array(self.pair.directions[target])
        room = np.subtract(shape, self.pair.patch_size)
        distance = np.add(self.pair.patch_size, self.pair.gap)
        wider = self.R.randint(np.clip(room - distance, 0, self.pair.jitter) + 1)
        aside = np.minimum(room, self.pair.jitter)
        shift = np.where(direction != 0, direction * (distance + wider), self.R.randint(-aside, aside + 1))
        anchor = self.R.randint(np.maximum(-shift, 0), room - np.maximum(shift, 0) + 1)
        return Placement(target, np.stack([anchor, anchor + shift]))

    def apply(self, volume: np.ndarray, parameters: Placement, *, key: str) -> dict[str, Any]:
        """Return the patches, the target and the boxes."""
        size = self.pair.patch_size
        patches = np.zeros((2, len(volume), *size), dtype=np.float32)
        if parameters.target != NO_ROOM:
            for patch, start in zip(patches, parameters.starts, strict=True):
                patch[:] = widen(volume[:, *(slice(a, a + b) for a, b in zip(start, size, strict=True))])
        return {
            "position_patches": standardise(patches) if self.normalise else patches,
            "position_target": np.int64(parameters.target),
            "position_boxes": parameters.starts,
        }


def standardise(patches: np.ndarray) -> np.ndarray:
    """Give each channel of each patch ``(V, C, X, Y, Z)`` zero mean and unit variance; constant becomes 0."""
    centred = patches - patches.mean(axis=(2, 3, 4), keepdims=True)
    deviation = centred.std(axis=(2, 3, 4), keepdims=True)
    is_constant = deviation <= SMALLEST_DEVIATION
    return np.where(is_constant, 0, centred / np.where(is_constant, 1, deviation)).astype(patches.dtype)


class PositionHead(TaskHead):
    """Logits of the directions from the pooled embeddings of both patches, in order."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.pair_head = PairHead(encoder.channels[-1], classes)

    def forward(self, features: list[Tensor], batch: Batch) -> Tensor:
        """Return logits ``(B, classes)`` for features of B * 2 patches, the two of a sample side by side."""
        embeddings = features[-1].mean(dim=(2, 3, 4)).unflatten(0, (-1, 2))  # (B, 2, D)
        logits: Tensor = self.pair_head(embeddings[:, 0], embeddings[:, 1])
        return logits


class PositionTask(PretextTask[PositionSettings]):
    """Relative position of patches (Doersch et al., ICCV 2015), in 3D as in Taleb et al., NeurIPS 2020.

    Taleb et al. cut a scan into a fixed 3 x 3 x 3 grid and take the middle cell as anchor; here the anchor
    lies anywhere, so the answer cannot be read off the second patch alone.
    """

    name = "position"
    Settings = PositionSettings
    input_key = "position_patches"
    acts_on_window = True
    target_keys = ("position_target",)
    batch_keys = ("position_patches", "position_target")
    key_metric = "accuracy"

    def __init__(self, settings: PositionSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.pair = plan_pairs(
            context,
            patch_size=None if settings.patch_size == "auto" else settings.patch_size,
            gap=None if settings.gap == "auto" else settings.gap,
            jitter=None if settings.jitter == "auto" else settings.jitter,
            axes=None if settings.axes == "auto" else settings.axes,
        )

    @property
    def window_size(self) -> tuple[int, int, int]:
        """Two patches, the gap and the jitter along axes that separate them."""
        return self.pair.window_size

    def make_transform(self) -> PositionPretextd:
        """Return the transform that cuts the patches."""
        return PositionPretextd(
            "image", self.pair.patch_size, gap=self.pair.gap, jitter=self.pair.jitter, axes=self.pair.axes
        )

    def make_head(self, encoder: Encoder) -> PositionHead:
        """Return a new classifier of the directions."""
        return PositionHead(encoder, len(self.pair.directions))

    def loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Return the cross-entropy of each sample ``(B,)``, 0 for scans without room.

        Those count in the mean over the batch, so that a batch split over processes gives the same mean.
        """
        target = batch["position_target"]
        return F.cross_entropy(prediction.float(), target, ignore_index=NO_ROOM, reduction="none")

    def metrics(self, prediction: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return ``accuracy``, 0 or 1 a sample ``(B,)``, NaN for scans without room."""
        target = batch["position_target"]
        is_right = (prediction.argmax(dim=1) == target).float()
        return {"accuracy": torch.where(target == NO_ROOM, torch.nan, is_right)}

    def trivial_cues(self, train: Iterable[Sample], val: Iterable[Sample]) -> CueReport:
        """Fit a linear model to how well borders match and to the coarse brightness of both patches."""
        return CueReport(
            metric="accuracy",
            chance=1 / len(self.pair.directions),
            trivial=linear_probe(*_cues_and_targets(train), *_cues_and_targets(val)),
            higher_is_better=True,
            cues="continuity of facing borders and 27 block means of both patches, linear",
        )

    def picture(self, sample: Sample, prediction: Tensor) -> Figure:
        """Draw both patches in the scan, once with slices through each."""
        window = np.asarray(sample["window"])[0]
        size, target = np.array(self.pair.patch_size), int(sample["position_target"])
        figure = Figure(figsize=(8, 6), dpi=100, layout="constrained")
        if target == NO_ROOM:
            figure.suptitle("no room for two patches in this scan", fontsize=10)
            orthogonal_slices(figure.subplots(1, 3), window, spacing_mm=self.context.spacing_mm)
            return figure
        figure.suptitle(self._verdict(target, int(prediction[0].argmax())), fontsize=10)
        styles = (("first", "deepskyblue"), ("second", "orange"))
        starts = np.asarray(sample["position_boxes"])
        boxes = [Box(a.tolist(), size.tolist(), c, name) for a, (name, c) in zip(starts, styles, strict=True)]
        for panels, start, (name, _) in zip(figure.subplots(2, 3), starts, styles, strict=True):
            orthogonal_slices(
                panels,
                window,
                spacing_mm=self.context.spacing_mm,
                title=f"through the {name} patch",
                centre=(start + size // 2).tolist(),
                boxes=boxes,
            )
        return figure

    def facts(self) -> dict[str, float | int | str]:
        """Return the number of classes, the patches and the axes that separate them."""
        return {
            "classes": len(self.pair.directions),
            "patch_size": " x ".join(map(str, self.pair.patch_size)),
            "gap": " x ".join(map(str, self.pair.gap)),
            "axes": ", ".join("XYZ"[axis] for axis in self.pair.axes),
        }

    def _verdict(self, target: int, predicted: int) -> str:
        true, guess = (describe_direction(self.pair.directions[index]) for index in (target, predicted))
        if predicted == target:
            return f"\N{CHECK MARK} right: the second patch lies {true} of the first"
        return f"\N{BALLOT X} wrong: the second patch lies {true} of the first; predicted {guess}"


def _cues_and_targets(samples: Iterable[Sample]) -> tuple[np.ndarray, np.ndarray]:
    cues, targets = [], []
    for sample in samples:
        if int(sample["position_target"]) == NO_ROOM:
            continue
        first, second = np.asarray(sample["position_patches"])[:, 0]
        continuity = border_continuity(first, second)
        cues.append(np.concatenate([continuity, block_means(first), block_means(second)]))
        targets.append(int(sample["position_target"]))
    return np.array(cues), np.array(targets)
