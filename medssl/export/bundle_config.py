"""The config that MONAI runs a bundle by: from a folder of scans to what the network makes of them."""

from collections.abc import Mapping
from typing import Any

from medssl.export.bundle_model import BundleModel
from medssl.scans.foreground import MARGIN_VOXELS, MIN_SHARE, THRESHOLD
from medssl.scans.resample import SPLINE_ORDER

OVERLAP = 0.5
WINDOWS_AT_ONCE = 4
DECIMALS = 6

UNIT_RANGE = {"b_min": 0.0, "b_max": 1.0, "clip": True}

IMPORTS = [
    "$import csv",
    "$import glob",
    "$import os",
    "$import numpy as np",
    "$import torch",
    "$from scipy import ndimage",
]

SMOOTHING = {
    "new_shape": (
        "$lambda image: [max(1, round(length * mm / to)) "
        "for length, mm, to in zip(image.shape[1:], image.pixdim.tolist(), @spacing_mm)]"
    ),
    "ratios": "$lambda image: [old / new for old, new in zip(image.shape[1:], @new_shape(image))]",
    "smooth": (
        "$lambda image: ndimage.gaussian_filter(image.numpy(), "
        "[0, *(max(0, (ratio - 1) / 2) for ratio in @ratios(image))], mode='reflect')"
    ),
}
"""As `medssl.scans.resample` smooths axes that lose voxels."""

RESAMPLING = {
    "zoom_by": "$lambda volume, ratios: ndimage.zoom(volume, [1 / ratio for ratio in ratios], "
    f"order={SPLINE_ORDER}, mode='reflect', grid_mode=True)",
    "resample": (
        "$lambda image: torch.from_numpy(np.stack("
        "[@zoom_by(channel, @ratios(image)) for channel in @smooth(image)]))"
    ),
}
"""What `medssl.scans.resample` does; it cannot be inverted."""

FOREGROUND = {
    "coarse": (
        "$lambda image: image[(slice(None), *(slice(None, None, max(1, length // 64)) "
        "for length in image.shape[1:]))].numpy()"
    ),
    "dark": "$lambda image: np.percentile(@coarse(image), 10)",
    "bright": "$lambda image: np.percentile(@coarse(image), 99)",
    "is_foreground": (
        f"$lambda image: image.as_tensor() > @dark(image) + {THRESHOLD} * (@bright(image) - @dark(image))"
    ),
    "kept_planes": (
        "$lambda mask, axis: mask.double().mean([other for other in (1, 2, 3) if other != axis], "
        f"keepdim=True) >= {MIN_SHARE}"
    ),
    "kept_box": (
        "$lambda image: @kept_planes(@is_foreground(image), 1) & @kept_planes(@is_foreground(image), 2) "
        "& @kept_planes(@is_foreground(image), 3)"
    ),
}
"""The box of `medssl.scans.foreground`."""


def inference_config(model: BundleModel) -> dict[str, Any]:
    """Return ``inference.json``: from a folder of scans to label maps on their grids, a table or vectors."""
    config = {
        "imports": IMPORTS,
        "bundle_root": ".",
        "dataset_dir": "/path/to/scans",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$sorted(glob.glob(@dataset_dir + '/**/*.nii*', recursive=True))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": "$torch.jit.load(@bundle_root + '/models/model.ts', map_location=@device)",
        "network": "$@network_def.to(@device)",
        "spacing_mm": list(model.provenance["spacing_mm"]),
        **SMOOTHING,
        **({} if model.class_names else RESAMPLING),
        **(FOREGROUND if model.provenance["data"]["crop_to_foreground"] else {}),
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(model)},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': image} for image in @datalist]",
            "transform": "@preprocessing",
        },
    }
    if model.class_names:
        return config | _label_maps(model)
    output = "$lambda item: @network(item['image'][None].as_tensor().to(@device))[0].cpu()"
    return config | {"output": output} | (_table(model) if model.targets else _embeddings())


def _label_maps(model: BundleModel) -> dict[str, Any]:
    return {
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": model.crop_size,
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


def _table(model: BundleModel) -> dict[str, Any]:
    return {
        "table": "$open(@output_dir + '/predictions.csv', 'w', newline='', encoding='utf-8')",
        "writer": "$csv.writer(@table)",
        "header": ["image", *model.probability_names],
        "probabilities": f"$lambda item: [round(value, {DECIMALS}) for value in @output(item).tolist()]",
        "run": [
            "$os.makedirs(@output_dir, exist_ok=True)",
            "$@writer.writerow(@header)",
            "$@writer.writerows([path, *@probabilities(item)] for path, item in zip(@datalist, @dataset))",
            "$@table.close()",
        ],
    }


def _embeddings() -> dict[str, Any]:
    return {
        "embeddings": "$torch.stack([@output(item) for item in @dataset])",
        "run": [
            "$os.makedirs(@output_dir, exist_ok=True)",
            "$torch.save({'images': @datalist, 'embeddings': @embeddings}, @output_dir + '/embeddings.pt')",
        ],
    }


def _preprocessing(model: BundleModel) -> list[dict[str, Any]]:
    """Return the transforms that come nearest to `medssl.scans.prepare_volume`, in its order."""
    data = model.provenance["data"]
    crop = {
        "_target_": "CropForegroundd",
        "source_key": "image",
        "select_fn": "@kept_box",
        "channel_indices": 0,
        "margin": MARGIN_VOXELS,
        "allow_smaller": True,
    }
    crops = [crop] if data["crop_to_foreground"] else []
    steps: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", "image_only": True},
        {"_target_": "EnsureChannelFirstd"},
        {"_target_": "Orientationd", "axcodes": "RAS"},
    ]
    if model.modality == "ct":
        lower, upper = data["ct_window_hu"]
        scale = {"_target_": "ScaleIntensityRanged", "a_min": lower, "a_max": upper, **UNIT_RANGE}
        steps += [scale, *crops]
    else:
        lower, upper = data["percentiles"]
        scale = {
            "_target_": "ScaleIntensityRangePercentilesd",
            "lower": lower,
            "upper": upper,
            "channel_wise": True,
            **UNIT_RANGE,
            "clip": False,  # of what resampling makes of it
        }
        steps += [*crops, scale]
    smoothed = (
        "$lambda image: torch.zeros_like(image) + torch.from_numpy(@smooth(image))"  # keeps the metadata
    )
    linear = [
        {"_target_": "Lambdad", "func": smoothed},
        {"_target_": "Spacingd", "pixdim": "@spacing_mm", "scale_extent": True},
    ]
    steps += [
        *(linear if model.class_names else [{"_target_": "Lambdad", "func": "@resample"}]),
        {"_target_": "ScaleIntensityRanged", "a_min": 0.0, "a_max": 1.0, **UNIT_RANGE},
        {"_target_": "EnsureTyped", "dtype": "$torch.float32"},
    ]
    if not (model.class_names or model.targets):
        steps.append({"_target_": "ResizeWithPadOrCropd", "spatial_size": model.crop_size})
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
