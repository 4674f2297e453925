"""What the verbs about weights say of a run that really was."""

import json
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_info_tells_what_the_run_was(finished_run: Path, medssl) -> None:
    told = medssl("info", finished_run / "encoder.safetensors")
    assert told.returncode == 0, told.stderr
    values = dict(line.split(maxsplit=1) for line in told.stdout.splitlines())
    assert values["architecture.name"] == "residual_unet"
    assert values["data_fingerprint.scans"] == "6"
    whole = json.loads(medssl("info", finished_run / "encoder.safetensors", "--json").stdout)
    assert set(whole["tasks"]) == {"rotation", "inpainting", "position"}


def test_verify_knows_the_scans_it_was_trained_on(
    finished_run: Path, heads: Path, store: Path, medssl, tmp_path: Path
) -> None:
    weights = finished_run / "encoder.safetensors"
    same = medssl("verify", weights, "--data", heads, "--store", store)
    assert same.returncode == 0, same.stderr
    assert "These are the same scans." in same.stdout
    fewer = tmp_path / "fewer"
    shutil.copytree(heads, fewer)
    shutil.rmtree(fewer / "sub-001")
    other = medssl("verify", weights, "--data", fewer, "--store", store)
    assert other.returncode == 1
    assert "These are not the same scans." in other.stdout


def test_export_for_nnunet_with_plans(finished_run: Path, medssl, tmp_path: Path) -> None:
    plans = tmp_path / "nnUNetPlans.json"
    plans.write_text(json.dumps({"configurations": {"3d_fullres": {"batch_size": 2}}}))
    out = tmp_path / "checkpoint.pth"
    done = medssl("export", finished_run, "--to", "nnunet", "--out", out, "--plans", plans)
    assert done.returncode == 0, done.stderr
    assert f"-pretrained_weights {out}" in done.stdout
    assert (tmp_path / "nnUNetPlans_medssl.json").exists()
    again = medssl("export", finished_run, "--to", "nnunet", "--out", out)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_a_run_begins_with_given_weights(
    finished_run: Path, heads: Path, store: Path, medssl, tmp_path: Path
) -> None:
    weights, run = finished_run / "encoder.safetensors", tmp_path / "run"
    words = ["pretrain", heads, "--out", run, "--store", store, "--config", "test", "--tasks", "rotation"]
    done = medssl(*words, "--init-from", weights, "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert f"Beginning with {weights}: 100.0 % of the parameters" in " ".join(done.stderr.split())
    told = medssl("info", run / "encoder.safetensors").stdout
    assert "encoder.safetensors" in next(line for line in told.splitlines() if line.startswith("init_from"))
    other = medssl(
        *words[:3], tmp_path / "other", *words[4:], "--encoder", "segresnet", "--init-from", weights
    )
    assert other.returncode == 1
    assert "do not fit the network" in other.stderr
