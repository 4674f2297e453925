"""Segmentation: a class for every voxel."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor, nn

from medssl.config.finetune_schema import SpatialConfig
from medssl.finetune.geometry import AXES, flip_axes
from medssl.finetune.goal import Batch, Goal, Size3D
from medssl.finetune.model import FinetuneHead, FinetuneModel
from medssl.finetune.windows import SlabPlan, predict_slabs
from medssl.networks.decoder import UNetDecoder
from medssl.networks.encoder import Encoder, FeatureMaps
from medssl.scans.case_crop import read_case_label, read_case_planes, read_case_window
from medssl.scans.cases import PreparedCase
from medssl.training.settings import StepSettings

SMOOTH = 1e-5
"""Keeps the Dice of a class that is in neither crop nor prediction at one."""


class SegmentationHead(FinetuneHead):
    """A U-Net decoder with a skip connection from each of the encoder's maps."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.decoder = UNetDecoder(encoder.channels, encoder.strides, out_channels=classes)

    def forward(self, features: FeatureMaps, batch: Batch) -> Tensor:
        """Return logits ``(B, classes, X, Y, Z)``."""
        logits: Tensor = self.decoder(features, batch["image"].shape[2:])
        return logits


class LinearSegmentationHead(FinetuneHead):
    """One linear layer on all maps brought to full size, computed at each map's own size and then added up.

    Linear layers and trilinear interpolation can be exchanged, so nothing is lost and much time is saved.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.probes = nn.ModuleList(nn.Conv3d(width, classes, kernel_size=1) for width in encoder.channels)

    def forward(self, features: FeatureMaps, batch: Batch) -> Tensor:
        """Return logits ``(B, classes, X, Y, Z)``."""
        size = batch["image"].shape[2:]
        maps = [
            F.interpolate(probe(level), size=size, mode="trilinear", align_corners=False)
            for probe, level in zip(self.probes, features, strict=True)
        ]
        return torch.stack(maps).sum(dim=0)


@dataclass(frozen=True)
class Segmentation(Goal):
    """Segment the classes of a label map.

    The loss is the mean of cross-entropy and soft Dice over the foreground classes of each crop (nnU-Net,
    Isensee et al., Nature Methods 2021; MONAI's `DiceLoss`).

    Attributes:
        class_names: Name by value in the label maps, background included, in ascending order.
        foreground_share: Share of the crops placed around a labelled voxel.
    """

    class_names: Mapping[int, str]
    foreground_share: float = 0.5
    name: ClassVar[str] = "segmentation"
    batch_keys: ClassVar[tuple[str, ...]] = ("image", "label")
    label_keys: ClassVar[tuple[str, ...]] = ("label",)

    @property
    def side_names(self) -> Sequence[str]:
        """Names of the classes."""
        return list(self.class_names.values())

    @property
    def classes(self) -> Sequence[int]:
        """Values in label maps, in the order of the network's channels."""
        return list(self.class_names)

    def make_head(self, encoder: Encoder, *, is_linear: bool) -> FinetuneHead:
        """Return a decoder, or a linear layer on all maps."""
        head = LinearSegmentationHead if is_linear else SegmentationHead
        return head(encoder, len(self.class_names))

    def read(self, case: PreparedCase, size: Size3D, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return ``image`` ``(C, X, Y, Z)`` and ``label`` ``(1, X, Y, Z)``, which holds channel numbers.

        The label of a case without a label map is all background, for whoever does not look at it.
        """
        window = read_case_window(case, size, rng, foreground_share=self.foreground_share)
        label = window.label
        if label is None:
            label = np.zeros((1, *window.voxels.shape[1:]), dtype=np.uint8)
        return {"image": window.voxels, "label": self._to_channels(label)}

    def losses(self, predictions: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Return the mean of cross-entropy and soft Dice loss of each crop ``(B,)``."""
        logits, label = predictions[self.name], batch["label"].long()  # geometry makes it floating
        cross_entropy = F.cross_entropy(logits, label[:, 0], reduction="none").flatten(1).mean(dim=1)
        soft_dice = DiceLoss(
            include_background=False,
            to_onehot_y=True,
            softmax=True,
            reduction="none",
            smooth_nr=SMOOTH,
            smooth_dr=SMOOTH,
        )(logits, label)
        return {self.name: cross_entropy + soft_dice.flatten(1).mean(dim=1)}

    def metrics(self, predictions: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Return the Dice of each foreground class in each crop; NaN where neither has it."""
        dice = class_dice(predictions[self.name].argmax(dim=1), batch["label"][:, 0], len(self.class_names))
        return {f"{self.name}/dice": dice.nanmean(dim=1)}

    def predict(
        self,
        model: FinetuneModel,
        case: PreparedCase,
        *,
        crop_size: Size3D,
        settings: StepSettings,
        flips: bool,
    ) -> Tensor:
        """Return the probability of each class ``(classes, X, Y, Z)`` on the prepared grid."""
        plan = self.plan_slabs(case, crop_size=crop_size)
        slabs = self.predict_slabs(model, case, plan=plan, settings=settings, flips=flips)
        return torch.cat([*slabs], dim=1 + plan.axis)

    def plan_slabs(self, case: PreparedCase, *, crop_size: Size3D) -> SlabPlan:
        """Return how a case is cut so that memory never holds the probabilities of all of it."""
        return SlabPlan.make(case.shape, crop_size=crop_size)

    def predict_slabs(
        self,
        model: FinetuneModel,
        case: PreparedCase,
        *,
        plan: SlabPlan,
        settings: StepSettings,
        flips: bool,
    ) -> Iterator[Tensor]:
        """Return what `predict` does, ``(classes, X, Y, Z)`` slab by slab.

        Mirror images are those that training shows by default: the network has seen no others.
        """
        mirrored = flip_axes(SpatialConfig(), self.side_names) if flips else ()
        return predict_slabs(
            lambda image: model({"image": image})[self.name],
            lambda start, stop: torch.from_numpy(read_case_planes(case, plan.axis, start, stop)),
            plan,
            settings=settings,
            flip_axes=[AXES.index(axis) for axis in mirrored],
        )

    def measure(self, predicted: Iterable[tuple[PreparedCase, Tensor]]) -> dict[str, float]:
        """Return the Dice of each class, averaged over the cases that have it, on the prepared grid."""
        rows = []
        for case, probabilities in predicted:
            label = torch.from_numpy(self._to_channels(read_case_label(case)))
            rows.append(class_dice(probabilities.argmax(dim=0)[None], label[None], len(self.class_names))[0])
        per_class = torch.stack(rows).nanmean(dim=0)
        dice = float(per_class.nanmean())
        names = list(self.class_names.values())[1:]
        each = {f"val/dice/{name}": float(value) for name, value in zip(names, per_class, strict=True)}
        return {"val/loss": 1 - dice, f"val/{self.name}/dice": dice, **each}

    def describe(self) -> dict[str, Any]:
        """Return the class names."""
        return {
            "name": self.name,
            "class_names": {str(value): name for value, name in self.class_names.items()},
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Segmentation":
        """Return the goal with the described class names."""
        return cls({int(value): name for value, name in description["class_names"].items()})

    def _to_channels(self, label: np.ndarray) -> np.ndarray:
        """Return which channel stands for each voxel's class; values that are no class are background."""
        channels = np.zeros(256, dtype=np.int64)
        channels[self.classes] = range(len(self.classes))
        return channels[label]


def class_dice(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """Return the Dice coefficient of each foreground class.

    Args:
        prediction: Channel numbers ``(B, X, Y, Z)``.
        label: The same for the truth.
        classes: How many there are, background included.

    Returns:
        ``(B, classes - 1)``, NaN where a class is in neither.
    """
    columns = []
    for channel in range(1, classes):
        found, true = (prediction == channel).flatten(1), (label == channel).flatten(1)
        both = (found & true).sum(dim=1)
        columns.append(2 * both / (found.sum(dim=1) + true.sum(dim=1)))
    return torch.stack(columns, dim=1)
