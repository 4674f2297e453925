"""From our weights to files for the tools of others, and how to load them there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from medssl.errors import UsageError
from medssl.export.bundle import export_bundle
from medssl.export.bundle_model import BundleModel, Embedder
from medssl.export.exported import Exported, quoted
from medssl.export.graph import ImageModel, export_graph
from medssl.export.monai import export_monai
from medssl.export.nnunet import export_nnunet
from medssl.finetune.classification import Classification
from medssl.finetune.segmentation import Segmentation
from medssl.finetune.transfer import WEIGHTS
from medssl.finetune.weights import find_models, load_model
from medssl.networks.encoder import Encoder
from medssl.networks.provenance import read_provenance
from medssl.networks.weights import load_encoder, read_weights, save_weights

SUFFIXES = {
    "nnunet": ".pth",
    "monai": ".pt",
    "bundle": "",
    "safetensors": ".safetensors",
    "torch": ".pt2",
    "onnx": ".onnx",
}
"""What to export to, and how the file's name must end; a bundle is a folder."""


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
    match to:
        case "nnunet":
            return export_nnunet(*read_encoder(weights), out=out, plans=plans)
        case "monai":
            return export_monai(*read_encoder(weights), out=out)
        case "bundle":
            return export_bundle(_read_bundle_model(weights), out=out)
        case "safetensors":
            return _export_safetensors(weights, out=out)
    return export_graph(*_read_network(weights), read_provenance(weights), out=out)


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


def _read_network(weights: Path) -> tuple[nn.Module, Encoder]:
    """Return the network of a weights file as a function of tensors, and its encoder."""
    if "goal" not in read_provenance(weights):
        encoder, _ = load_encoder(weights)
        return encoder, encoder
    finetuned = load_model(weights)
    goal = finetuned.goal
    covariates = len(goal.covariates) if isinstance(goal, Classification) else 0
    return ImageModel(finetuned.model, covariates=covariates), finetuned.model.encoder


def _read_bundle_model(weights: Path) -> BundleModel:
    provenance = read_provenance(weights)
    modalities = provenance["data_fingerprint"]["modalities"]
    modality = max(modalities, key=modalities.__getitem__)
    if "goal" not in provenance:
        encoder, _ = load_encoder(weights)
        return BundleModel(Embedder(encoder), encoder.in_channels, ("image",), provenance, modality)
    finetuned = load_model(weights)
    network, channel_names = ImageModel(finetuned.model), provenance["channel_names"]
    about = (network, len(channel_names), channel_names, provenance, modality)
    match finetuned.goal:
        case Segmentation(classes=classes, class_names=class_names):
            return BundleModel(*about, class_names={value: class_names[value] for value in classes})
        case Classification(covariates=(), targets=targets):
            return BundleModel(*about, targets={target.name: target.classes for target in targets})
    raise UsageError(
        f"{weights} wants covariates beside the scan, for which a bundle has no place: use --to onnx."
    )


def _export_safetensors(weights: Path, *, out: Path) -> Exported:
    provenance = read_provenance(weights)
    module = load_model(weights).model if "goal" in provenance else load_encoder(weights)[0]
    save_weights(out, module, provenance=provenance)
    return Exported(
        (f"It holds {len(read_weights(out))} tensors, and what the file says of itself.",),
        f"from safetensors.torch import load_file\n\nstate = load_file({quoted(out)})",
    )
