"""What a user can get wrong costs one clear sentence and an exit code of its own, and loses nothing."""

import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow


def the_sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_typo_in_a_config(heads: Path, medssl, tmp_path: Path) -> None:
    done = medssl("pretrain", heads, "--out", tmp_path / "run", "--set", "training.epoch=3")
    assert done.returncode == 2
    assert "training.epochs" in the_sentence(done)
    assert not (tmp_path / "run").exists()


def test_unknown_task(heads: Path, medssl, tmp_path: Path) -> None:
    done = medssl("pretrain", heads, "--out", tmp_path / "run", "--tasks", "rotations")
    assert done.returncode == 2
    assert "rotation" in the_sentence(done)


def test_empty_folder(medssl, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = medssl("pretrain", tmp_path / "empty", "--out", tmp_path / "run", "--config", "test")
    assert done.returncode == 3
    assert str(tmp_path / "empty") in the_sentence(done)
    assert not (tmp_path / "run").exists(), "the next try needs the name"


def test_folder_that_does_not_exist(medssl, tmp_path: Path) -> None:
    done = medssl("pretrain", tmp_path / "nowhere", "--out", tmp_path / "run", "--config", "test")
    assert done.returncode == 2
    assert "nowhere" in the_sentence(done)
    assert not (tmp_path / "run").exists()


def test_run_folder_in_use(heads: Path, finished_run: Path, medssl) -> None:
    before = (finished_run / "encoder.safetensors").read_bytes()
    done = medssl("pretrain", heads, "--out", finished_run, "--config", "test")
    assert done.returncode == 2
    assert "--resume" in the_sentence(done)
    assert (finished_run / "encoder.safetensors").read_bytes() == before


def test_second_run_on_one_folder_at_once(
    heads: Path, store: Path, medssl, command_environment, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "medssl",
        "pretrain",
        str(heads),
        "--out",
        str(run),
        "--store",
        str(store),
    ]
    first = subprocess.Popen(
        [*command, "--config", "test"], env=command_environment, stderr=subprocess.DEVNULL
    )
    while not (run / "checkpoints" / "last.pt").exists() and first.poll() is None:
        time.sleep(0.02)
    first.send_signal(19)  # SIGSTOP: it holds the folder for as long as the second one needs
    try:
        second = medssl("pretrain", "--resume", run)
    finally:
        first.send_signal(18)  # SIGCONT
    assert second.returncode == 2
    assert "using" in the_sentence(second)
    assert first.wait(timeout=400) == 0


def test_resume_with_other_settings_changes_nothing(finished_run: Path, medssl) -> None:
    before = (finished_run / "config.yaml").read_text()
    done = medssl("pretrain", "--resume", finished_run, "--set", "tasks.rotation.weight=3")
    assert done.returncode == 2
    assert "tasks.rotation.weight" in the_sentence(done)
    assert (finished_run / "config.yaml").read_text() == before
    assert medssl("pretrain", "--resume", finished_run).returncode == 0


@pytest.mark.parametrize("content", ["truncated", "text", "other"])
def test_checkpoint_that_is_not_one(content: str, finished_run: Path, medssl, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    checkpoint = run / "checkpoints" / "last.pt"
    if content == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    elif content == "text":
        checkpoint.write_text("not a checkpoint")
    else:
        torch.save({"weights": torch.zeros(3)}, checkpoint)
    done = medssl("pretrain", "--resume", run, "--epochs", "5")
    assert done.returncode == 1
    assert "last.pt" in the_sentence(done)


def test_diverging_run(heads: Path, store: Path, medssl, tmp_path: Path) -> None:
    options = ("--set", "optimiser.learning_rate=1e30", "--set", "optimiser.clip_norm=null")
    done = medssl(
        "pretrain", heads, "--out", tmp_path / "run", "--store", store, "--config", "test", *options
    )
    assert done.returncode == 5
    assert "finite" in the_sentence(done)


def test_one_bad_scan_never_ends_a_run(heads: Path, store: Path, medssl, tmp_path: Path) -> None:
    mixed = tmp_path / "scans"
    shutil.copytree(heads, mixed)
    (mixed / "broken.nii.gz").write_text("this is no scan")
    (mixed / "empty.nii").touch()
    run = tmp_path / "run"
    options = ("--out", run, "--store", store, "--config", "test", "--tasks", "rotation", "--epochs", "1")
    done = medssl("pretrain", mixed, *options, "--strict")
    assert done.returncode == 4, done.stderr
    skipped = (run / "skipped.csv").read_text()
    assert "broken.nii.gz" in skipped
    assert "empty.nii" in skipped
    assert (run / "encoder.safetensors").is_file()


def test_a_damaged_store_is_repaired_while_training_goes_on(
    heads: Path, store: Path, finished_run: Path, medssl, tmp_path: Path
) -> None:
    own_store, run = tmp_path / "store", tmp_path / "run"
    shutil.copytree(store, own_store)
    with (finished_run / "manifest.csv").open() as file:
        stored = Path(next(csv.DictReader(file))["store_path"])
    voxels = own_store / stored.relative_to(store)
    whole = voxels.read_bytes()
    damaged = bytearray(whole)
    damaged[-40] ^= 4
    voxels.write_bytes(damaged)
    options = ("--out", run, "--store", own_store, "--config", "test", "--tasks", "rotation", "--epochs", "1")
    done = medssl("pretrain", heads, *options)
    assert done.returncode == 0, done.stderr
    assert "was damaged in the store and has been prepared anew" in (run / "log.txt").read_text()
    assert voxels.read_bytes() == whole
