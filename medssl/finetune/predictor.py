"""Predictions of one fine-tuned network, or of several that are averaged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from medssl.errors import CheckpointError
from medssl.finetune.goal import Goal, Size3D
from medssl.finetune.model import FinetuneModel
from medssl.finetune.weights import Finetuned, load_model
from medssl.scans.cases import PreparedCase
from medssl.training.settings import StepSettings


@dataclass(frozen=True)
class Predictor:
    """What is done with a case, and by which networks.

    Attributes:
        models: In evaluation mode, on the device of ``settings``; their probabilities are averaged.
        goal: What they are for.
        crop_size: Voxels of one network input.
        settings: How a forward pass is computed.
        flips: Whether to average over mirrored copies too.
    """

    models: Sequence[FinetuneModel]
    goal: Goal
    crop_size: Size3D
    settings: StepSettings
    flips: bool = False

    def __call__(self, case: PreparedCase) -> Tensor:
        """Return the probabilities of a case as `Goal.predict` does, averaged over the networks."""
        total = torch.zeros(())
        for model in self.models:
            total = total + self.goal.predict(
                model, case, crop_size=self.crop_size, settings=self.settings, flips=self.flips
            )
        return total / len(self.models)


def load_predictor(
    paths: Sequence[Path], *, settings: StepSettings, flips: bool
) -> tuple[Predictor, Finetuned]:
    """Return the networks of some weights files as one predictor, and the first of them.

    Raises:
        CheckpointError: If one cannot be read, or they are not for the same goal on the same kind of data.
    """
    networks = [load_model(path) for path in paths]
    first = networks[0]
    for path, network in zip(paths, networks, strict=True):
        if any(network.provenance[key] != first.provenance[key] for key in ("goal", "data", "crop_size")):
            raise CheckpointError(f"{path} was trained for another goal or on other data than {paths[0]}.")
        settings.place(network.model)
    x, y, z = first.provenance["crop_size"]
    models = [network.model for network in networks]
    return Predictor(models, first.goal, (x, y, z), settings, flips), first
