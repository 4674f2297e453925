"""The checkpoint from which nnU-Net fine-tunes a residual encoder.

nnU-Net reads arrays with the axes Z, Y, X, and medssl X, Y, Z. So kernels, strides, spacing and crop are
turned round, and the encoder sees anatomy in nnU-Net as it saw it in pretraining.
"""

import json
import shlex
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medssl.atomic import write_text
from medssl.errors import UsageError
from medssl.export.exported import Exported, save_torch
from medssl.networks.encoder import Encoder
from medssl.networks.foreign import turn_kernel
from medssl.networks.residual_unet import LEAK, ConvNorm, ResidualUNetEncoder

NETWORK = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
CONFIGURATION = "3d_fullres"
PLANS = "nnUNetPlans_medssl"
STEM_KEYS = ("encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0")


def export_nnunet(
    encoder: Encoder, provenance: Mapping[str, Any], *, out: Path, plans: Path | None
) -> Exported:
    """Write a checkpoint for nnU-Net, and plans that fit it.

    Args:
        encoder: A residual U-Net.
        provenance: What its file says of itself.
        out: The checkpoint to write.
        plans: nnU-Net's plans of the data set to fine-tune on, beside which those that fit are written; None
            for an nnU-Net that adapts its plans itself.

    Raises:
        UsageError: If the encoder is none that nnU-Net has, or ``plans`` are none of its plans.
    """
    checkpoint = nnunet_checkpoint(encoder, provenance)
    adapted = adapt_plans(_read_plans(plans), checkpoint, name=PLANS) if plans else None
    save_torch(out, {**checkpoint, "medssl": dict(provenance)})
    file = shlex.quote(str(out.absolute()))
    count = sum(not name.startswith("decoder.") for name in checkpoint["network_weights"])
    told = (
        f"nnU-Net's ResidualEncoderUNet takes all {count} tensors of the encoder; its decoder begins with "
        "random weights.",
        "Kernels are turned to nnU-Net's axes Z, Y, X.",
    )
    if plans and adapted:
        written = plans.with_name(f"{PLANS}.json")
        write_text(written, json.dumps(adapted, indent=2))
        return Exported(
            (*told, f"Plans for it are in {written}."),
            f"nnUNetv2_preprocess -d DATASET -plans_name {PLANS} -c {CONFIGURATION}\n"
            f"nnUNetv2_train DATASET {CONFIGURATION} 0 -p {PLANS} -pretrained_weights {file}",
        )
    advice = (
        "Without these commands, as in nnU-Net 2.8.1 of PyPI, it needs plans that fit: export once more with "
        "--plans, naming the nnUNetPlans.json of the data set."
    )
    return Exported(
        (*told, advice),
        f"nnUNetv2_preprocess_like_nnssl -d DATASET -n medssl -pc {file} -am like_pretrained\n"
        f"nnUNetv2_train_pretrained DATASET {CONFIGURATION} 0 -p ptPlans__medssl... -tr PretrainedTrainer",
    )


