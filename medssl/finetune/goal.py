"""What a fine-tuned network is for: the one contract of segmentation and classification."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from medssl.finetune.model import FinetuneHead, FinetuneModel
from medssl.networks.encoder import Encoder
from medssl.scans.cases import PreparedCase
from medssl.training.settings import StepSettings

Batch = dict[str, Tensor]
Size3D = tuple[int, int, int]


class Goal(ABC):
    """A head, its loss, its metrics and how a whole case is predicted.

    Every goal is an `medssl.training.objective.Objective`.

    Attributes:
        name: Also the name of the predictions.
        batch_keys: What a batch must hold.
        label_keys: Those of them that change geometry with the image.
    """

    name: ClassVar[str]
    batch_keys: ClassVar[tuple[str, ...]]
    label_keys: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def side_names(self) -> Sequence[str]:
        """Names of classes, of which one such as "left lung" rules out mirror images."""

    @abstractmethod
    def make_head(self, encoder: Encoder, *, is_linear: bool) -> FinetuneHead:
        """Return what turns feature maps into predictions.

        Args:
            encoder: Whose maps it reads.
            is_linear: Whether it is one linear layer, to probe what the maps hold.
        """

    @abstractmethod
    def read(self, case: PreparedCase, size: Size3D, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return ``image`` ``(C, X, Y, Z)`` of at most ``size`` and its answers, as arrays."""

    @abstractmethod
    def losses(self, predictions: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Return the loss of each sample ``(B,)`` under `name`."""

    def total_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the mean over the samples."""
        return losses[self.name].mean()

    @abstractmethod
    def metrics(self, predictions: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Return metrics of each sample ``(B,)`` as "name/metric"; NaN where one does not apply."""

    @abstractmethod
    def predict(
        self,
        model: FinetuneModel,
        case: PreparedCase,
        *,
        crop_size: Size3D,
        settings: StepSettings,
        flips: bool,
    ) -> Tensor:
        """Return the probabilities of one whole case, on the CPU.

        Args:
            model: On the device of ``settings``.
            case: Prepared as the training cases were.
            crop_size: Voxels of one network input.
            settings: How a forward pass is computed.
            flips: Whether to average over mirrored copies of the case (test-time augmentation).
        """

    @abstractmethod
    def measure(self, predicted: Iterable[tuple[PreparedCase, Tensor]]) -> dict[str, float]:
        """Return ``val/...`` metrics of whole cases, of which ``val/loss`` is lowest for the best network."""

    @classmethod
    @abstractmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Goal":
        """Return the goal that `describe` described; the name is left out."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return plain values that the goal can be made from again."""
