"""Classification: one or more answers for a whole scan."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import recall_score, roc_auc_score
from torch import Tensor

from medssl.config.finetune_schema import SpatialConfig
from medssl.finetune.classification_head import ClassificationHead
from medssl.finetune.covariates import Covariate, standardise
from medssl.finetune.geometry import AXES, flip_axes
from medssl.finetune.goal import Batch, Goal, Size3D
from medssl.finetune.model import FinetuneHead, FinetuneModel
from medssl.finetune.targets import NO_ANSWER, Target
from medssl.networks.encoder import Encoder
from medssl.scans.case_crop import read_case_window
from medssl.scans.cases import PreparedCase
from medssl.scans.covering import covering_crops
from medssl.scans.labelled import LabelledCase
from medssl.training.predict import predict_sample
from medssl.training.settings import StepSettings

CROPS_AT_ONCE = 4

DROPOUT = 0.2
"""Share of the embedding hidden in training. Not searched for; small, as an embedding is short."""


@dataclass(frozen=True)
class Classification(Goal):
    """Answer one or more questions about a case.

    The loss is cross-entropy, averaged over the targets that a case has an answer to. Where rare classes
    weigh more, probabilities are those of a case from a group in which all classes are equally frequent:
    right for ranking and for a threshold of one half, too high for what is rare in the clinic.

    The folds of a run share one goal, whose numbers come from all labelled cases they learn from.

    Attributes:
        targets: What is told apart.
        covariates: Columns of numbers given to the network beside the scan.
        class_weights: Weight of each class of each target in the loss.
        dropout: Share of the embedding that is hidden in training, in [0, 1).
    """

    targets: tuple[Target, ...]
    covariates: tuple[Covariate, ...]
    class_weights: tuple[tuple[float, ...], ...]
    dropout: float = DROPOUT
    name: ClassVar[str] = "classification"
    batch_keys: ClassVar[tuple[str, ...]] = ("image", "target", "covariates")
    label_keys: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def fit(
        cls,
        targets: Sequence[Target],
        cases: Sequence[LabelledCase],
        *,
        covariates: Sequence[str] = (),
        is_balanced: bool = True,
        dropout: float = DROPOUT,
    ) -> "Classification":
        """Return the goal with what it takes from the cases to learn from.

        Args:
            targets: From `medssl.finetune.targets.parse_targets`.
            cases: Labelled cases of the run, without the test cases.
            covariates: Columns of numbers.
            is_balanced: Whether classes weigh inversely to their frequency, 1 on average over the cases.
            dropout: Share of the embedding that is hidden in training.

        Raises:
            UsageError: If a column of covariates does not exist or fit.
        """
        weights = [
            class_weights(target, cases) if is_balanced else (1.0,) * len(target.classes)
            for target in targets
        ]
        fitted = tuple(Covariate.fit(column, cases) for column in covariates)
        return cls(tuple(targets), fitted, tuple(weights), dropout)

    @property
    def side_names(self) -> Sequence[str]:
        """Names of the targets and of their classes."""
        return [name for target in self.targets for name in (target.name, *target.classes)]

    def make_head(self, encoder: Encoder, *, is_linear: bool) -> FinetuneHead:
        """Return one linear layer on the mean over the coarsest map, for the logits of all targets."""
        return ClassificationHead(
            encoder,
            covariates=len(self.covariates),
            outputs=sum(self._sizes),
            dropout=self.dropout,
            is_linear=is_linear,
        )

    def read(self, case: PreparedCase, size: Size3D, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return a window from anywhere in the scan, with its answers and covariates.

        Returns:
            ``image`` ``(C, X, Y, Z)``; ``target`` ``(T,)`` int64, -1 without an answer; ``covariates``
            ``(V,)`` float32, standardised.
        """
        window = read_case_window(case, size, rng, foreground_share=0.0)
        return {
            "image": window.voxels,
            "target": self._answers(case.record),
            "covariates": standardise(self.covariates, case.record),
        }

    def losses(self, predictions: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Return the weighted cross-entropy of each sample ``(B,)``, 0 without any answer."""
        target = batch["target"]
        parts = self.split_targets(predictions[self.name]).values()
        each = [
            F.cross_entropy(
                logits, answer, logits.new_tensor(weights), ignore_index=NO_ANSWER, reduction="none"
            )
            for logits, answer, weights in zip(parts, target.unbind(1), self.class_weights, strict=True)
        ]
        answered = (target != NO_ANSWER).sum(dim=1)
        return {self.name: torch.stack(each, dim=1).sum(dim=1) / answered.clamp_min(1)}

    def metrics(self, predictions: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Return the share of each sample's answers that is predicted; NaN without any."""
        target = batch["target"]
        parts = self.split_targets(predictions[self.name]).values()
        guesses = torch.stack([logits.argmax(dim=1) for logits in parts], dim=1)
        is_right = (guesses == target).float().masked_fill(target == NO_ANSWER, torch.nan)
        return {f"{self.name}/accuracy": is_right.nanmean(dim=1)}

    def predict(
        self,
        model: FinetuneModel,
        case: PreparedCase,
        *,
        crop_size: Size3D,
        settings: StepSettings,
        flips: bool,
    ) -> Tensor:
        """Return the mean probabilities over crops that cover a case; memory does not grow with the case.

        Args:
            model: On the device of ``settings``.
            case: Prepared as the training cases were.
            crop_size: Voxels of one network input.
            settings: How a forward pass is computed.
            flips: Whether to average over the mirror image along x, unless a class is named after a side.

        Returns:
            ``(sum of classes,)``, in the order of `targets`; each target's add up to 1.
        """
        passes = self._mirrored_axes() if flips else [[]]
        total, count = torch.zeros(sum(self._sizes)), 0
        for images in _batches(case, crop_size):
            covariates = self.covariates_of(case).expand(len(images), -1)
            for axes in passes:
                batch = {"image": images.flip(axes), "covariates": covariates}
                total += self.to_probabilities(predict_sample(model, batch, settings)[self.name]).sum(dim=0)
                count += len(images)
        return total / count

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities ``(B, sum of classes)`` from logits of the same shape."""
        return torch.cat([part.softmax(dim=1) for part in self.split_targets(logits).values()], dim=1)

    def split_targets(self, values: Tensor) -> dict[str, Tensor]:
        """Return the part of each target by its name: ``(..., classes)`` from ``(..., sum of classes)``."""
        names = [target.name for target in self.targets]
        return dict(zip(names, values.split(self._sizes, dim=-1), strict=True))

    def covariates_of(self, case: PreparedCase) -> Tensor:
        """Return the standardised covariates of one case, ``(1, V)``."""
        return torch.from_numpy(standardise(self.covariates, case.record))[None]

    def measure(self, predicted: Iterable[tuple[PreparedCase, Tensor]]) -> dict[str, float]:
        """Return the loss of whole cases, and the balanced accuracy and AUROC of each target.

        The latter two are left out where no case has one of the classes. With several classes the AUROC is
        the mean of one class against the rest.
        """
        rows = [(self._answers(case.record), probabilities) for case, probabilities in predicted]
        truth = torch.from_numpy(np.stack([answers for answers, _ in rows]))
        probabilities = torch.stack([row for _, row in rows])
        # Softmax of the logarithm of probabilities gives them back.
        logits = probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()
        values = {"val/loss": float(self.losses({self.name: logits}, {"target": truth})[self.name].mean())}
        parts = self.split_targets(probabilities)
        for (name, part), answers in zip(parts.items(), truth.unbind(1), strict=True):
            scores = _score(answers.numpy(), part.numpy())
            values |= {f"val/{name}/{score}": value for score, value in scores.items()}
        return values

    def describe(self) -> dict[str, Any]:
        """Return targets, covariates and weights."""
        return {
            "name": self.name,
            "targets": [target.describe() for target in self.targets],
            "covariates": [asdict(covariate) for covariate in self.covariates],
            "class_weights": [list(weights) for weights in self.class_weights],
            "dropout": self.dropout,
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Classification":
        """Return the goal with the described targets, covariates and weights."""
        return cls(
            tuple(Target.from_description(target) for target in description["targets"]),
            tuple(Covariate(**covariate) for covariate in description["covariates"]),
            tuple(tuple(weights) for weights in description["class_weights"]),
            description["dropout"],
        )

    @property
    def _sizes(self) -> list[int]:
        return [len(target.classes) for target in self.targets]

    def _mirrored_axes(self) -> list[list[int]]:
        """Return the axes of a batch to flip in each pass: those that training flips by default."""
        axes = [2 + AXES.index(axis) for axis in flip_axes(SpatialConfig(), self.side_names)]
        return [[], axes] if axes else [[]]

    def _answers(self, case: LabelledCase) -> np.ndarray:
        answers = [target.class_of(case) for target in self.targets]
        return np.array([NO_ANSWER if answer is None else answer for answer in answers], dtype=np.int64)


def class_weights(target: Target, cases: Sequence[LabelledCase]) -> tuple[float, ...]:
    """Return weights inversely to the frequency of each class, 1 on average over the answered cases.

    Those of scikit-learn's ``class_weight="balanced"``; a class that no case has weighs as if one had it.
    """
    answers = [answer for case in cases if (answer := target.class_of(case)) is not None]
    counts = np.bincount(np.array(answers, dtype=np.int64), minlength=len(target.classes))
    scale = counts.sum() / max(np.count_nonzero(counts), 1)
    return tuple((scale / np.maximum(counts, 1)).tolist())


def _batches(case: PreparedCase, crop_size: Size3D) -> Iterator[Tensor]:
    """Yield the crops that cover a case, padded as in training, a few at a time: ``(B, C, *crop_size)``."""
    waiting = covering_crops(case.channels, crop_size, fill="edge")
    while crops := list(islice(waiting, CROPS_AT_ONCE)):
        yield torch.from_numpy(np.stack([crop.voxels for crop in crops]))


def _score(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return ``balanced_accuracy`` and ``auroc``; nothing unless the answered cases show every class."""
    has_answer = truth != NO_ANSWER
    truth, probabilities = truth[has_answer], probabilities[has_answer]
    classes = probabilities.shape[1]
    if len(np.unique(truth)) < classes:
        return {}
    recall = recall_score(truth, probabilities.argmax(axis=1), average="macro")
    areas = [roc_auc_score(truth == index, probabilities[:, index]) for index in range(classes)]
    return {"balanced_accuracy": float(recall), "auroc": float(np.mean(areas))}
