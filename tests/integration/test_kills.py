"""The command that kills runs at random moments; finetune, study and pretrain have tests of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).parents[2] / "bin" / "kills"


@pytest.mark.slow
def test_a_killed_prepare_begun_again_leaves_the_same_store() -> None:
    words = [sys.executable, KILLS, "--verbs", "prepare", "--moments", "2"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 ended the same" in done.stdout
