"""medssl config: look at the presets and copy one to start from."""

from pathlib import Path
from typing import Annotated

import typer

from medssl.atomic import write_text
from medssl.cli.console import console, print_line, print_rows
from medssl.config.presets import preset_names, preset_purpose, preset_text
from medssl.errors import UsageError

config_app = typer.Typer(help="List, show and copy the configs that come with medssl.", no_args_is_help=True)
PresetName = Annotated[str, typer.Argument(metavar="NAME", help="A name from `medssl config list`.")]


@config_app.command("list")
def list_presets() -> None:
    """List the presets and what each is for."""
    print_rows((name, preset_purpose(name)) for name in preset_names())


@config_app.command("show")
def show_preset(name: PresetName) -> None:
    """Print a preset with its comments."""
    console.out(preset_text(name).rstrip(), highlight=False)


@config_app.command("copy")
def copy_preset(
    name: PresetName,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The new file; it must not exist yet.")],
) -> None:
    """Copy a preset to a file of your own, to edit it and pass it to --config."""
    text = preset_text(name)
    if path.exists():
        raise UsageError(f"{path} exists already; choose another name or remove it first.")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent}; create it first.")
    write_text(path, text)
    print_line(f"Wrote {path}")
