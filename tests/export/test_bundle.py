"""MONAI runs an exported bundle, and comes to what the network itself comes to."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from medssl.errors import UsageError
from medssl.finetune.classification import Classification
from medssl.finetune.model import FinetuneModel
from medssl.finetune.segmentation import Segmentation
from medssl.finetune.targets import Target
from medssl.finetune.weights import save_model
from medssl.networks.weights import load_encoder
from medssl.workflows.export import export

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # MONAI warns of bundles by strangers; its own imports warn as well
]

LABELS = {0: "background", 2: "ball", 5: "rest"}


@pytest.fixture
def scans(write_balls: Callable[..., Path], tmp_path: Path) -> Path:
    """Two scans, one of them stored from left to right and head to foot."""
    folder = tmp_path / "scans"
    write_balls(folder, pool=2, test=0)
    for label in folder.glob("label*"):
        label.unlink()
    image = nib.load(folder / "scan1_0.nii.gz")
    turned = image.as_reoriented(nib.orientations.axcodes2ornt("LAI"))
    nib.save(turned, folder / "scan1_0.nii.gz")
    return folder


@pytest.fixture
def segmenter(ball_run: Path, tmp_path: Path) -> Path:
    encoder, provenance = load_encoder(ball_run / "encoder.safetensors")
    torch.manual_seed(0)
    goal = Segmentation(LABELS)
    model = FinetuneModel(encoder, goal.make_head(encoder, is_linear=False), name=goal.name)
    about = {**provenance, "is_linear": False, "channel_names": ["T1"]}
    save_model(tmp_path / "model.safetensors", model, goal=goal, provenance=about)
    return tmp_path / "model.safetensors"


def run_bundle(snippet: str, scans: Path, results: Path) -> None:
    """Do what the printed lines say, in this process."""
    where, command = snippet.splitlines()
    bundle = Path(shlex.split(where)[1])
    (config,) = re.findall(r"--config_file (\S+)", command)
    places: dict[str, Any] = {
        "bundle_root": str(bundle),
        "dataset_dir": str(scans),
        "output_dir": str(results),
        "device": "$torch.device('cpu')",
    }
    monai.bundle.run(config_file=str(bundle / config), **places)


def test_label_maps_lie_on_the_grid_of_each_scan(segmenter: Path, scans: Path, tmp_path: Path) -> None:
    exported = export(segmenter, to="bundle", out=tmp_path / "bundle")
    run_bundle(exported.snippet, scans, tmp_path / "results")
    written = sorted((tmp_path / "results").rglob("*.nii.gz"))
    maps = [nib.load(path) for path in written]
    for label_map, scan in zip(maps, sorted(scans.glob("*.nii.gz")), strict=True):
        image = nib.load(scan)
        assert label_map.shape == image.shape
        np.testing.assert_allclose(label_map.affine, image.affine, atol=1e-4)
        assert set(np.unique(label_map.dataobj)) <= set(LABELS)


def test_an_encoder_gives_its_embeddings(ball_run: Path, scans: Path, tmp_path: Path) -> None:
    weights = ball_run / "encoder.safetensors"
    exported = export(weights, to="bundle", out=tmp_path / "bundle")
    run_bundle(exported.snippet, scans, tmp_path / "results")
    saved = torch.load(tmp_path / "results" / "embeddings.pt", weights_only=True)
    assert [Path(path).name for path in saved["images"]] == ["scan0_0.nii.gz", "scan1_0.nii.gz"]
    encoder, provenance = load_encoder(weights)
    volume = nib.load(scans / "scan0_0.nii.gz").get_fdata()
    lower, upper = np.percentile(volume, provenance["data"]["percentiles"])
    image = torch.from_numpy(np.clip((volume - lower) / (upper - lower), 0, 1)).float()[None, None]
    with torch.no_grad():
        expected = encoder.eval().embed(image[..., 1:17, 1:17, 1:17])
    torch.testing.assert_close(saved["embeddings"][:1], expected, rtol=1e-2, atol=1e-3)


def test_metadata_tell_what_goes_in_and_out(segmenter: Path, tmp_path: Path) -> None:
    export(segmenter, to="bundle", out=tmp_path / "bundle")
    metadata = json.loads((tmp_path / "bundle" / "configs" / "metadata.json").read_text())
    wanted = {
        "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version",
        "task", "description", "authors", "copyright", "network_data_format", "schema",
    }  # fmt: skip
    assert wanted <= metadata.keys()
    image = metadata["network_data_format"]["inputs"]["image"]
    assert (image["num_channels"], image["spatial_shape"]) == (1, [16, 16, 16])
    assert image["channel_def"] == {"0": "T1"}
    pred = metadata["network_data_format"]["outputs"]["pred"]
    assert pred["channel_def"] == {"0": "background", "1": "ball", "2": "rest"}
    assert {path.name for path in (tmp_path / "bundle").iterdir()} == {"configs", "docs", "models", "LICENSE"}


def test_a_classifier_is_refused_and_leaves_nothing(ball_run: Path, tmp_path: Path) -> None:
    encoder, provenance = load_encoder(ball_run / "encoder.safetensors")
    goal = Classification((Target("malignant", "malignant", ("no", "yes")),), (), ((1.0, 1.0),))
    head: nn.Module = goal.make_head(encoder, is_linear=False)
    model = FinetuneModel(encoder, head, name=goal.name)
    save_model(
        tmp_path / "model.safetensors", model, goal=goal, provenance={**provenance, "is_linear": False}
    )
    with pytest.raises(UsageError, match="--to onnx"):
        export(tmp_path / "model.safetensors", to="bundle", out=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
