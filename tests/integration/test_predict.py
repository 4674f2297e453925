"""New scans through the real command line, with a small model of random weights."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medssl.config.schema import DataConfig
from medssl.finetune.model import FinetuneModel
from medssl.finetune.segmentation import Segmentation
from medssl.finetune.weights import save_model
from medssl.networks.build import build_encoder
from medssl.networks.weights import save_encoder

pytestmark = pytest.mark.slow

CROP, SPACING_MM = (16, 16, 16), (5.0, 5.0, 5.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    encoder = build_encoder("segresnet", "tiny", crop_size=CROP, spacing_mm=SPACING_MM)
    goal = Segmentation({0: "background", 1: "grey matter", 4: "white matter"})
    about = {
        "is_linear": True,
        "data": DataConfig(prepare_workers=0).model_dump(mode="json"),
        "spacing_mm": list(SPACING_MM),
        "crop_size": list(CROP),
        "channel_names": ["T1"],
    }
    network = FinetuneModel(encoder, goal.make_head(encoder, is_linear=True), name=goal.name)
    save_model(run / "model.safetensors", network, goal=goal, provenance=about)
    save_encoder(run / "encoder.safetensors", encoder, provenance=about)
    return run


def test_predict_and_repeat(model: Path, heads: Path, store: Path, medssl, tmp_path: Path) -> None:
    command = ("predict", model, heads, "--out", tmp_path / "out", "--store", store, "--overlays", "1")
    done = medssl(*command)
    assert done.returncode == 0, done.stderr
    assert "6 predicted, 0 kept" in done.stdout
    scans = sorted(heads.rglob("*_T1w.nii.gz"))
    for scan in scans:
        image, labels = nib.load(scan), nib.load(tmp_path / "out" / scan.relative_to(heads))
        assert labels.shape == image.shape
        np.testing.assert_array_equal(labels.affine, image.affine)
        assert set(np.unique(np.asarray(labels.dataobj))) <= {0, 1, 4}
    with (tmp_path / "out" / "volumes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["scan_id", "subject_id", "path", "grey matter_ml", "white matter_ml"]
    assert [row["path"] for row in rows] == [str(scan) for scan in scans]
    assert len(list((tmp_path / "out" / "overlays").rglob("*.png"))) == 1
    assert "0 predicted, 6 kept" in medssl(*command).stdout


def sentence_of(done) -> str:
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_an_encoder_in_place_of_a_model(model: Path, heads: Path, medssl, tmp_path: Path) -> None:
    done = medssl("predict", model / "encoder.safetensors", heads, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "medssl finetune" in sentence_of(done)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_model(heads: Path, medssl, tmp_path: Path) -> None:
    done = medssl("predict", heads, heads, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "holds no model.safetensors" in sentence_of(done)


def test_a_model_that_is_not_there(heads: Path, medssl, tmp_path: Path) -> None:
    done = medssl("predict", tmp_path / "nowhere", heads, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "nowhere" in sentence_of(done)


def test_scans_that_are_not_there(model: Path, medssl, tmp_path: Path) -> None:
    done = medssl("predict", model, tmp_path / "nowhere", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "nowhere does not exist" in sentence_of(done)


def test_a_folder_without_scans(model: Path, medssl, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = medssl("predict", model, tmp_path / "empty", "--out", tmp_path / "out")
    assert done.returncode == 3
    assert "No scan in" in sentence_of(done)


@pytest.mark.parametrize("below", ["", "out"])
def test_a_file_where_the_folder_should_be(
    model: Path, heads: Path, store: Path, medssl, tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / below
    done = medssl("predict", model, heads, "--out", out, "--store", store)
    assert done.returncode in (1, 2)
    assert "file" in sentence_of(done)
    assert "bug" not in sentence_of(done)


def test_one_bad_scan_is_skipped(model: Path, heads: Path, store: Path, medssl, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    scan = sorted(heads.rglob("*_T1w.nii.gz"))[0]
    (tmp_path / "scans" / "good.nii.gz").write_bytes(scan.read_bytes())
    (tmp_path / "scans" / "bad.nii.gz").write_text("this is no scan")
    options = ("--out", tmp_path / "out", "--store", store, "--overlays", "none", "--strict")
    done = medssl("predict", model, tmp_path / "scans", *options)
    assert done.returncode == 4
    assert (tmp_path / "out" / "good.nii.gz").is_file()
    assert "bad.nii.gz" in (tmp_path / "out" / "skipped.csv").read_text()
