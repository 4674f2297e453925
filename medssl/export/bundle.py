"""A MONAI bundle: a network with the transforms around it, which MONAI runs without medssl."""

import json
import shlex
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medssl import __version__
from medssl.export.exported import Exported
from medssl.networks.encoder import Encoder

SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
OVERLAP = 0.5
WINDOWS_AT_ONCE = 4
LICENCE = """\
Whoever trained these weights decides about their licence; none was chosen when they were exported.
Mind the licence of the scans they were trained on.
"""


@dataclass(frozen=True)
class BundleModel:
    """What goes into a bundle.

    Attributes:
        network: From images ``(B, C, X, Y, Z)`` to logits ``(B, classes, X, Y, Z)`` or embeddings ``(B, D)``.
        in_channels: C.
        class_names: Of a segmentation, by the value in its label map; None for an encoder.
        channel_names: Of the C images.
        provenance: What the weights file says of itself.
        modality: "ct", "mr" or "other": how intensities are normalised.
    """

    network: nn.Module
    in_channels: int
    class_names: Mapping[int, str] | None
    channel_names: Sequence[str]
    provenance: Mapping[str, Any]
    modality: str


class Embedder(nn.Module):
    """An encoder as a function from an image to its embedding.

    Args:
        encoder: With its weights.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(B, D)``, the mean over the coarsest feature map."""
        return self.encoder.embed(image)


def export_bundle(model: BundleModel, *, out: Path) -> Exported:
    """Write a bundle, whole or not at all.

    Args:
        model: What goes into it.
        out: The folder to make.
    """
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        for folder in ("configs", "models", "docs"):
            (temporary / folder).mkdir()
        _trace(model).save(str(temporary / "models" / "model.ts"))
        configs = {"metadata": bundle_metadata(model), "inference": inference_config(model)}
        for name, content in configs.items():
            (temporary / "configs" / f"{name}.json").write_text(json.dumps(content, indent=4) + "\n")
        (temporary / "docs" / "README.md").write_text(_readme(model), encoding="utf-8")
        (temporary / "LICENSE").write_text(LICENCE)
        temporary.chmod(0o755)
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    what = "label maps" if model.class_names else "embeddings.pt"
    return Exported(
        (f"It turns a folder of scans into {what}; configs/inference.json says how they are prepared.",),
        f"cd {shlex.quote(str(out.absolute()))}\n"
        "python -m monai.bundle run --config_file configs/inference.json"
        " --dataset_dir SCANS --output_dir OUT",
    )


def bundle_metadata(model: BundleModel) -> dict[str, Any]:
    """Return ``metadata.json``: what goes in and out, and the versions it was made with."""
    size = list(model.provenance["crop_size"])
    image = {
        "type": "image",
        "format": "hounsfield" if model.modality == "ct" else "magnitude",
        "modality": {"ct": "CT", "mr": "MR"}.get(model.modality, "n/a"),
        "num_channels": model.in_channels,
        "spatial_shape": size,
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": True,
        "channel_def": {str(index): name for index, name in enumerate(model.channel_names)},
    }
    if model.class_names:
        names = list(model.class_names.values())
        pred: dict[str, Any] = {
            "type": "image",
            "format": "segmentation",
            "num_channels": len(names),
            "spatial_shape": size,
            "dtype": "float32",
            "value_range": [0, 1],
            "is_patch_data": True,
            "channel_def": {str(index): name for index, name in enumerate(names)},
        }
    else:
        pred = {
            "type": "feature",
            "format": "latent",
            "num_channels": 1,
            "spatial_shape": [_width(model)],
            "dtype": "float32",
            "value_range": [],
            "is_patch_data": True,
            "channel_def": {"0": "embedding"},
        }
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"exported by medssl {__version__}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"nibabel": version("nibabel")},
        "task": _task(model),
        "description": f"{_task(model)}, made with medssl {__version__}.",
        "authors": "whoever trained it",
        "copyright": "see LICENSE",
        "intended_use": "Research; not for diagnosis.",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
        "medssl": dict(model.provenance),
    }


