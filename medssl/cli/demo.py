"""medssl demo: the main job on sample heads that need no download."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.console import command_progress
from medssl.cli.large_imports import large_imports
from medssl.cli.pretrain import print_results


def demo(
    out: Annotated[Path, typer.Option(help="Folder for scans and run.", metavar="FOLDER")] = Path(
        "medssl_demo"
    ),
    count: Annotated[int, typer.Option(min=4, help="Heads to simulate from the MNI152 template.")] = 24,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs to train.")] = 12,
) -> None:
    """Simulate a small cohort of heads and pretrain on it, in a few minutes."""
    with large_imports():
        from medssl.workflows.demo import run_demo

    run_demo(out, count=count, epochs=epochs, progress=command_progress(), command=["medssl", *sys.argv[1:]])
    print_results(out / "run")
