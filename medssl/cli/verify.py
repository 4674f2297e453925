"""medssl verify: whether a folder holds the scans that weights were trained on."""

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.console import command_progress, print_line, print_rows
from medssl.cli.options import Store


def verify(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help="The encoder.safetensors of a run.")],
    data: Annotated[
        Path, typer.Option(metavar="SCANS", help="Scans: a folder of any depth, a file or a CSV.")
    ],
    store: Store = None,
) -> None:
    """Tell whether these are the scans that an encoder was pretrained on; exit with 1 if they are not."""
    from medssl.workflows.verify import verify as compare  # numpy and blosc2 take a moment

    verified = compare(weights, data, store=store, progress=command_progress())
    print_rows([("", "weights", "data"), *verified.rows])
    print_line("These are the same scans." if verified.is_same else "These are not the same scans.")
    if not verified.is_same:
        raise typer.Exit(1)
