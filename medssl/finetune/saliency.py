"""Where in a scan the evidence for a class lies, and a picture of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from medssl.errors import UsageError
from medssl.finetune.classification import Classification
from medssl.finetune.goal import Size3D
from medssl.finetune.model import FinetuneModel
from medssl.pretext.drawing import orthogonal_slices
from medssl.scans.cases import PreparedCase
from medssl.scans.covering import covering_crops
from medssl.training.predict import predict_sample
from medssl.training.settings import StepSettings

HIDDEN_SHARE = 4
"""A hidden block is the content's length through this along each axis."""

BLOCKS_AN_AXIS = 5
"""So that blocks overlap by a quarter: 125 forward passes a crop, fewer for thin ones."""

BLOCKS_AT_ONCE = 7

LogOdds = Callable[[Tensor], list[float]]
"""From images ``(B, C, X, Y, Z)``."""


class _Block(NamedTuple):
    """What is hidden at a time.

    Attributes:
        shown: Of the part of a crop that lies in the scan.
        hidden: Of the crop: with a block at the rim goes the padding, which repeats it.
    """

    shown: tuple[slice, ...]
    hidden: tuple[slice, ...]


@dataclass(frozen=True)
class Saliency:
    """What speaks for one class.

    Attributes:
        evidence: ``(X, Y, Z)``, float32 on the prepared grid: by how much the log-odds of the class fall when
            a block around the voxel is hidden. What speaks against the class is negative.
        target: Name of the target.
        class_name: Of the class.
        probability: Of the class, for the whole case.
    """

    evidence: NDArray[np.float32]
    target: str
    class_name: str
    probability: float


def explain(
    model: FinetuneModel,
    goal: Classification,
    case: PreparedCase,
    *,
    crop_size: Size3D,
    settings: StepSettings,
    target: str | None = None,
    class_name: str | None = None,
) -> Saliency:
    """Find where the evidence for a class lies, by hiding one block after the other.

    Each block of each crop that covers the case is filled with the crop's mean (Zeiler & Fergus, ECCV 2014).
    MONAI's `OcclusionSensitivity` is not used: it indexes in a way that torch gives up, fills all channels
    with one mean, and leaves copies of a hidden rim in the padding of thin scans. Class activation maps would
    need one pass, but are as coarse as the last feature map: two voxels along each axis of small crops, and a
    single slice of thin ones. Log-odds rather than probabilities, because a certain network remains certain
    whatever is hidden.

    Args:
        model: On the device of ``settings``.
        goal: What it is for.
        case: Prepared as the training cases were.
        crop_size: Voxels of one network input.
        settings: How a forward pass is computed.
        target: Name of the target; the first where None.
        class_name: One of its classes; the predicted one where None.

    Raises:
        UsageError: If there is no such target or class.
    """
    parts = goal.split_targets(goal.predict(model, case, crop_size=crop_size, settings=settings, flips=False))
    name = goal.targets[0].name if target is None else target
    if name not in parts:
        raise UsageError(f"The model has no target {name!r}; choose from {', '.join(parts)}.")
    classes = next(target.classes for target in goal.targets if target.name == name)
    if class_name is not None and class_name not in classes:
        raise UsageError(f"Target {name!r} has no class {class_name!r}; choose from {', '.join(classes)}.")
    index = int(parts[name].argmax()) if class_name is None else classes.index(class_name)
    log_odds = _make_log_odds(model, goal, case, settings=settings, target=name, index=index)
    evidence = _hide_block_by_block(log_odds, case, crop_size=crop_size)
    return Saliency(evidence, name, classes[index], float(parts[name][index]))


