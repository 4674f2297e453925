"""From our weights to files for the tools of others, and how to load them there."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from medssl.atomic import write_text
from medssl.errors import UsageError
from medssl.export.graph import FIXED_SIZE, ImageModel, build_program, save_onnx, save_program
from medssl.export.monai import build_stock, monai_state
from medssl.export.nnunet import CONFIGURATION, adapt_plans, nnunet_checkpoint
from medssl.export.weights_file import save_torch
from medssl.finetune.classification import Classification
from medssl.finetune.transfer import WEIGHTS
from medssl.finetune.weights import find_models, load_model
from medssl.networks.encoder import Encoder
from medssl.networks.provenance import read_provenance
from medssl.networks.weights import load_encoder, load_weights, read_weights, save_weights

SUFFIXES = {"nnunet": ".pth", "monai": ".pt", "safetensors": ".safetensors", "torch": ".pt2", "onnx": ".onnx"}
"""What to export to, and how the file's name must end."""


PLANS = "nnUNetPlans_medssl"


@dataclass(frozen=True)
class Exported:
    """What was written, and what to do with it.

    Attributes:
        told: What the other side will find, one sentence each.
        snippet: To paste there.
    """

    told: tuple[str, ...]
    snippet: str


def export(source: Path, *, to: str, out: Path, plans: Path | None = None) -> Exported:
    """Write weights in the format of another tool.

    Args:
        source: Run folder of pretraining or fine-tuning, or a weights file of one.
        to: One of `SUFFIXES`.
        out: The file to write, which must not exist.
        plans: For nnU-Net: its plans of the data set to fine-tune on; plans that fit are written beside them.

    Raises:
        UsageError: If the encoder does not fit there, or a name is wrong.
        CheckpointError: If the weights cannot be read.
    """
    if not out.name.endswith(SUFFIXES[to]):
        raise UsageError(f"{out}: for {to} the name must end in {SUFFIXES[to]}.")
    if out.exists():
        raise UsageError(f"{out} exists already; choose another name or remove it first.")
    if plans and to != "nnunet":
        raise UsageError("--plans is for --to nnunet.")
    weights = find_weights(source)
    out.parent.mkdir(parents=True, exist_ok=True)
    if to == "nnunet":
        return _to_nnunet(*read_encoder(weights), out=out, plans=plans)
    if to == "monai":
        return _to_monai(*read_encoder(weights), out=out)
    if to == "safetensors":
        return _to_safetensors(weights, out)
    return _to_graph(weights, out, is_onnx=to == "onnx")


def find_weights(source: Path) -> Path:
    """Return the weights file of a run, or the file itself.

    Raises:
        UsageError: If there is none, or one for each of several folds.
    """
    if (source / WEIGHTS).exists():
        return source / WEIGHTS
    models = find_models(source)
    if len(models) > 1:
        raise UsageError(f"{source} holds a model for each fold: name one of them, such as {models[0]}.")
    return models[0]


def read_encoder(weights: Path) -> tuple[Encoder, Mapping[str, Any]]:
    """Return the encoder of a weights file, pretrained or fine-tuned, and what the file says of itself."""
    provenance = read_provenance(weights)
    if "goal" not in provenance:
        return load_encoder(weights)
    return load_model(weights).model.encoder, provenance


