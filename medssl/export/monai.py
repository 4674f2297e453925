"""Weights for the networks of MONAI that hold our encoders."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import SegResNet, SwinUNETR, resnet18, resnet50
from torch import Tensor, nn

from medssl.errors import UsageError
from medssl.export.exported import Exported, quoted, save_torch
from medssl.networks.encoder import Encoder
from medssl.networks.weights import load_weights

OUT_CHANNELS = 2


@dataclass(frozen=True)
class Stock:
    """A network of MONAI around one of our encoders.

    Attributes:
        call: What builds it, as one would type it.
        network: The same, built, with random weights.
    """

    call: str
    network: nn.Module


def export_monai(encoder: Encoder, provenance: Mapping[str, Any], *, out: Path) -> Exported:
    """Write a state dict for MONAI's network.

    Args:
        encoder: Of a kind that MONAI has.
        provenance: What its file says of itself.
        out: The file to write: ``state_dict``, and the provenance under ``medssl``.

    Raises:
        UsageError: If MONAI has no such network.
    """
    stock, state = build_stock(encoder), monai_state(encoder)
    save_torch(out, {"state_dict": state, "medssl": dict(provenance)})
    report = load_weights(stock.network, state, allow_partial=True)
    class_name = stock.call.partition("(")[0]
    return Exported(
        (f"In {stock.call}: {report.summary()}", "What is missing there is its decoder or classifier."),
        "import torch\n"
        f"from monai.networks.nets import {class_name}\n"
        "from monai.networks.utils import copy_model_state\n\n"
        f"network = {stock.call}\n"
        f'state = torch.load({quoted(out)}, weights_only=True)["state_dict"]\n'
        "copy_model_state(network, state)",
    )


def build_stock(encoder: Encoder) -> Stock:
    """Return MONAI's network for an encoder, with random weights and two output channels.

    Raises:
        UsageError: If MONAI has none.
    """
    settings = dict(encoder.architecture)
    name, in_channels = settings.pop("name"), settings.pop("in_channels")
    match name:
        case "segresnet":
            blocks = tuple(settings["blocks_down"])
            arguments = {
                "init_filters": settings["init_filters"],
                "in_channels": in_channels,
                "out_channels": OUT_CHANNELS,
                "blocks_down": blocks,
                "blocks_up": (1,) * (len(blocks) - 1),
            }
            return _stock(SegResNet, arguments)
        case "swin_unetr":
            arguments = {
                "in_channels": in_channels,
                "out_channels": OUT_CHANNELS,
                "feature_size": settings["feature_size"],
                "depths": tuple(settings["depths"]),
            }
            return _stock(SwinUNETR, arguments)
        case "resnet18" | "resnet50":
            arguments = {
                "n_input_channels": in_channels,
                "widen_factor": settings["widen_factor"],
                "num_classes": OUT_CHANNELS,
            }
            return _stock(resnet18 if name == "resnet18" else resnet50, arguments)
    raise UsageError(
        f"MONAI has no network with the encoder {name}, as DynUNet's skips are convolutions with a stride "
        "where nnU-Net's pool: export it with --to nnunet."
    )


def monai_state(encoder: Encoder) -> dict[str, Tensor]:
    """Return the encoder's tensors by the names that they have in MONAI's network."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in encoder.state_dict().items()
    }


def _stock(build: Any, arguments: dict[str, Any]) -> Stock:
    words = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return Stock(f"{build.__name__}({words})", build(**arguments))
