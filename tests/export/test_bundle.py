"""MONAI runs an exported bundle, and comes to what the network itself comes to."""

import csv
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

from medssl.errors import UsageError
from medssl.finetune.classification import Classification
from medssl.finetune.covariates import Covariate
from medssl.finetune.model import FinetuneModel
from medssl.finetune.segmentation import Segmentation
from medssl.finetune.targets import Target
from medssl.finetune.weights import save_model
from medssl.networks.weights import load_encoder
from medssl.progress import SilentProgress
from medssl.workflows.export import export
from medssl.workflows.predict import predict

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # MONAI warns of bundles by strangers; its own imports warn as well
]

SCHEMA = Path(__file__).parent / "data" / "metadata_schema.json"
"""Stands where MONAI would download its schema to, which it does not where a file lies there already."""

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
    about = {
        **provenance,
        "is_linear": False,
        "channel_names": ["T1"],
        "spacing_mm": [1.4, 1.4, 1.4],
        "data": {**provenance["data"], "crop_to_foreground": True},
    }
    save_model(tmp_path / "model.safetensors", model, goal=goal, provenance=about)
    return tmp_path / "model.safetensors"


@pytest.fixture
def classifier(ball_run: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a classifier of voxels of 1.4 mm with two targets and, if any are given, covariates."""

    def write(*covariates: Covariate, modality: str = "mr") -> Path:
        encoder, provenance = load_encoder(ball_run / "encoder.safetensors")
        torch.manual_seed(0)
        targets = (Target("malignant", "malignant", ("no", "yes")), Target("grade", "grade", ("1", "2", "3")))
        goal = Classification(targets, covariates, ((1.0, 1.0), (1.0, 1.0, 1.0)))
        head = goal.make_head(encoder, is_linear=False)
        model = FinetuneModel(encoder, head, name=goal.name)
        for parameter in head.parameters():
            parameter.data *= 10  # so that the probabilities of scans differ
        about = {
            **provenance,
            "is_linear": False,
            "channel_names": ["T1"],
            "spacing_mm": [1.4, 1.4, 1.4],
            "data": {**provenance["data"], "crop_to_foreground": True, "modality": modality},
            "data_fingerprint": {"modalities": {modality: 8}, "scans": 8},
        }
        save_model(tmp_path / "model.safetensors", model, goal=goal, provenance=about)
        return tmp_path / "model.safetensors"

    return write


@pytest.fixture
def dim_scans(tmp_path: Path) -> Path:
    """Boxes of noise in dim noise: thick slices, stored from right to left, and smaller than a crop."""
    folder, rng = tmp_path / "dim scans", np.random.default_rng(0)
    folder.mkdir()
    grids = [((40, 44, 20), (1, 1, 3)), ((50, 30, 40), (-0.8, 1, 1)), ((14, 14, 14), (1, 1, 1))]
    for number, (shape, steps_mm) in enumerate(grids):
        volume = rng.normal(60, 15, shape)
        volume[0, 0, 0] = 3000  # a speck, which does not count as foreground
        volume[4:-3, 5:-6, 2:-4] += rng.gamma(number + 1, 200, np.subtract(shape, (7, 11, 6)))
        image = nib.Nifti1Image(volume.astype(np.int16), np.diag([*steps_mm, 1]))
        nib.save(image, folder / f"scan, {number}.nii.gz")
    return folder


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


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


def test_label_maps_are_nearly_those_of_medssl_predict(
    segmenter: Path, dim_scans: Path, tmp_path: Path
) -> None:
    exported = export(segmenter, to="bundle", out=tmp_path / "bundle")
    run_bundle(exported.snippet, dim_scans, tmp_path / "results")
    predict(segmenter, dim_scans, out=tmp_path / "expected", device="cpu", progress=SilentProgress())
    given, expected = (sorted((tmp_path / name).rglob("*.nii.gz")) for name in ("results", "expected"))
    assert len(given) == len(expected) == 3
    for one, other in zip(given, expected, strict=True):
        is_equal = np.asarray(nib.load(one).dataobj) == np.asarray(nib.load(other).dataobj)
        # An untrained network in noise is hardest: without crop and smoothing only half are equal.
        assert is_equal.mean() > 0.8


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


@pytest.mark.parametrize("kind", ["encoder", "segmenter", "classifier"])
def test_monai_verifies_metadata_and_network(
    kind: str, ball_run: Path, segmenter: Path, classifier: Callable[..., Path], tmp_path: Path
) -> None:
    weights = {"encoder": lambda: ball_run, "segmenter": lambda: segmenter, "classifier": classifier}[kind]()
    export(weights, to="bundle", out=tmp_path / "bundle")
    configs = tmp_path / "bundle" / "configs"
    metadata = configs / "metadata.json"
    monai.bundle.verify_metadata(meta_file=str(metadata), filepath=str(SCHEMA))
    monai.bundle.verify_net_in_out(
        net_id="network_def",
        meta_file=str(metadata),
        config_file=str(configs / "inference.json"),
        device="cpu",
        bundle_root=str(tmp_path / "bundle"),
    )
    content = json.loads(metadata.read_text())
    del content["network_data_format"]["outputs"]["pred"]["num_channels"]
    metadata.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="'num_channels' is a required property"):
        monai.bundle.verify_metadata(meta_file=str(metadata), filepath=str(SCHEMA))


@pytest.mark.parametrize("modality", ["mr", "ct"])
def test_a_classifier_gives_the_probabilities_of_medssl_predict(
    modality: str, classifier: Callable[..., Path], dim_scans: Path, tmp_path: Path
) -> None:
    weights = classifier(modality=modality)
    exported = export(weights, to="bundle", out=tmp_path / "bundle")
    run_bundle(exported.snippet, dim_scans, tmp_path / "results")
    given = read_rows(tmp_path / "results" / "predictions.csv")
    predict(weights, dim_scans, out=tmp_path / "expected", device="cpu", progress=SilentProgress())
    expected = read_rows(tmp_path / "expected" / "predictions.csv")
    names = [name for name in expected[0] if name.startswith("p(")]
    assert list(given[0]) == ["image", *names]
    assert names[-1] == "p(grade is 3)"
    assert [row["image"] for row in given] == [row["path"] for row in expected]
    values, wanted = (
        np.array([[float(row[name]) for name in names] for row in rows]) for rows in (given, expected)
    )
    np.testing.assert_allclose(values.sum(axis=1), 2, atol=1e-5)
    assert np.ptp(wanted, axis=0).max() > 0.01, "the scans are too much alike to tell"
    np.testing.assert_allclose(values, wanted, atol=1e-4)


def test_a_classifier_with_covariates_is_refused_and_leaves_nothing(
    classifier: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="wants covariates beside the scan"):
        export(classifier(Covariate("age", 60.0, 9.0)), to="bundle", out=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