def _to_nnunet(encoder: Encoder, provenance: Mapping[str, Any], *, out: Path, plans: Path | None) -> Exported:
    checkpoint = nnunet_checkpoint(encoder, provenance)
    save_torch(out, {**checkpoint, "medssl": dict(provenance)})
    count = sum(not name.startswith("decoder.") for name in checkpoint["network_weights"])
    told = [
        f"nnU-Net's ResidualEncoderUNet takes all {count} tensors of the encoder; its decoder begins with "
        "random weights.",
        "Kernels are turned to nnU-Net's axes Z, Y, X.",
    ]
    if plans:
        adapted = plans.with_name(f"{PLANS}.json")
        write_text(adapted, json.dumps(adapt_plans(_read_plans(plans), checkpoint, name=PLANS), indent=2))
        told.append(f"Plans for it are in {adapted}.")
        return Exported(
            tuple(told),
            f"nnUNetv2_preprocess -d DATASET -plans_name {PLANS} -c {CONFIGURATION}\n"
            f"nnUNetv2_train DATASET {CONFIGURATION} 0 -p {PLANS} -pretrained_weights {out.absolute()}",
        )
    told.append(
        "Without these commands, as in nnU-Net 2.8.1 of PyPI, it needs plans that fit: export once more with "
        "--plans, naming the nnUNetPlans.json of the data set."
    )
    return Exported(
        tuple(told),
        f"nnUNetv2_preprocess_like_nnssl -d DATASET -n medssl -pc {out.absolute()} -am like_pretrained\n"
        f"nnUNetv2_train_pretrained DATASET {CONFIGURATION} 0 -p ptPlans__medssl... -tr PretrainedTrainer",
    )


def _read_plans(path: Path) -> dict[str, Any]:
    try:
        plans = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as plans of nnU-Net ({error}).") from error
    if not isinstance(plans, dict):
        raise UsageError(f"{path} holds no plans of nnU-Net.")
    return plans


def _to_monai(encoder: Encoder, provenance: Mapping[str, Any], *, out: Path) -> Exported:
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
        f'state = torch.load("{out.absolute()}", weights_only=True)["state_dict"]\n'
        "copy_model_state(network, state)",
    )


def _to_graph(weights: Path, out: Path, *, is_onnx: bool) -> Exported:
    provenance = read_provenance(weights)
    x, y, z = provenance["crop_size"]
    if "goal" in provenance:
        finetuned = load_model(weights)
        encoder = finetuned.model.encoder
        covariates = len(finetuned.goal.covariates) if isinstance(finetuned.goal, Classification) else 0
        network: nn.Module = ImageModel(finetuned.model, covariates=covariates)
        result = "logits"
    else:
        network = encoder = load_encoder(weights)[0]
        covariates, result = 0, "feature maps, fine to coarse"
    program = build_program(network, encoder, crop_size=(x, y, z))
    if is_onnx:
        save_onnx(out, program)
    else:
        save_program(out, program)
    image, *_ = (tuple(tensor.shape[1:]) for tensor in program.example_inputs[0])
    stride = " x ".join(map(str, encoder.strides[-1]))
    is_fixed = encoder.architecture["name"] in FIXED_SIZE
    told = (
        f"It takes images of {encoder.in_channels} channels along R, A and S, intensities in [0, 1], "
        f"voxels of {_by(provenance['spacing_mm'])} mm, and returns {result}.",
        f"Sizes are fixed at {_by(image[1:])}." if is_fixed else f"Sizes must be multiples of {stride}.",
    )
    return Exported(told, _graph_snippet(out, (1, *image), covariates, is_onnx=is_onnx))


def _graph_snippet(out: Path, image: tuple[int, ...], covariates: int, *, is_onnx: bool) -> str:
    shapes = [image, (1, covariates)] if covariates else [image]
    if is_onnx:
        inputs = ", ".join(f"np.zeros({shape}, np.float32)" for shape in shapes)
        return (
            "import numpy as np\nimport onnxruntime\n\n"
            f'session = onnxruntime.InferenceSession("{out.absolute()}")\n'
            f"inputs = [{inputs}]\n"
            "names = [each.name for each in session.get_inputs()]\n"
            "outputs = session.run(None, dict(zip(names, inputs)))"
        )
    inputs = ", ".join(f"torch.zeros{shape}" for shape in shapes)
    return (
        "import torch\n\n"
        f'network = torch.export.load("{out.absolute()}").module()\n'
        f"outputs = network({inputs})"
    )


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def _to_safetensors(weights: Path, out: Path) -> Exported:
    provenance = read_provenance(weights)
    module = load_model(weights).model if "goal" in provenance else load_encoder(weights)[0]
    save_weights(out, module, provenance=provenance)
    return Exported(
        (f"It holds {len(read_weights(out))} tensors, and what the file says of itself.",),
        f'from safetensors.torch import load_file\n\nstate = load_file("{out.absolute()}")',
    )
