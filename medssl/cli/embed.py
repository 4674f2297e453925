"""medssl embed: one vector a scan."""

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.console import command_progress, print_line
from medssl.cli.large_imports import large_imports
from medssl.cli.options import Store
from medssl.errors import UsageError


def embed(
    run: Annotated[
        Path, typer.Argument(metavar="RUN|WEIGHTS", help="A run folder or an encoder.safetensors.")
    ],
    scans: Annotated[
        Path, typer.Argument(metavar="SCANS", help="Scans: a folder of any depth, a file or a CSV.")
    ],
    out: Annotated[Path, typer.Option(help="Table to write: .csv, .npz or .parquet.", metavar="TABLE")],
    store: Store = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Turn each scan into one vector, with a pretrained encoder."""
    from medssl.evaluate.embedding_table import refuse_unwritable  # numpy takes a moment

    refuse_unwritable(out)
    if out.exists():
        raise UsageError(f"{out} exists already; choose another name or remove it first.")
    with large_imports():
        from medssl.workflows.embed import embed as embed_scans

    embed_scans(run, scans, out=out, store=store, device=device, progress=command_progress())
    print_line(f"Wrote {out}")
