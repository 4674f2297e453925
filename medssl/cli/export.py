"""medssl export: weights for the tools of others."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from medssl.cli.console import print_line
from medssl.cli.large_imports import large_imports

Format = Literal["nnunet", "monai", "bundle", "safetensors", "torch", "onnx"]


def export(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN|WEIGHTS", help="Run of pretrain or finetune, or a weights file."),
    ],
    to: Annotated[Format, typer.Option(help="Whose format.")],
    out: Annotated[Path, typer.Option(help="File or, for a bundle, folder to write.", metavar="FILE")],
    plans: Annotated[
        Path | None,
        typer.Option(help="For nnunet: its plans of the data set to fine-tune on.", metavar="JSON"),
    ] = None,
) -> None:
    """Write weights for nnU-Net, MONAI, ONNX or torch alone, and print how to load them there."""
    with large_imports():
        from medssl.workflows.export import export as write

    exported = write(run, to=to, out=out, plans=plans)
    print_line(f"Wrote {out}")
    for sentence in exported.told:
        print_line(sentence)
    print_line(f"\n{exported.snippet}")
