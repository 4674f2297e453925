"""A MONAI bundle: a network with the transforms around it, which MONAI runs without medssl."""

import json
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medssl import __version__
from medssl.export.bundle_config import inference_config
from medssl.export.bundle_model import BundleModel, to_torchscript
from medssl.export.exported import Exported

SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
RUN = "python -m monai.bundle run --config_file configs/inference.json --dataset_dir SCANS --output_dir OUT"
LICENCE = """\
Whoever trained these weights decides about their licence; none was chosen when they were exported.
Mind the licence of the scans they were trained on.
"""


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
        to_torchscript(model).save(str(temporary / "models" / "model.ts"))
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
    what = "label maps" if model.class_names else "predictions.csv" if model.targets else "embeddings.pt"
    return Exported(
        (
            f"It turns a folder of scans into {what}; configs/inference.json says how they are prepared.",
            f"It runs without medssl: {_install(model)}",
        ),
        f"cd {shlex.quote(str(out.absolute()))}\n{RUN}",
    )


def bundle_metadata(model: BundleModel) -> dict[str, Any]:
    """Return ``metadata.json``: what goes in and out, and the versions it was made with."""
    image = {
        "type": "image",
        "format": "hounsfield" if model.modality == "ct" else "magnitude",
        "modality": {"ct": "CT", "mr": "MR"}.get(model.modality, "n/a"),
        "num_channels": model.in_channels,
        "spatial_shape": ["*", "*", "*"] if model.targets else model.crop_size,
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": not model.targets,
        "channel_def": _by_index(model.channel_names),
    }
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"exported by medssl {__version__}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in _packages(model)},
        "task": _task(model),
        "description": f"{_task(model)}, made with medssl {__version__}.",
        "authors": "whoever trained it",
        "copyright": "see LICENSE",
        "intended_use": "Research; not for diagnosis.",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": _prediction(model)}},
        "medssl": dict(model.provenance),
    }


def _prediction(model: BundleModel) -> dict[str, Any]:
    """Return what comes out of the network, as MONAI's metadata describe tensors."""
    if model.class_names:
        names = list(model.class_names.values())
        return {
            "type": "image",
            "format": "segmentation",
            "num_channels": len(names),
            "spatial_shape": model.crop_size,
            "dtype": "float32",
            "value_range": [],
            "is_patch_data": True,
            "channel_def": _by_index(names),
        }
    if model.targets:
        return {
            "type": "probabilities",
            "format": "classes",
            "num_channels": len(model.probability_names),
            "spatial_shape": [],
            "dtype": "float32",
            "value_range": [0, 1],
            "is_patch_data": False,
            "channel_def": _by_index(model.probability_names),
        }
    return {
        "type": "feature",
        "format": "latent",
        "num_channels": _width(model),
        "spatial_shape": [],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
        "channel_def": {},
    }


def _packages(model: BundleModel) -> list[str]:
    """Return what the transforms of a bundle need beside MONAI."""
    return ["nibabel", "scipy", *(["pytorch-ignite"] if model.class_names else [])]


def _install(model: BundleModel) -> str:
    """Return the line that installs all that runs a bundle; MONAI's command line is made with fire."""
    return f"pip install monai fire {' '.join(_packages(model))}"


def _by_index(names: Sequence[str]) -> dict[str, str]:
    return {str(index): name for index, name in enumerate(names)}


def _width(model: BundleModel) -> int:
    with torch.no_grad():
        embedding: Tensor = model.network.eval()(torch.zeros(1, model.in_channels, *model.crop_size))
    return embedding.shape[1]


def _task(model: BundleModel) -> str:
    if model.targets:
        return f"Classification of scans by {', '.join(model.targets)}"
    if model.class_names:
        return f"Segmentation of {', '.join(name for value, name in model.class_names.items() if value)}"
    return "Embedding of the middle of a scan by a pretrained encoder"


def _readme(model: BundleModel) -> str:
    spacing = " x ".join(f"{mm:g}" for mm in model.provenance["spacing_mm"])
    size = " x ".join(map(str, model.crop_size))
    is_cropped = model.provenance["data"]["crop_to_foreground"]
    return (
        f"# {_task(model)}\n\n"
        f"Scans are brought to RAS, {spacing} mm a voxel and intensities in [0, 1], "
        f"{'and cropped to what is not dark, ' if is_cropped else ''}and seen in windows of {size} voxels. "
        f"{_several_channels(model)}{_about_results(model)}{_differences(model)}\n\n"
        f"Research software: not for diagnosis.\n\n```bash\n{_install(model)}\n{RUN}\n```\n\n"
        "## What the weights were made from\n\n"
        f"```json\n{json.dumps(dict(model.provenance), indent=2)}\n```\n"
    )


def _several_channels(model: BundleModel) -> str:
    if model.in_channels == 1:
        return ""
    return f"Each file holds {', '.join(model.channel_names)} along its fourth axis. "


def _about_results(model: BundleModel) -> str:
    if not model.targets:
        return ""
    return (
        "`predictions.csv` holds a row a scan: its path, and the mean over all windows that cover it of the "
        "probability of each class. "
    )


def _differences(model: BundleModel) -> str:
    """Return what is not as `medssl predict` does it."""
    told = []
    if model.modality != "ct":
        told.append(
            "medssl leaves blank background out of the percentiles that become 0 and 1; these transforms "
            "keep it in."
        )
    if model.class_names:
        told.append("medssl resamples scans by cubic splines; these transforms do so linearly.")
    told.append(
        "medssl also refuses scans that cannot be right, and tells the modality of each; here all are taken "
        f"for {model.modality.upper()}."
    )
    return " ".join((*told, "So results can differ from those of `medssl predict`."))
