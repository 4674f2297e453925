"""The `medssl` command: its verbs, and what an error looks like to the one who typed it."""

import errno
import sys
import threading
from collections.abc import Sequence
from typing import Annotated

import typer

from medssl import __version__
from medssl.cli.config import config_app
from medssl.cli.console import console, err_console, print_error
from medssl.cli.demo import demo
from medssl.cli.doctor import doctor
from medssl.cli.embed import embed
from medssl.cli.export import export
from medssl.cli.finetune import finetune
from medssl.cli.info import info
from medssl.cli.inspect import inspect
from medssl.cli.map import map_embeddings
from medssl.cli.predict import predict
from medssl.cli.prepare import prepare
from medssl.cli.pretrain import pretrain
from medssl.cli.study import study
from medssl.cli.verify import verify
from medssl.errors import MedsslError

DEBUG_FLAG = "--debug"

app = typer.Typer(
    name="medssl",
    help="Self-supervised pretraining of 3D encoders on unlabelled medical scans.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command()(inspect)
app.command()(prepare)
app.command()(pretrain)
app.command()(finetune)
app.command()(predict)
app.command()(embed)
app.command("map")(map_embeddings)
app.command()(study)
app.command()(export)
app.command()(info)
app.command()(verify)
app.command()(demo)
app.add_typer(config_app, name="config")
app.command()(doctor)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: What was typed after ``medssl``; None takes it from ``sys.argv``.

    Raises:
        SystemExit: Always; with 0, or the exit code of the error that ended the command.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    is_debug = DEBUG_FLAG in arguments
    if not is_debug:
        # What ends a thread is raised again where its work is waited for, and told there in one sentence.
        threading.excepthook = lambda _: None
    try:
        # Taken out here, the flag may stand before or after the verb.
        app([argument for argument in arguments if argument != DEBUG_FLAG], prog_name="medssl")
    except Exception as error:
        if is_debug:
            err_console.print_exception()
        print_error(_sentence(error))
        sys.exit(error.exit_code if isinstance(error, MedsslError) else 1)


def _sentence(error: Exception) -> str:
    what = " ".join(f"{type(error).__name__}: {error}".split())
    match error:
        case MedsslError():
            return str(error)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG):
            return f"The disk is full ({what}): free some space, then go on with --resume or run it again."
        case OSError(filename=filename, strerror=reason) if filename:
            return f"{filename} cannot be used: {reason}."
        # By name, because torch's own is only importable where torch has been paid for.
        case MemoryError() | Exception(__class__=type(__name__="OutOfMemoryError")):
            return "The memory is full: raise optimiser.accumulate, or lower max_crop_voxels or encoder.size."
    return f"This is a bug in medssl ({what}): run it again with {DEBUG_FLAG} and report what that prints."


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        console.print(f"medssl {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option(DEBUG_FLAG, help="Show where in the code an error came from.")
    ] = False,
) -> None:
    """Declare what holds for every verb; `main` has dealt with ``debug`` by now."""
