"""Fine-tuning through the real command line: from a real pretrained encoder, killed, resumed, mistaken."""

import csv
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

OPTIONS = (
    "--set", "training.epochs=3", "--set", "training.steps_per_epoch=4", "--set", "data.prepare_workers=0",
    "--set", "speed.precision=float32", "--set", "speed.channels_last=false",
    "--set", "speed.loader_threads=1",
    "--set", "training.checkpoint_every_s=0", "--device", "cpu",
)  # fmt: skip


def command(balls: Path, encoder: Path, run: Path, store: Path) -> list[str]:
    words = ["finetune", "segmentation", balls, "--encoder", encoder, "--out", run, "--store", store]
    return [*map(str, words), "--labels", "6", *OPTIONS]


@pytest.fixture(scope="module")
def whole_run(balls: Path, ball_run: Path, store: Path, medssl, tmp_path_factory) -> Path:
    """A run that was never interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    done = medssl(*command(balls, ball_run, run, store))
    assert done.returncode == 0, done.stderr
    return run


def sentence_of(done) -> str:
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_run_folder_holds_everything_it_promises(whole_run: Path):
    promised = [
        "config.yaml", "command.txt", "environment.json", "run.json", "skipped.csv", "split.csv", "log.txt",
        "metrics.csv", "test_scores.csv", "report.html", "MODEL_CARD.md", "model.safetensors",
        "checkpoints/last.pt", "checkpoints/best.pt",
    ]  # fmt: skip
    assert [name for name in promised if not (whole_run / name).is_file()] == []
    with (whole_run / "test_scores.csv").open() as file:
        assert [row["subject_id"] for row in csv.DictReader(file)] == ["sub8", "sub9", "sub10"]


def test_a_real_encoder_and_its_decoder_are_carried_over(
    finished_run: Path, balls: Path, store: Path, medssl, tmp_path: Path
):
    run = tmp_path / "run"
    done = medssl(*command(balls, finished_run, run, store), "--frozen", "--set", "training.epochs=1")
    assert done.returncode == 0, done.stderr
    log = (run / "log.txt").read_text()
    assert "Encoder: 100.0 % of the parameters loaded" in log
    assert "Decoder: " in log
    assert "are resampled to the encoder's" in log, "5 mm heads and 1 mm balls"
    given, kept = load_file(finished_run / "encoder.safetensors"), load_file(run / "model.safetensors")
    assert all(torch.equal(kept[f"encoder.{name}"], tensor) for name, tensor in given.items())


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_a_random_moment_and_resumed_ends_bit_identical(
    seed: int,
    balls: Path,
    ball_run: Path,
    store: Path,
    whole_run: Path,
    medssl,
    command_environment,
    tmp_path: Path,
):
    run, moment = tmp_path / "run", random.Random(seed)
    words = [sys.executable, "-m", "medssl", *command(balls, ball_run, run, store)]
    process = subprocess.Popen(
        words, env=command_environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    seen, wanted = set(), moment.randint(1, 9)
    while len(seen) < wanted and process.poll() is None:
        with suppress(FileNotFoundError):
            seen.add((run / "checkpoints" / "last.pt").stat().st_mtime_ns)
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"
    resumed = medssl("finetune", "--resume", run)
    assert resumed.returncode == 0, resumed.stderr
    first, second = (load_file(path / "model.safetensors") for path in (whole_run, run))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert (run / "test_scores.csv").read_bytes() == (whole_run / "test_scores.csv").read_bytes()
    assert (run / "split.csv").read_bytes() == (whole_run / "split.csv").read_bytes()


def test_a_second_run_on_one_folder(balls: Path, ball_run: Path, store: Path, whole_run: Path, medssl):
    before = (whole_run / "model.safetensors").read_bytes()
    done = medssl(*command(balls, ball_run, whole_run, store))
    assert done.returncode == 2
    assert f"--resume {whole_run}" in sentence_of(done)
    assert (whole_run / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("replacement", "exit_code", "sentence"),
    [
        ({"--labels": "9"}, 2, "8 labelled cases to learn from, fewer than 9"),
        ({"--encoder": "{tmp}/empty"}, 2, "holds no encoder.safetensors"),
        ({"--encoder": "{tmp}/text.safetensors"}, 1, "not a whole safetensors file"),
        ({"--encoder": "{run}/checkpoints/last.pt"}, 1, "pickled ones"),
        ({"--encoder": "{tmp}/nowhere"}, 1, "no weights file"),
        ({"segmentation": "{tmp}/empty"}, 2, "holds neither a dataset.json"),
        ({"segmentation": "{tmp}/nowhere.csv"}, 2, "does not exist"),
        ({"segmentation": "{tmp}/wrong.csv"}, 3, "Label map: The content is not NIfTI"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_no_folder(
    replacement,
    exit_code: int,
    sentence: str,
    balls: Path,
    ball_run: Path,
    store: Path,
    medssl,
    tmp_path: Path,
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.safetensors").write_text("this is no safetensors file at all")
    rows = [line.split(",") for line in balls.read_text().splitlines()]
    shutil.copy(__file__, tmp_path / "label.nii.gz")
    wrong = [rows[0], *([balls.parent / row[0], tmp_path / "label.nii.gz", *row[2:]] for row in rows[1:])]
    (tmp_path / "wrong.csv").write_text("\n".join(",".join(map(str, row)) for row in wrong) + "\n")
    words = command(balls, ball_run, tmp_path / "run", store)
    for word, value in replacement.items():
        words[words.index(word) + 1] = value.format(tmp=tmp_path, run=ball_run)
    done = medssl(*words)
    assert done.returncode == exit_code, done.stderr
    assert sentence in sentence_of(done)
    assert not (tmp_path / "run").exists()


def test_what_was_fine_tuned_predicts(whole_run: Path, balls: Path, store: Path, medssl, tmp_path: Path):
    out = tmp_path / "out"
    scan = balls.parent / "scan8_0.nii.gz"
    done = medssl("predict", whole_run, scan, "--out", out, "--store", store, "--overlays", "none")
    assert done.returncode == 0, done.stderr
    assert "1 predicted" in done.stdout
