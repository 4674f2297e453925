"""medssl map: which scans are alike."""

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.console import command_progress, print_line
from medssl.errors import UsageError


def map_embeddings(
    embeddings: Annotated[
        Path, typer.Argument(metavar="EMBEDDINGS", help="A table that medssl embed wrote.")
    ],
    out: Annotated[Path, typer.Option(help="Page to write, .html.", metavar="FILE")],
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV with a column image; its other columns colour the map.", metavar="TABLE"),
    ] = None,
    has_thumbnails: Annotated[
        bool, typer.Option("--thumbnails/--no-thumbnails", help="Show a slice of each scan.")
    ] = True,
) -> None:
    """Draw a map of scans from their embeddings, and list near duplicates and outliers."""
    if out.suffix != ".html":
        raise UsageError(f"{out}: the page's name must end in .html.")
    if out.exists():
        raise UsageError(f"{out} exists already; choose another name or remove it first.")
    from medssl.workflows.map import map_embeddings as write  # scikit-learn takes a second

    write(embeddings, out=out, labels=labels, has_thumbnails=has_thumbnails, progress=command_progress())
    print_line(f"Wrote {out}")
