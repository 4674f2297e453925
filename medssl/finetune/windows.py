"""Whole volumes through a network that sees crops."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from torch import Tensor

from medssl.training.settings import StepSettings

OVERLAP = 0.5
"""Share of a window that the next one sees again, as in nnU-Net."""

WHOLE_UP_TO = 1.5
"""A volume at most this many times as long as the crop along each axis passes in one piece: it costs less
than windows that overlap, and the network sees hardly more than in training."""

WINDOWS_AT_ONCE = 2

LEAST_WEIGHT = 0.1
"""Of a voxel at the rim of a window along each axis, so that one which only a single window sees counts."""

Predict = Callable[[Tensor], Tensor]
ReadPlanes = Callable[[int, int], Tensor]
Size3D = tuple[int, int, int]


@dataclass(frozen=True)
class SlabPlan:
    """How a volume is cut into slabs, each as thick as the distance from one window to the next.

    Windows stand where MONAI's sliding window has them. Each is seen once, and memory holds the probabilities
    of one window's thickness, however long the volume is.

    Attributes:
        axis: Spatial axis that is cut, the longest one.
        length: Voxels of the volume along it.
        window: Voxels of a window.
    """

    axis: int
    length: int
    window: Size3D

    @classmethod
    def make(cls, shape: Size3D, *, crop_size: Size3D) -> "SlabPlan":
        """Plan the slabs of a volume of ``shape`` for a network that was trained on crops."""
        return cls(shape.index(max(shape)), max(shape), _window_size(shape, crop_size))

    @property
    def starts(self) -> list[int]:
        """First plane of each window, and of each slab; the last window ends with the volume."""
        last = max(self.length - self.thickness, 0)
        return [*range(0, last, max(int(self.thickness * (1 - OVERLAP)), 1)), last]

    @property
    def thickness(self) -> int:
        """Planes of a window along the axis that is cut."""
        return self.window[self.axis]


def predict_slabs(
    predict: Predict,
    read: ReadPlanes,
    plan: SlabPlan,
    *,
    settings: StepSettings,
    flip_axes: Sequence[int] = (),
) -> Iterator[Tensor]:
    """Return class probabilities slab by slab, in windows weighted by a Gaussian (MONAI's sliding window).

    On the device there are never more than a few windows; volume and probabilities stay on the CPU.

    Args:
        predict: From ``(B, C, *window)`` to logits ``(B, K, *window)``.
        read: From a first and a last plane, exclusive, along ``plan.axis`` to that part of the volume,
            ``(C, X, Y, Z)`` on the CPU.
        plan: How the volume is cut.
        settings: Device and precision.
        flip_axes: Spatial axes, 0 to 2; each window is averaged over its mirror images along any of them,
            as in nnU-Net.

    Returns:
        ``(K, X, Y, Z)`` on the CPU, computed one at a time, which follow one another along ``plan.axis``.
    """
    mirrored = _mirror_images(flip_axes)

    def of_mirror_image(image: Tensor, axes: tuple[int, ...]) -> Tensor:
        with settings.autocast():
            logits = predict(_flip(image, axes).contiguous(memory_format=settings.memory_format))
        return _flip(logits.float().softmax(dim=1), axes)

    def probabilities(image: Tensor) -> Tensor:
        first, *others = mirrored
        total = of_mirror_image(image, first)
        for axes in others:
            total += of_mirror_image(image, axes)
        return total / len(mirrored) if others else total

    def across(start: int) -> Tensor:
        planes = read(start, min(start + plan.thickness, plan.length))
        return _slide(probabilities, planes[None], plan.window, settings)[0]

    return _average(across, plan)


def window_weights(window: Size3D) -> Tensor:
    """Return how much each voxel of a window counts, a product of one Gaussian an axis ``window``."""
    x, y, z = map(_weights, window)
    return x[:, None, None] * y[:, None] * z


def _weights(side: int) -> Tensor:
    """Return a Gaussian with a standard deviation of an eighth of the window, as nnU-Net and MONAI have."""
    offsets = torch.arange(side) - (side - 1) / 2
    return torch.exp(-0.5 * (offsets / (side / 8)) ** 2).clamp(min=LEAST_WEIGHT)


def _average(across: Callable[[int], Tensor], plan: SlabPlan) -> Iterator[Tensor]:
    """Average what windows say that follow one another along the axis that is cut.

    Those beside each other have the same place along it, and so the same weight in each plane. So their own
    average, which ``across`` returns, can be weighted as a whole.
    """
    axis, starts = 1 + plan.axis, plan.starts
    weights = _weights(plan.thickness)
    held, held_weights = None, torch.zeros(0)
    for start, following in zip(starts, [*starts[1:], plan.length], strict=True):
        with torch.inference_mode():
            total = across(start)
            planes = total.shape[axis]
            along_axis = [-1 if index == axis else 1 for index in range(total.dim())]
            total *= weights[:planes].reshape(along_axis)
            total_weights = weights[:planes].clone()
            if held is not None:
                total.narrow(axis, 0, held.shape[axis]).add_(held)
                total_weights[: len(held_weights)] += held_weights
            ready = following - start
            held, held_weights = total.narrow(axis, ready, planes - ready).clone(), total_weights[ready:]
            # Not in place: a slab must not keep the planes that follow it in memory.
            slab = total.narrow(axis, 0, ready) / total_weights[:ready].reshape(along_axis)
        yield slab


def _slide(predict: Predict, image: Tensor, window: Size3D, settings: StepSettings) -> Tensor:
    with torch.inference_mode():
        result = sliding_window_inference(
            _pad(image, window),
            roi_size=window,
            sw_batch_size=WINDOWS_AT_ONCE,
            predictor=predict,
            overlap=OVERLAP,
            roi_weight_map=window_weights(window).to(settings.device),
            sw_device=settings.device,
            device="cpu",
        )
    x, y, z = image.shape[2:]
    cut: Tensor = torch.as_tensor(result)[:, :, :x, :y, :z]
    return cut


def _window_size(shape: Sequence[int], crop_size: Size3D) -> Size3D:
    """Return the whole volume's size where that is hardly more than a crop, else the crop's."""
    if all(length <= WHOLE_UP_TO * side for length, side in zip(shape, crop_size, strict=True)):
        x, y, z = (max(length, side) for length, side in zip(shape, crop_size, strict=True))
        return x, y, z
    return crop_size


def _pad(image: Tensor, window: Size3D) -> Tensor:
    """Repeat the border at the far end of axes that are shorter than the window."""
    missing = [max(0, side - length) for side, length in zip(window, image.shape[2:], strict=True)]
    width = [amount for gap in reversed(missing) for amount in (0, gap)]
    return F.pad(image, width, mode="replicate") if any(missing) else image


def _flip(volume: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return a volume itself where there is nothing to flip, of which torch would make a copy."""
    return volume.flip(axes) if axes else volume


def _mirror_images(flip_axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the axes of a batch to flip for each mirror image, none of them first."""
    axes = [2 + axis for axis in flip_axes]
    return [*chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1))]
