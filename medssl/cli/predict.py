"""medssl predict: new scans in; label maps on their own grids out, or a table of answers."""

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.console import command_progress, print_rows
from medssl.cli.large_imports import large_imports
from medssl.cli.options import Store
from medssl.errors import SkippedScansError, UsageError


def predict(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|WEIGHTS", help="A run of medssl finetune, whose folds are averaged, or its weights."
        ),
    ],
    scans: Annotated[
        Path,
        typer.Argument(
            metavar="SCANS",
            help="Scans: a folder of any depth, a file or a CSV; several channels as CASE_0000, CASE_0001 "
            "or image, image_2.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for the results; a repeated command goes on.", metavar="FOLDER")
    ],
    store: Store = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of each class of a voxel too.")
    ] = False,
    flips: Annotated[
        bool,
        typer.Option("--flips", help="Average over the mirror images that training shows; slower."),
    ] = False,
    overlays: Annotated[
        str, typer.Option(help="Draw the segmentations of the first N scans, or none.", metavar="N|none")
    ] = "12",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 4 when scans were skipped.")] = False,
) -> None:
    """Segment or classify new scans with a fine-tuned model.

    Segmentation writes a label map a scan, on the scan's own grid, and volumes.csv with each class in ml;
    classification writes predictions.csv.
    """
    pictures = _count_overlays(overlays)
    with large_imports():
        from medssl.workflows.predict import predict as predict_scans

    outcome = predict_scans(
        run,
        scans,
        out=out,
        store=store,
        device=device,
        probabilities=probabilities,
        flips=flips,
        overlays=pictures,
        progress=command_progress(),
    )
    print_rows(
        [
            ("scans", f"{outcome.predicted} predicted, {outcome.kept} kept from before"),
            ("results", str(out)),
            ("table", str(outcome.table)),
        ]
    )
    if strict and outcome.skipped:
        raise SkippedScansError(f"{len(outcome.skipped)} files were skipped; {out / 'skipped.csv'} says why.")


def _count_overlays(text: str) -> int:
    if text == "none":
        return 0
    if not text.isdecimal():
        raise UsageError(f"--overlays is {text!r}; give a number of scans, or none.")
    return int(text)
