"""A disk that fills up during a run, which a limit on the size of files stands for."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.slow

LIMITS_KB = {"config": 2, "TensorBoard": 30, "report or checkpoint": 400}


@pytest.mark.parametrize("limit_kb", LIMITS_KB.values(), ids=LIMITS_KB.keys())
def test_a_full_disk_is_one_sentence_and_costs_nothing_done(
    limit_kb: int, heads: Path, store: Path, finished_run: Path, medssl, command_environment, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ["pretrain", str(heads), "--out", str(run), "--store", str(store), "--config", "test"]
    limit = (limit_kb * 1024, resource.RLIM_INFINITY)
    stopped = subprocess.run(
        [sys.executable, "-m", "medssl", *words],
        env=command_environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert stopped.returncode == 1, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert "The disk is full" in stopped.stderr.splitlines()[-1]
    again = medssl("pretrain", "--resume", run) if (run / "run.json").exists() else medssl(*words)
    assert again.returncode == 0, again.stderr
    first, second = (load_file(each / "encoder.safetensors") for each in (finished_run, run))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
