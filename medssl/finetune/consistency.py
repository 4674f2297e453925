"""Learning from unlabelled scans beside labelled ones: an average of the network teaches the network."""

from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.config.finetune_schema import UnlabelledConfig
from medssl.finetune.goal import Batch
from medssl.finetune.segmentation import Segmentation
from medssl.scans.cases import PreparedCase
from medssl.training.augment import IntensityAugmentation
from medssl.training.predict import predict
from medssl.training.state import TrainingState
from medssl.training.stream import CropStream

TEACHER_IMAGE = "teacher_image"
IS_LABELLED = "is_labelled"
SURE_OF_NOTHING = -1
"""Stands for voxels whose class the teacher is not sure of."""


class MixedStream:
    """Batches of labelled crops with crops of unlabelled scans behind them.

    Args:
        labelled: Stream of labelled cases.
        unlabelled: Stream of cases whose labels are not looked at.
    """

    def __init__(self, labelled: CropStream[PreparedCase], unlabelled: CropStream[PreparedCase]) -> None:
        self._streams = (labelled, unlabelled)

    def batches(self, start_step: int = 0) -> Generator[dict[str, Tensor]]:
        """Yield the batches of ``start_step`` and all later steps, without end.

        Yields:
            What both streams hold, and ``is_labelled`` ``(B,)``.
        """
        labelled, unlabelled = (stream.batches(start_step) for stream in self._streams)
        with closing(labelled), closing(unlabelled):
            for one, other in zip(labelled, unlabelled, strict=True):
                mixed = {key: torch.cat([one[key], other[key]]) for key in one}
                sources = [torch.full((len(part["seed"]),), part is one) for part in (one, other)]
                yield {**mixed, IS_LABELLED: torch.cat(sources)}

    def scan_ids(self, step: int) -> list[str]:
        """Return which scans the batch of a step is cropped from."""
        return [name for stream in self._streams for name in stream.scan_ids(step)]


class TaughtSegmentation:
    """The loss of labelled crops, and for the others how far student and teacher disagree.

    The teacher is the moving average of the student (Tarvainen & Valpola, NeurIPS 2017) and sees the same
    crops without intensity changes. With mean_teacher the loss is the squared difference of probabilities,
    as there; with pseudo_labels it is the cross-entropy to the classes that the teacher is sure of (FixMatch,
    Sohn et al., NeurIPS 2020, its weak and strong view being the teacher's and the student's).

    Args:
        goal: Of the labelled crops.
        state: Its moving average teaches, and its step tells the weight.
        config: Method and weight.
        total_steps: Optimiser steps of the run.
    """

    def __init__(
        self, goal: Segmentation, state: TrainingState, config: UnlabelledConfig, *, total_steps: int
    ) -> None:
        self._goal = goal
        self._state = state
        self._config = config
        self._ramp_steps = max(1, round(config.ramp_fraction * total_steps))

    def losses(self, predictions: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Return ``segmentation`` and ``unlabelled`` of each sample ``(B,)``, NaN where it does not apply."""
        is_labelled = batch[IS_LABELLED]
        supervised = self._goal.losses(predictions, batch)[self._goal.name]
        student = predictions[self._goal.name]
        disagreement = self._disagreement(student, self._taught(batch)).flatten(1).mean(dim=1)
        return {
            self._goal.name: torch.where(is_labelled, supervised, torch.nan),
            "unlabelled": torch.where(is_labelled, torch.nan, disagreement),
        }

    def total_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the mean supervised loss and, with its weight of the moment, that of unlabelled crops."""
        ramp = min(1.0, (self._state.counters.step + 1) / self._ramp_steps)
        taught = losses["unlabelled"].nan_to_num(0).sum() / self._count(losses["unlabelled"])
        own = losses[self._goal.name].nan_to_num(0).sum() / self._count(losses[self._goal.name])
        return own + self._config.weight * ramp * taught

    def metrics(self, predictions: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Return the metrics of the labelled crops; NaN for the others."""
        return {
            name: torch.where(batch[IS_LABELLED], values, torch.nan)
            for name, values in self._goal.metrics(predictions, batch).items()
        }

    def _taught(self, batch: Batch) -> Tensor:
        teacher = self._state.best_weights.eval()
        with torch.no_grad():
            seen = {"image": batch[TEACHER_IMAGE]}
            probabilities: Tensor = predict(teacher, seen, self._state.settings)[self._goal.name].softmax(1)
        return probabilities

    def _disagreement(self, student: Tensor, taught: Tensor) -> Tensor:
        if self._config.method == "mean_teacher":
            return (student.softmax(dim=1) - taught).square().sum(dim=1)
        probability, classes = taught.max(dim=1)
        sure = torch.where(probability >= self._config.confidence, classes, SURE_OF_NOTHING)
        return F.cross_entropy(student, sure, ignore_index=SURE_OF_NOTHING, reduction="none")

    @staticmethod
    def _count(values: Tensor) -> Tensor:
        return (~values.isnan()).sum().clamp_min(1)


def augment_student(augment: IntensityAugmentation, batch: Batch) -> Batch:
    """Return the batch with intensity changes for the student, and the teacher's crops as they were."""
    return {**augment(batch), TEACHER_IMAGE: batch["image"]}
