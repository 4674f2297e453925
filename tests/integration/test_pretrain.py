"""The main job through the real command line, on simulated heads."""

import csv
import json
import re
from pathlib import Path

import pytest

from medssl.config.load import load_config
from medssl.networks.weights import load_encoder

pytestmark = pytest.mark.slow


def test_run_folder_holds_everything_it_promises(finished_run: Path) -> None:
    promised = [
        "config.yaml", "command.txt", "environment.json", "run.json", "manifest.csv", "skipped.csv",
        "split.csv", "log.txt", "metrics.csv", "report.html", "MODEL_CARD.md", "encoder.safetensors",
        "checkpoints/last.pt", "checkpoints/best.pt",
    ]  # fmt: skip
    assert [name for name in promised if not (finished_run / name).is_file()] == []
    assert list((finished_run / "tensorboard").rglob("events*"))
    assert {path.stem.partition("_")[0] for path in (finished_run / "figures").glob("*.png")} == {
        "rotation", "inpainting", "position",
    }  # fmt: skip


def test_resolved_config_is_a_config(finished_run: Path) -> None:
    config = load_config(finished_run / "config.yaml")
    assert config.crop_size != "auto"
    assert config.data.spacing_mm != "auto"
    assert set(config.tasks) == {"rotation", "inpainting", "position"}


def test_encoder_says_where_it_comes_from(finished_run: Path) -> None:
    _, provenance = load_encoder(finished_run / "encoder.safetensors")
    assert provenance["data_fingerprint"]["scans"] == 6
    assert provenance["orientation"] == "RAS"
    assert provenance["metrics"]["val/loss"] > 0
    assert not re.search(r"sub-\d", json.dumps(provenance)), "provenance names a subject"


def test_metrics_stand_beside_their_cues(finished_run: Path) -> None:
    with (finished_run / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    for name in (
        "rotation/accuracy",
        "position/accuracy",
        "inpainting/mae",
        "inpainting/psnr",
        "inpainting/ssim",
    ):
        assert float(last[f"val/{name}"]) == pytest.approx(float(last[f"val/{name}"]))
    cues = json.loads((finished_run / "run.json").read_text())["trivial_cues"]
    assert {name: cue["chance"] for name, cue in cues.items() if name != "inpainting"} == {
        "rotation": pytest.approx(1 / 24), "position": pytest.approx(1 / 26),
    }  # fmt: skip


def test_report_needs_no_other_file(finished_run: Path) -> None:
    page = (finished_run / "report.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    assert not re.search(r"(src|href)=[\"'](?!data:|#)", page)


def test_split_shares_no_subject(finished_run: Path) -> None:
    with (finished_run / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["subject_id"], set()).add(row["split"])
    assert {side for subject in sides.values() for side in subject} == {"train", "val"}
    assert all(len(subject) == 1 for subject in sides.values())


def test_more_epochs_on_resume_just_go_on(heads: Path, store: Path, medssl, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ("--tasks", "rotation", "--store", store)
    started = medssl("pretrain", heads, "--out", run, "--config", "test", "--epochs", "1", *arguments)
    assert started.returncode == 0, started.stderr
    extended = medssl("pretrain", "--resume", run, "--epochs", "3")
    assert extended.returncode == 0, extended.stderr
    with (run / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_dry_run_writes_nothing(heads: Path, medssl, tmp_path: Path) -> None:
    done = medssl("pretrain", heads, "--out", tmp_path / "run", "--config", "test", "--dry-run")
    assert done.returncode == 0, done.stderr
    for word in ("scans", "crop", "encoder", "memory", "disk", "time"):
        assert word in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_embed_gives_one_vector_a_scan(finished_run: Path, heads: Path, medssl, tmp_path: Path) -> None:
    table = tmp_path / "embeddings.csv"
    done = medssl("embed", finished_run, heads, "--out", table)
    assert done.returncode == 0, done.stderr
    with table.open() as file:
        rows = list(csv.DictReader(file))
    encoder, _ = load_encoder(finished_run / "encoder.safetensors")
    assert len(rows) == 6
    assert len({row["subject_id"] for row in rows}) == 6
    assert sum(name.startswith("e") for name in rows[0]) == encoder.channels[-1]
    assert len({row["e0"] for row in rows}) == 6, "different heads have different embeddings"