def draw_saliency(
    saliency: Saliency, volume: NDArray[np.floating], *, spacing_mm: Sequence[float], name: str
) -> Figure:
    """Draw slices of a scan through the place that speaks most for the class, and the evidence below them.

    Args:
        saliency: Of the scan.
        volume: ``(X, Y, Z)`` in [0, 1], RAS, on the same grid.
        spacing_mm: Of its voxels.
        name: Of the case, for the title.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subplots(2, 3)
    centre = _peak(saliency.evidence)
    limit = float(np.abs(saliency.evidence).max()) or 1.0
    orthogonal_slices(above, volume, spacing_mm=spacing_mm, centre=centre)
    maps = orthogonal_slices(
        below,
        saliency.evidence,
        spacing_mm=spacing_mm,
        centre=centre,
        vmin=-limit,
        vmax=limit,
        cmap="RdBu_r",
    )
    figure.colorbar(maps[-1], ax=below, shrink=0.8, label="Fall of the log-odds when hidden")
    figure.suptitle(
        f"{name}: {saliency.target} is {saliency.class_name} with probability {saliency.probability:.2f}",
        parse_math=False,  # names may hold dollar signs
    )
    return figure


def _make_log_odds(
    model: FinetuneModel,
    goal: Classification,
    case: PreparedCase,
    *,
    settings: StepSettings,
    target: str,
    index: int,
) -> LogOdds:
    """Return the function from images of a case to the log-odds of a class against all others."""
    covariates = goal.covariates_of(case)

    def log_odds(images: Tensor) -> list[float]:
        batch = {"image": images, "covariates": covariates.expand(len(images), -1)}
        logits = predict_sample(model, batch, settings)[goal.name]
        own = goal.split_targets(logits)[target]
        others = torch.cat([own[:, :index], own[:, index + 1 :]], dim=1)
        result: list[float] = (own[:, index] - others.logsumexp(dim=1)).tolist()
        return result

    return log_odds


def _hide_block_by_block(log_odds: LogOdds, case: PreparedCase, *, crop_size: Size3D) -> NDArray[np.float32]:
    """Return the fall ``(X, Y, Z)`` of the log-odds, the mean over the blocks that hide a voxel."""
    total, count = np.zeros(case.shape, dtype=np.float32), np.zeros(case.shape, dtype=np.float32)
    for crop in covering_crops(case.channels, crop_size, fill="edge"):
        fall, times = total[crop.box], count[crop.box]
        waiting = _blocks(crop.inside)
        while blocks := list(islice(waiting, BLOCKS_AT_ONCE)):
            for block, value in zip(blocks, _falls(log_odds, crop.voxels, blocks), strict=True):
                fall[block.shown] += value
                times[block.shown] += 1
    return total / count


def _falls(log_odds: LogOdds, voxels: NDArray[np.float32], blocks: Sequence[_Block]) -> list[float]:
    """Return by how much the log-odds fall with each block of ``voxels`` ``(C, X, Y, Z)`` hidden."""
    images = torch.from_numpy(voxels).repeat(1 + len(blocks), 1, 1, 1, 1)
    mean = images[0].mean(dim=(1, 2, 3), keepdim=True)
    for image, block in zip(images[1:], blocks, strict=True):
        image[:, *block.hidden] = mean
    untouched, *left = log_odds(images)
    return [untouched - value for value in left]


def _blocks(inside: tuple[slice, ...]) -> Iterator[_Block]:
    """Yield the blocks of a crop, which overlap by a quarter."""
    for spans in product(*(_spans(part.start, part.stop) for part in inside)):
        shown, hidden = zip(*spans, strict=True)
        yield _Block(shown, hidden)


def _spans(first: int, last: int) -> list[tuple[slice, slice]]:
    """Return along one axis what each block hides: of the content, and of the crop with its padding."""
    length = last - first
    side = -(-length // HIDDEN_SHARE)
    spans = []
    for start in np.unique(np.linspace(0, length - side, BLOCKS_AN_AXIS).round().astype(int)).tolist():
        stop = start + side
        hidden = slice(first + start if start else None, first + stop if stop < length else None)
        spans.append((slice(start, stop), hidden))
    return spans


def _peak(evidence: NDArray[np.float32]) -> list[int]:
    """Return the middle of where the evidence is highest: a block is as high all over."""
    return [int(place) for place in np.argwhere(evidence == evidence.max()).mean(axis=0).round()]
