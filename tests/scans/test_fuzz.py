import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "bin" / "fuzz"


@pytest.mark.slow
def test_mutated_scans_of_every_format_are_read_or_skipped_with_a_reason() -> None:
    done = subprocess.run(
        [sys.executable, FUZZ, "--inputs", "150"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "150 inputs" in done.stdout
    assert " 0 read" not in done.stdout