def nnunet_checkpoint(encoder: Encoder, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint for both ways in which nnU-Net takes foreign weights.

    ``nnUNetv2_train -pretrained_weights`` wants every tensor of the network but the segmentation layers, so
    there is a decoder of random weights beside the encoder. ``nnUNetv2_train_pretrained``, in the sources of
    nnU-Net after 2.8.1, reads encoder and plan (its document ``finetuning_from_nnssl_checkpoints.md``).

    Args:
        encoder: A residual U-Net.
        provenance: What its file says of itself: ``spacing_mm`` and ``crop_size`` are read here.

    Raises:
        UsageError: If the encoder is none that nnU-Net has.
    """
    if not isinstance(encoder, ResidualUNetEncoder):
        raise UsageError(
            f"nnU-Net has no {encoder.architecture['name']}, only residual_unet; "
            "export this one with --to monai."
        )
    crop_size = _turned(provenance["crop_size"])
    return {
        "network_weights": nnunet_weights(encoder),
        "nnssl_adaptation_plan": {
            "architecture_plans": nnunet_architecture(encoder),
            "pretrain_plan": {
                "configurations": {
                    CONFIGURATION: {"spacing": _turned(provenance["spacing_mm"]), "patch_size": crop_size}
                }
            },
            "pretrain_num_input_channels": encoder.in_channels,
            "recommended_downstream_patchsize": crop_size,
            "key_to_encoder": "encoder.stages",
            "key_to_stem": "encoder.stem",
            "keys_to_in_proj": STEM_KEYS,
            "key_to_lpe": None,
        },
        "citations": [],
    }


def adapt_plans(plans: Mapping[str, Any], checkpoint: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """Return nnU-Net's plans of a data set, made to fit a checkpoint.

    Network, spacing and patch are those of the pretraining; how intensities are normalised stays nnU-Net's.

    Args:
        plans: What nnU-Net planned, with a configuration ``3d_fullres``.
        checkpoint: From `nnunet_checkpoint`.
        name: Of the new plans, and of the folder that nnU-Net keeps its prepared data in.

    Raises:
        UsageError: If there is no such configuration.
    """
    if CONFIGURATION not in plans.get("configurations", {}):
        raise UsageError(f"These are no plans of nnU-Net with a configuration {CONFIGURATION}.")
    pretrained = checkpoint["nnssl_adaptation_plan"]
    architecture = pretrained["architecture_plans"]
    configuration = {
        **plans["configurations"][CONFIGURATION],
        **pretrained["pretrain_plan"]["configurations"][CONFIGURATION],
        "data_identifier": f"{name}_{CONFIGURATION}",
        "architecture": {
            "network_class_name": architecture["arch_class_name"],
            "arch_kwargs": architecture["arch_kwargs"],
            "_kw_requires_import": architecture["arch_kwargs_requiring_import"],
        },
    }
    return {**plans, "plans_name": name, "configurations": {CONFIGURATION: configuration}}


def nnunet_weights(encoder: ResidualUNetEncoder) -> dict[str, Tensor]:
    """Return the tensors of nnU-Net's ``ResidualEncoderUNet``, kernels ``(out, in, Z, Y, X)``.

    All but the segmentation layers, which depend on the classes: the encoder's, and a decoder as nnU-Net
    starts it, from random weights.
    """
    own = {name: _turned_tensor(tensor) for name, tensor in encoder.state_dict().items()}
    decoder = {name: _turned_tensor(tensor) for name, tensor in _Decoder(encoder).state_dict().items()}
    return {
        **{f"encoder.{name}": tensor for name, tensor in own.items()},
        **{f"decoder.encoder.{name}": tensor for name, tensor in own.items()},  # nnU-Net names them twice
        **{f"decoder.{name}": tensor for name, tensor in decoder.items()},
    }


def nnunet_architecture(encoder: ResidualUNetEncoder) -> dict[str, Any]:
    """Return the network that nnU-Net builds around such an encoder, as its plans describe one."""
    settings = encoder.architecture
    stages = len(settings["features"])
    return {
        "arch_class_name": NETWORK,
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(settings["features"]),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [_turned(kernel) for kernel in settings["kernel_sizes"]],
            "strides": [_turned(stride) for stride in settings["strides"]],
            "n_blocks_per_stage": list(settings["blocks"]),
            "n_conv_per_stage_decoder": [1] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True, "negative_slope": LEAK},
        },
        "arch_kwargs_requiring_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _read_plans(path: Path) -> dict[str, Any]:
    try:
        plans = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as plans of nnU-Net ({error}).") from error
    if not isinstance(plans, dict):
        raise UsageError(f"{path} holds no plans of nnU-Net.")
    return plans


class _Decoder(nn.Module):
    """The tensors of nnU-Net's ``UNetDecoder`` with one convolution a stage, in the order coarse to fine."""

    def __init__(self, encoder: ResidualUNetEncoder) -> None:
        super().__init__()
        features, kernels = encoder.channels, encoder.architecture["kernel_sizes"]
        levels = list(reversed(range(len(features) - 1)))
        strides = [tuple(encoder.architecture["strides"][level + 1]) for level in levels]
        self.stages = nn.ModuleList(
            _stage(2 * features[level], features[level], kernel_size=kernels[level]) for level in levels
        )
        self.transpconvs = nn.ModuleList(
            nn.ConvTranspose3d(features[level + 1], features[level], stride, stride)
            for level, stride in zip(levels, strides, strict=True)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, a=LEAK)
                nn.init.zeros_(module.bias)


def _stage(in_channels: int, out_channels: int, *, kernel_size: Sequence[int]) -> nn.Sequential:
    block = ConvNorm(in_channels, out_channels, kernel_size=kernel_size)
    return nn.Sequential(OrderedDict(convs=nn.Sequential(block)))


def _turned_tensor(tensor: Tensor) -> Tensor:
    return turn_kernel(tensor.detach().cpu()).clone(memory_format=torch.contiguous_format)


def _turned(along_axes: Sequence[Any]) -> list[Any]:
    return list(reversed(along_axes))
