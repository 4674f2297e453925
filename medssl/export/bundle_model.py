"""The network of a MONAI bundle, as TorchScript that needs no medssl."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.networks.encoder import Encoder


@dataclass(frozen=True)
class BundleModel:
    """What goes into a bundle.

    Attributes:
        network: From images ``(B, C, X, Y, Z)`` to logits ``(B, classes, X, Y, Z)`` or ``(B, outputs)``, or
            to embeddings ``(B, D)``; a classifier takes covariates ``(B, 0)`` as well.
        in_channels: C.
        channel_names: Of the C images.
        provenance: What the weights file says of itself.
        modality: "ct", "mr" or "other": how intensities are normalised.
        class_names: Of a segmentation, by the value in its label map.
        targets: Of a classifier, the classes of each target by its name, in the order of the logits.
    """

    network: nn.Module
    in_channels: int
    channel_names: Sequence[str]
    provenance: Mapping[str, Any]
    modality: str
    class_names: Mapping[int, str] = field(default_factory=dict)
    targets: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def crop_size(self) -> list[int]:
        """Voxels of one network input along X, Y and Z."""
        return list(self.provenance["crop_size"])

    @property
    def probability_names(self) -> list[str]:
        """What each probability of a classifier is called, as in the table of ``medssl predict``."""
        return [f"p({target} is {name})" for target, names in self.targets.items() for name in names]


class Embedder(nn.Module):
    """An encoder as a function from an image to its embedding.

    Args:
        encoder: With its weights.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(B, D)``, the mean over the coarsest feature map."""
        return self.encoder.embed(image)


class ScanClassifier(nn.Module):
    """A classifier of crops as one of whole scans, in the Python that TorchScript compiles.

    It does what `medssl.finetune.classification.Classification.predict` does: crops on the coarsest even grid
    that covers the scan, padded by their edge where it is shorter, and the mean of their probabilities.

    Args:
        network: From crops ``(B, C, *crop_size)`` and covariates ``(B, 0)`` to logits ``(B, outputs)``.
        crop_size: Voxels of a crop along X, Y and Z.
        class_counts: Logits of each target; their sum is the number of outputs.
    """

    def __init__(self, network: nn.Module, *, crop_size: Sequence[int], class_counts: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.crop_size = list(crop_size)
        self.class_counts = list(class_counts)

    def forward(self, image: Tensor) -> Tensor:
        """Return probabilities ``(B, outputs)`` of scans ``(B, C, X, Y, Z)``; each target's add up to 1."""
        with torch.no_grad():
            x_side, y_side, z_side = self.crop_size[0], self.crop_size[1], self.crop_size[2]
            image = self._pad(image)
            total = torch.zeros((image.shape[0], sum(self.class_counts)), device=image.device)
            count = 0
            for x in self._starts(image.shape[2], x_side):
                for y in self._starts(image.shape[3], y_side):
                    for z in self._starts(image.shape[4], z_side):
                        crop = image[:, :, x : x + x_side, y : y + y_side, z : z + z_side]
                        total += self._probabilities(crop)
                        count += 1
            return total / count

    def _probabilities(self, crop: Tensor) -> Tensor:
        logits = self.network(crop, crop.new_zeros((crop.shape[0], 0)))
        parts = [part.softmax(dim=1) for part in logits.float().split(self.class_counts, dim=1)]
        return torch.cat(parts, dim=1)

    def _pad(self, image: Tensor) -> Tensor:
        width: list[int] = []
        for axis in [2, 1, 0]:  # F.pad counts axes from the last one
            missing = max(0, self.crop_size[axis] - image.shape[axis + 2])
            width += [missing // 2, missing - missing // 2]
        return F.pad(image, width, mode="replicate")

    def _starts(self, length: int, side: int) -> list[int]:
        count = (length + side - 1) // side
        if count == 1:
            return [0]
        step = (length - side) / (count - 1)
        return [int(round(index * step)) for index in range(count)]  # noqa: RUF046  a float in TorchScript


def to_torchscript(model: BundleModel) -> torch.jit.ScriptModule:
    """Return the network for windows of the crop's size or, of a classifier, for whole scans.

    Gradients are switched off for the weights of ``model.network``, which does not need them any more.
    """
    network = model.network.eval().requires_grad_(False)
    examples = [torch.rand(2, model.in_channels, *model.crop_size)]
    if model.targets:
        examples.append(torch.zeros(2, 0))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of sizes that become constants: windows all have the crop's
        traced: torch.jit.ScriptModule = torch.jit.trace(network, tuple(examples))
        if not model.targets:
            return traced
        counts = [len(classes) for classes in model.targets.values()]
        whole = ScanClassifier(traced, crop_size=model.crop_size, class_counts=counts)
        scripted: torch.jit.ScriptModule = torch.jit.script(whole.eval())
    return scripted
