"""Whole volumes through a network that sees crops."""

from collections.abc import Callable, Sequence
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

Predict = Callable[[Tensor], Tensor]
Size3D = tuple[int, int, int]


def predict_volume(
    predict: Predict,
    volume: Tensor,
    *,
    crop_size: Size3D,
    settings: StepSettings,
    flips: bool,
) -> Tensor:
    """Return class probabilities of a volume, in windows weighted by a Gaussian (MONAI's sliding window).

    On the device there are never more than a few windows; the volume and the sum stay on the CPU.

    Args:
        predict: From ``(B, C, *window)`` to logits ``(B, K, *window)``.
        volume: ``(C, X, Y, Z)`` on the CPU.
        crop_size: Of the crops the network was trained on.
        settings: Device and precision.
        flips: Whether to average over the eight mirrored copies.

    Returns:
        ``(K, X, Y, Z)`` on the CPU.
    """
    window = _window_size(volume.shape[1:], crop_size)

    def probabilities(image: Tensor) -> Tensor:
        with settings.autocast():
            logits = predict(image.contiguous(memory_format=settings.memory_format))
        return logits.float().softmax(dim=1)

    mirrored = _all_flips() if flips else [()]
    total = torch.zeros(())
    with torch.inference_mode():
        for axes in mirrored:
            image = volume[None].flip(axes)
            total = total + _slide(probabilities, image, window, settings).flip(axes)
    return (total / len(mirrored))[0]


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


def _all_flips() -> list[tuple[int, ...]]:
    axes = (2, 3, 4)
    return [*chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1))]