def inference_config(model: BundleModel) -> dict[str, Any]:
    """Return ``inference.json``: from a folder of scans to label maps on their own grids, or embeddings."""
    config = {
        "imports": ["$import glob", "$import os", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "/path/to/scans",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$sorted(glob.glob(@dataset_dir + '/**/*.nii*', recursive=True))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": "$torch.jit.load(@bundle_root + '/models/model.ts', map_location=@device)",
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(model)},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': image} for image in @datalist]",
            "transform": "@preprocessing",
        },
    }
    if not model.class_names:
        embed = "@network(item['image'][None].as_tensor().to(@device)).cpu()"
        return {
            **config,
            "embeddings": f"$torch.cat([{embed} for item in @dataset])",
            "run": [
                "$os.makedirs(@output_dir, exist_ok=True)",
                "$torch.save({'images': @datalist, 'embeddings': @embeddings}, "
                "@output_dir + '/embeddings.pt')",
            ],
        }
    return {
        **config,
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(model.provenance["crop_size"]),
            "sw_batch_size": WINDOWS_AT_ONCE,
            "overlap": OVERLAP,
            "mode": "gaussian",
        },
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(model.class_names)},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "run": ["$@evaluator.run()"],
    }


def _preprocessing(model: BundleModel) -> list[dict[str, Any]]:
    data = model.provenance["data"]
    unit_range = {"b_min": 0.0, "b_max": 1.0, "clip": True}
    if model.modality == "ct":
        lower, upper = data["ct_window_hu"]
        scale = {"_target_": "ScaleIntensityRanged", "a_min": lower, "a_max": upper, **unit_range}
    else:
        lower, upper = data["percentiles"]
        scale = {
            "_target_": "ScaleIntensityRangePercentilesd",
            "lower": lower,
            "upper": upper,
            "channel_wise": True,
            **unit_range,
        }
    steps: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", "image_only": True},
        {"_target_": "EnsureChannelFirstd"},
        {"_target_": "Orientationd", "axcodes": "RAS"},
        {"_target_": "Spacingd", "pixdim": list(model.provenance["spacing_mm"])},
        scale,
        {"_target_": "EnsureTyped", "dtype": "$torch.float32"},
    ]
    if not model.class_names:
        size = list(model.provenance["crop_size"])
        steps.append({"_target_": "ResizeWithPadOrCropd", "spatial_size": size})
    return [{**step, "keys": "image"} for step in steps]


def _postprocessing(class_names: Mapping[int, str]) -> list[dict[str, Any]]:
    values = list(class_names)
    steps: list[dict[str, Any]] = [
        {
            "_target_": "Invertd",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
        },
        {"_target_": "AsDiscreted", "argmax": True},
    ]
    if values != list(range(len(values))):
        steps.append(
            {"_target_": "MapLabelValued", "orig_labels": list(range(len(values))), "target_labels": values}
        )
    steps.append({"_target_": "SaveImaged", "output_dir": "@output_dir", "output_dtype": "$torch.uint8"})
    return [{**step, "keys": "pred"} for step in steps]


def _trace(model: BundleModel) -> torch.jit.ScriptModule:
    example = torch.rand(2, model.in_channels, *model.provenance["crop_size"])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of sizes that become constants: windows all have the crop's
        traced: torch.jit.ScriptModule = torch.jit.trace(model.network.eval(), example)
    return traced


def _width(model: BundleModel) -> int:
    with torch.no_grad():
        embedding: Tensor = model.network.eval()(
            torch.zeros(1, model.in_channels, *model.provenance["crop_size"])
        )
    return embedding.shape[1]


def _task(model: BundleModel) -> str:
    if not model.class_names:
        return "Embedding of the middle of a scan by a pretrained encoder"
    return f"Segmentation of {', '.join(name for value, name in model.class_names.items() if value)}"


def _readme(model: BundleModel) -> str:
    spacing = " x ".join(f"{mm:g}" for mm in model.provenance["spacing_mm"])
    size = " x ".join(map(str, model.provenance["crop_size"]))
    return (
        f"# {_task(model)}\n\n"
        f"Scans are brought to RAS, {spacing} mm a voxel and intensities in [0, 1], and seen in windows of "
        f"{size} voxels. medssl leaves blank background out of its percentiles and crops it away; these "
        "transforms do not, so results can differ slightly from `medssl predict`.\n\n"
        "Research software: not for diagnosis.\n\n"
        "## What the weights were made from\n\n"
        f"```json\n{json.dumps(dict(model.provenance), indent=2)}\n```\n"
    )
