"""Options that several verbs have."""

from pathlib import Path
from typing import Annotated

import typer

Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Store = Annotated[
    Path | None, typer.Option(help="Folder of prepared scans, to share between runs.", metavar="FOLDER")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other setting, such as training.batch_size=4.", metavar="FIELD=VALUE"),
]
