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

SLAB_BYTES = 2**28
"""Probabilities of all classes that are kept at once, apart from what neighbouring slabs share."""

FLOAT32_BYTES = 4

Predict = Callable[[Tensor], Tensor]
ReadPlanes = Callable[[int, int], Tensor]
Size3D = tuple[int, int, int]


@dataclass(frozen=True)
class SlabPlan:
    """How a volume is cut into slabs for which memory is enough, one after the other.

    Slabs begin where windows begin, and are predicted with all windows that touch them. So each voxel gets
    what it would get from the windows of the whole volume.

    Attributes:
        axis: Spatial axis that is cut, the longest one.
        shape: Voxels of the volume.
        window: Voxels of a window.
        planes: How many planes memory is enough for; a slab has at least those between two windows.
    """

    axis: int
    shape: Size3D
    window: Size3D
    planes: int

    @classmethod
    def make(cls, shape: Size3D, *, crop_size: Size3D, classes: int) -> "SlabPlan":
        """Plan slabs of at most `SLAB_BYTES` of probabilities where that is possible."""
        axis = shape.index(max(shape))
        voxels = shape[0] * shape[1] * shape[2] // shape[axis]
        planes = SLAB_BYTES // (FLOAT32_BYTES * classes * voxels)
        return cls(axis, shape, _window_size(shape, crop_size), planes)

    def slabs(self) -> Iterator[tuple[int, int]]:
        """Yield the first plane of each slab, and the one after its last."""
        length, window, step = self.shape[self.axis], self.window[self.axis], self._step
        size = max(self.planes // step, 1) * step
        start = 0
        # The last window is moved back to the rim, and no slab but the last may be touched by it.
        while self.planes < length and start + size <= length - window:
            yield start, start + size
            start += size
        yield start, length

    def seen_by(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first and the last plane, exclusive, of the windows that touch a slab."""
        length, window, step = self.shape[self.axis], self.window[self.axis], self._step
        first = max(start - (window - 1) // step * step, 0)
        return first, length if stop == length else stop - step + window

    @property
    def _step(self) -> int:
        return max(int(self.window[self.axis] * (1 - OVERLAP)), 1)


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

    def probabilities(image: Tensor) -> Tensor:
        total = torch.zeros((), device=image.device)
        for axes in mirrored:
            with settings.autocast():
                logits = predict(image.flip(axes).contiguous(memory_format=settings.memory_format))
            total = total + logits.float().softmax(dim=1).flip(axes)
        return total / len(mirrored)

    def predict_slab(start: int, stop: int) -> Tensor:
        first, last = plan.seen_by(start, stop)
        with torch.inference_mode():
            seen = _slide(probabilities, read(first, last)[None], plan.window, settings)[0]
        # A copy, so that the planes of the neighbours are freed.
        return seen.narrow(1 + plan.axis, start - first, stop - start).clone()

    return (predict_slab(start, stop) for start, stop in plan.slabs())


def _slide(predict: Predict, image: Tensor, window: Size3D, settings: StepSettings) -> Tensor:
    padded = _pad(image, window)
    result = sliding_window_inference(
        padded,
        roi_size=window,
        sw_batch_size=WINDOWS_AT_ONCE,
        predictor=predict,
        overlap=OVERLAP,
        mode="gaussian",
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


def _mirror_images(flip_axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the axes of a batch to flip for each mirror image, none of them first."""
    axes = [2 + axis for axis in flip_axes]
    return [*chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1))]
