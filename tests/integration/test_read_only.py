"""Folders that cannot be written to, not even by root: a file system mounted read-only."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MOUNT = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c"]
THEN_RUN = 'mount -t tmpfs -o ro tmpfs "$0" && exec "$@"'


@pytest.fixture
def read_only(tmp_path: Path) -> Path:
    folder = tmp_path / "read_only"
    folder.mkdir()
    try:
        subprocess.run([*MOUNT, THEN_RUN, str(folder), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine allows no mounts of one's own")
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("pretrain", "{scans}", "--config", "test", "--out", "{read_only}/run"),
        ("pretrain", "{scans}", "--config", "test", "--out", "{tmp}/run", "--store", "{read_only}/store"),
        ("config", "copy", "laptop", "{read_only}/laptop.yaml"),
    ],
    ids=lambda words: " ".join(words[:1]) + (" store" if "{tmp}/run" in words else ""),
)
def test_a_read_only_folder_is_one_sentence(
    words: tuple[str, ...], read_only: Path, heads: Path, command_environment, tmp_path: Path
) -> None:
    places = {"scans": heads, "read_only": read_only, "tmp": tmp_path}
    command = [sys.executable, "-m", "medssl", *(word.format(**places) for word in words)]
    refused = subprocess.run(
        [*MOUNT, THEN_RUN, str(read_only), *command],
        capture_output=True,
        text=True,
        check=False,
        env=command_environment,
    )
    assert refused.returncode in {1, 2}
    assert "Traceback" not in refused.stderr
    told = refused.stderr.strip().splitlines()[-1]
    assert str(read_only) in told
    assert "read-only file system" in told.lower()
