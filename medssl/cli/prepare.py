"""medssl prepare: scans into a store, on as many machines as there are."""

import re
from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.console import command_progress, print_rows
from medssl.cli.large_imports import large_imports
from medssl.cli.options import Settings
from medssl.errors import SkippedScansError, UsageError

DEFAULT_PRESET = "laptop"


def prepare(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Scans: a folder of any depth, a file or a CSV.")
    ],
    store: Annotated[Path, typer.Option(help="Folder of prepared scans.", metavar="FOLDER")],
    shard: Annotated[str, typer.Option(help="Which part of the scans, such as 2/8.", metavar="I/N")] = "1/1",
    config: Annotated[
        str,
        typer.Option(help="Preset or YAML file that the training will have.", metavar="NAME|FILE"),
    ] = DEFAULT_PRESET,
    settings: Settings = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 4 when scans were skipped.")] = False,
) -> None:
    """Prepare scans for pretraining, once; with --shard, a part of them, for a cluster's array job."""
    from medssl.config.load import load_config  # pydantic takes 0.3 s

    resolved = load_config(config, settings or [])
    number, count = _parse_shard(shard)
    with large_imports():
        from medssl.workflows.prepare import Shard
        from medssl.workflows.prepare import prepare as prepare_shard

    outcome = prepare_shard(
        source,
        data=resolved.data,
        store=store,
        shard=Shard(number, count),
        progress=command_progress(),
    )
    print_rows(
        [
            ("prepared", f"{len(outcome.prepared)} scans, listed in {outcome.manifest}"),
            ("skipped", f"{len(outcome.skipped)} files, with reasons in {outcome.skipped_table}"),
            ("store", str(store)),
        ]
    )
    if strict and outcome.skipped:
        raise SkippedScansError(
            f"{len(outcome.skipped)} files were skipped; {outcome.skipped_table} says why."
        )


def _parse_shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise UsageError(f"--shard is {text!r}; write part and number of parts, such as 2/8.")
    return int(match[1]), int(match[2])
