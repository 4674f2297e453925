"""Encoders by name and size, and the same encoder again from its description.

Parameters in millions, and multiply-adds in billions for one crop of 64 x 64 x 64 voxels, forward only:

| encoder       | tiny       | small      | base       | large        | stride of base |
|---------------|------------|------------|------------|--------------|----------------|
| residual_unet | 0.06, 1.5  | 2.0, 7.5   | 57, 61     | 90, 61       | 16             |
| segresnet     | 0.09, 1.8  | 2.6, 9.1   | 18, 47     | 78, 51       | 8              |
| swin_unetr    | 0.45, 0.76 | 2.2, 3.6   | 8.1, 9.7   | 32, 29       | 32             |
| resnet18      | 0.52, 1.1  | 8.3, 9.3   | 33, 31     | 133, 114     | 16             |
| resnet50      | 0.73, 1.3  | 12, 12     | 46, 41     | 184, 151     | 16             |

Tiny is for tests, small for a laptop's CPU. Networks that others already have: ``residual_unet large`` is the
encoder of nnU-Net's ResEncL (``base`` is one stage shorter), ``segresnet base`` that of SegResNet with 32
filters, ``swin_unetr small`` and ``base`` those of SwinUNETR with feature size 24 (its default) and 48,
``resnet18 base`` and ``resnet50 base`` MONAI's stock networks.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from medssl.errors import CheckpointError, ConfigError
from medssl.networks.encoder import Encoder, Stride3D
from medssl.networks.residual_unet import ResidualUNetEncoder
from medssl.networks.resnet import ResNetEncoder
from medssl.networks.segresnet import SegResNetEncoder
from medssl.networks.stages import plan_stages
from medssl.networks.swin_unetr import SwinUNETREncoder

ENCODERS: dict[str, Callable[..., Encoder]] = {
    "residual_unet": ResidualUNetEncoder,
    "segresnet": SegResNetEncoder,
    "swin_unetr": SwinUNETREncoder,
    "resnet18": ResNetEncoder,
    "resnet50": ResNetEncoder,
}

SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "residual_unet": {
        "tiny": {"features": (8, 16, 32), "blocks": (1, 1, 1)},
        "small": {"features": (16, 32, 64, 128), "blocks": (1, 1, 2, 2)},
        "base": {"features": (32, 64, 128, 256, 320), "blocks": (1, 3, 4, 6, 6)},
        "large": {"features": (32, 64, 128, 256, 320, 320), "blocks": (1, 3, 4, 6, 6, 6)},
    },
    "segresnet": {
        "tiny": {"init_filters": 8, "blocks_down": (1, 1, 1)},
        "small": {"init_filters": 16, "blocks_down": (1, 1, 2, 2)},
        "base": {"init_filters": 32, "blocks_down": (1, 2, 2, 4)},
        "large": {"init_filters": 32, "blocks_down": (1, 2, 2, 4, 4)},
    },
    "swin_unetr": {
        "tiny": {"feature_size": 12, "depths": (1, 1, 1, 1)},
        "small": {"feature_size": 24, "depths": (2, 2, 2, 2)},
        "base": {"feature_size": 48, "depths": (2, 2, 2, 2)},
        "large": {"feature_size": 96, "depths": (2, 2, 2, 2)},
    },
    **{
        f"resnet{depth}": {
            "tiny": {"depth": depth, "widen_factor": 0.125},
            "small": {"depth": depth, "widen_factor": 0.5},
            "base": {"depth": depth, "widen_factor": 1.0},
            "large": {"depth": depth, "widen_factor": 2.0},
        }
        for depth in (18, 50)
    },
}


def build_encoder(
    name: str,
    size: str,
    *,
    in_channels: int = 1,
    crop_size: Sequence[int],
    spacing_mm: Sequence[float],
) -> Encoder:
    """Build a new encoder with random weights.

    Args:
        name: One of `ENCODERS`.
        size: tiny, small, base or large.
        in_channels: Channels of the volumes it will see.
        crop_size: Voxels of those along X, Y and Z. The residual U-Net plans its strides from it and from
            the spacing, and has fewer stages where the crop is too small for all of them.
        spacing_mm: Their spacing.

    Raises:
        ConfigError: No such encoder or size, or the crop is smaller than the encoder can take.
    """
    settings = _settings(name, size, crop_size=crop_size, spacing_mm=spacing_mm)
    encoder = ENCODERS[name](in_channels=in_channels, **settings)
    _refuse_small_crop(encoder, crop_size)
    return encoder


def rebuild_encoder(architecture: Mapping[str, Any]) -> Encoder:
    """Build the encoder that `Encoder.architecture` describes, with random weights.

    Raises:
        CheckpointError: The description is not one of this version's encoders.
    """
    settings = dict(architecture)
    try:
        return ENCODERS[settings.pop("name")](**settings)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"No encoder of this version fits the description {dict(architecture)} ({error}); "
            "use the version of medssl that wrote the weights."
        ) from error


def coarsest_stride(name: str, size: str, *, spacing_mm: Sequence[float]) -> Stride3D:
    """Return an encoder's total stride before there is a crop size, so that one can be planned from it."""
    unlimited = (2**20,) * 3
    settings = _settings(name, size, crop_size=unlimited, spacing_mm=spacing_mm)
    with torch.random.fork_rng(devices=[]):
        return ENCODERS[name](in_channels=1, **settings).strides[-1]


def _settings(
    name: str, size: str, *, crop_size: Sequence[int], spacing_mm: Sequence[float]
) -> dict[str, Any]:
    if name not in SIZES:
        raise ConfigError(f"There is no encoder {name!r}; choose one of {', '.join(SIZES)}.")
    if size not in SIZES[name]:
        raise ConfigError(f"{name} has no size {size!r}; choose one of {', '.join(SIZES[name])}.")
    settings = SIZES[name][size]
    return _planned(settings, crop_size, spacing_mm) if name == "residual_unet" else settings


def _planned(
    settings: Mapping[str, Any], crop_size: Sequence[int], spacing_mm: Sequence[float]
) -> dict[str, Any]:
    plan = plan_stages(crop_size, spacing_mm, most_stages=len(settings["features"]))
    stages = len(plan.strides)
    return {
        "features": settings["features"][:stages],
        "blocks": settings["blocks"][:stages],
        "strides": plan.strides,
        "kernel_sizes": plan.kernel_sizes,
    }


def _refuse_small_crop(encoder: Encoder, crop_size: Sequence[int]) -> None:
    smallest = encoder.smallest_input()
    if any(voxels < fewest for voxels, fewest in zip(crop_size, smallest, strict=True)):
        raise ConfigError(
            f"crop_size {_by(crop_size)} is too small for {encoder.architecture['name']}, which needs at "
            f"least {_by(smallest)} voxels; take a larger crop, or residual_unet, which adapts to the crop."
        )


def _by(size: Sequence[int]) -> str:
    return " x ".join(str(voxels) for voxels in size)
