"""Graphs give what the networks gave, also for other sizes, by the lines that are printed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medssl.finetune.classification import Classification
from medssl.finetune.covariates import Covariate
from medssl.finetune.model import FinetuneModel
from medssl.finetune.segmentation import Segmentation
from medssl.finetune.targets import Target
from medssl.finetune.weights import save_model
from medssl.networks.build import build_encoder
from medssl.networks.weights import load_encoder, save_encoder
from medssl.workflows.export import export

pytestmark = pytest.mark.slow


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    spacing_mm, crop_size = (1.0, 1.0, 2.5), (22, 24, 9)
    torch.manual_seed(0)
    encoder = build_encoder("residual_unet", "tiny", crop_size=crop_size, spacing_mm=spacing_mm)
    about = {"spacing_mm": spacing_mm, "crop_size": crop_size}
    save_encoder(tmp_path / "encoder.safetensors", encoder, provenance=about)
    return tmp_path / "encoder.safetensors"


def run_lines(snippet: str) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(snippet, scope)
    return scope


def test_an_encoder_as_a_program_and_as_onnx(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    encoder = load_encoder(weights)[0].eval()
    volume = torch.rand(3, 1, 40, 32, 24)
    with torch.no_grad():
        expected = encoder(volume)
    program = run_lines(export(weights, to="torch", out=tmp_path / "encoder.pt2").snippet)
    session = run_lines(export(weights, to="onnx", out=tmp_path / "encoder.onnx").snippet)["session"]
    onnx_maps = session.run(None, {session.get_inputs()[0].name: volume.numpy()})
    for map_here, map_torch, map_onnx in zip(expected, program["network"](volume), onnx_maps, strict=True):
        torch.testing.assert_close(map_torch, map_here)
        np.testing.assert_allclose(map_onnx, map_here.numpy(), rtol=1e-3, atol=1e-4)


def test_a_segmenter_as_onnx(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    encoder, provenance = load_encoder(weights)
    goal = Segmentation({0: "background", 1: "ball"})
    model = FinetuneModel(encoder, goal.make_head(encoder, is_linear=False), name=goal.name).eval()
    save_model(
        tmp_path / "model.safetensors", model, goal=goal, provenance={**provenance, "is_linear": False}
    )
    exported = export(tmp_path / "model.safetensors", to="onnx", out=tmp_path / "model.onnx")
    session = run_lines(exported.snippet)["session"]
    volume = torch.rand(1, 1, 32, 40, 16)
    (logits,) = session.run(None, {session.get_inputs()[0].name: volume.numpy()})
    with torch.no_grad():
        expected = model({"image": volume})[goal.name].numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
    assert "Sizes must be multiples of" in exported.told[1]


def test_a_classifier_with_a_covariate_as_a_program(weights: Path, tmp_path: Path) -> None:
    encoder, provenance = load_encoder(weights)
    targets = (Target("malignant", "malignant", ("no", "yes")),)
    goal = Classification(targets, (Covariate("age", 50, 10),), ((1.0, 1.0),))
    model = FinetuneModel(encoder, goal.make_head(encoder, is_linear=False), name=goal.name).eval()
    save_model(
        tmp_path / "model.safetensors", model, goal=goal, provenance={**provenance, "is_linear": False}
    )
    network = run_lines(export(tmp_path / "model.safetensors", to="torch", out=tmp_path / "c.pt2").snippet)
    image, age = torch.rand(4, 1, 32, 40, 16), torch.rand(4, 1)
    with torch.no_grad():
        expected = model({"image": image, "covariates": age})[goal.name]
    torch.testing.assert_close(network["network"](image, age), expected)
