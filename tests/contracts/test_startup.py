import subprocess
import sys

import pytest

VERBS = ("inspect", "pretrain", "finetune", "predict", "embed", "demo", "config", "doctor")
HEAVY = {
    "torch", "monai", "ignite", "tensorboard", "sklearn", "scipy", "matplotlib", "nibabel", "blosc2", "numpy",
    "medssl.config.schema",
}  # fmt: skip

PROGRAM = """
import sys
from contextlib import suppress
from medssl.cli.main import main
with suppress(SystemExit):
    main(sys.argv[1:])
print("loaded:", *sys.modules)
"""


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS), ["config", "list"]])
def test_help_waits_for_no_heavy_import(arguments: list[str]) -> None:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    loaded = set(output.rpartition("loaded:")[2].split())
    assert "typer" in loaded
    assert not loaded & HEAVY
