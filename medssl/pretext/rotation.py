"""Rotation: which of the lossless turns was the crop given?"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from matplotlib.figure import Figure
from monai.config import KeysCollection
from torch import Tensor

from medssl.networks.encoder import Encoder
from medssl.networks.heads import ClassificationHead
from medssl.pretext.cues import block_means, gradient_energies, padding_geometry
from medssl.pretext.drawing import orthogonal_slices
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
from medssl.pretext.turns import Turn, allowed_turns, apply_turn, describe_turn


class RotationSettings(TaskSettings):
    """Settings of the rotation task."""


class RotationPretextd(PretextTransform):
    """Turn a volume and keep which turn it was.

    Adds ``rotation_target``, int64, the turn's index among those allowed, and ``orientation``, where the
    turned axes point to in the patient if the volume came in RAS.
    """

    takes_float16 = True

    def __init__(self, keys: KeysCollection, *, turns: Sequence[Turn] | None = None) -> None:
        """Set what is drawn from.

        Args:
            keys: Keys of channel-first volumes ``(C, X, Y, Z)``; all get the same turn.
            turns: The classes, in the order of the target; None for all that keep the volume's own shape,
                its spacing taken as isotropic (see `medssl.pretext.turns.allowed_turns`).
        """
        super().__init__(keys)
        self.turns = turns

    def draw(self, shape: tuple[int, ...]) -> int:
        """Draw the index of a turn, each as likely."""
        return int(self.R.randint(len(self._turns_of(shape))))

    def apply(self, volume: np.ndarray, parameters: int, *, key: str) -> dict[str, Any]:
        """Return the turned volume under ``key``, the target and the orientation."""
        turn = self._turns_of(volume.shape[1:])[parameters]
        return {
            key: apply_turn(volume, turn),
            "rotation_target": np.int64(parameters),
            "orientation": turn.orientation(),
        }

    def _turns_of(self, shape: tuple[int, ...]) -> Sequence[Turn]:
        return allowed_turns(shape) if self.turns is None else self.turns


class RotationHead(TaskHead):
    """Logits of the turns from the mean over the coarsest feature map, so from the whole crop."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.classifier = ClassificationHead(encoder.channels[-1], classes)

    def forward(self, features: list[Tensor], batch: Batch) -> Tensor:
        """Return logits ``(B, classes)``."""
        logits: Tensor = self.classifier(features[-1].mean(dim=(2, 3, 4)))
        return logits


class RotationTask(PretextTask[RotationSettings]):
    """Rotation prediction (Gidaris et al., ICLR 2018) with the rotations that need no interpolation in 3D.

    Interpolated angles leave smoothing behind that gives them away; turns of the voxel grid leave nothing.
    There are 24 where crop and spacing are the same along all axes, 8 where along two, otherwise 4.
    """

    name = "rotation"
    Settings = RotationSettings
    target_keys = ("rotation_target",)
    batch_keys = ("image", "rotation_target")
    key_metric = "accuracy"

    def __init__(self, settings: RotationSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.turns = allowed_turns(context.crop_size, context.spacing_mm)

    @property
    def window_size(self) -> tuple[int, int, int]:
        """The crop itself."""
        return self.context.crop_size

    def make_transform(self) -> RotationPretextd:
        """Return the transform that turns the crop."""
        return RotationPretextd("image", turns=self.turns)

    def make_head(self, encoder: Encoder) -> RotationHead:
        """Return a new classifier of the turns."""
        return RotationHead(encoder, len(self.turns))

    def loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Return the cross-entropy of each sample ``(B,)``."""
        return F.cross_entropy(prediction.float(), batch["rotation_target"], reduction="none")

    def metrics(self, prediction: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return ``accuracy``, 0 or 1 a sample ``(B,)``."""
        return {"accuracy": (prediction.argmax(dim=1) == batch["rotation_target"]).float()}

    def trivial_cues(self, train: Iterable[Sample], val: Iterable[Sample]) -> CueReport:
        """Fit a linear model to padding, coarse brightness and the roughness along each axis."""
        return CueReport(
            metric="accuracy",
            chance=1 / len(self.turns),
            trivial=linear_probe(*_cues_and_targets(train), *_cues_and_targets(val)),
            higher_is_better=True,
            cues="padding geometry, 27 block means and gradient energies along the axes, linear",
        )

    def picture(self, sample: Sample, prediction: Tensor) -> Figure:
        """Draw the crop as the network saw it, and turned back by the prediction: upright if right."""
        crop = np.asarray(sample["image"])
        true = self.turns[int(sample["rotation_target"])]
        predicted = self.turns[int(prediction[0].argmax())]
        verdict = "\N{CHECK MARK} right" if predicted == true else "\N{BALLOT X} wrong"
        figure = Figure(figsize=(8, 6), dpi=100, layout="constrained")
        (as_seen,), (turned_back,) = figure.subfigures(2, 1, squeeze=False)
        as_seen.suptitle(f"seen by the network: {describe_turn(true)}", fontsize=10)
        turned_back.suptitle(f"{verdict}, turned back by: {describe_turn(predicted)}", fontsize=10)
        undo = predicted.inverse()
        for row, turn, volume in (
            (as_seen, true, crop),
            (turned_back, true.then(undo), apply_turn(crop, undo)),
        ):
            orthogonal_slices(
                row.subplots(1, 3),
                volume[0],
                spacing_mm=self.context.spacing_mm,
                orientation=turn.orientation(),
            )
        return figure

    def facts(self) -> dict[str, float | int | str]:
        """Return the number of classes."""
        return {"classes": len(self.turns)}


def _cues_and_targets(samples: Iterable[Sample]) -> tuple[np.ndarray, np.ndarray]:
    cues, targets = [], []
    for sample in samples:
        crop = np.asarray(sample["image"])[0]
        cues.append(np.concatenate([padding_geometry(crop), block_means(crop), gradient_energies(crop)]))
        targets.append(int(sample["rotation_target"]))
    return np.array(cues), np.array(targets)
