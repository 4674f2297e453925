"""medssl info: what a weights file says of itself."""

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.console import console, print_rows


def info(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help="A .safetensors of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="All of it, for programs.")] = False,
) -> None:
    """Print what weights were made from: network, data, tasks, settings, versions and metrics."""
    from medssl.networks.provenance import flat_rows, read_provenance  # safetensors takes a moment

    provenance = read_provenance(weights)
    if as_json:
        console.print_json(data=provenance)
    else:
        print_rows(flat_rows(provenance))
