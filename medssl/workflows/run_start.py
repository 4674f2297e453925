"""What a run on labelled cases writes down when it starts, and holds on to when it goes on."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.atomic import write_text
from medssl.config.finetune_schema import FinetuneConfig
from medssl.config.load import dump_yaml, load_run_config
from medssl.errors import UsageError
from medssl.scans.cases import PreparedCase
from medssl.scans.manifest import read_table, write_table
from medssl.scans.split import SPLIT_COLUMNS
from medssl.training.checkpoint import WATCHING_FIELDS, check_same_run
from medssl.training.environment import describe_environment
from medssl.training.run_folder import RunFolder
from medssl.workflows.pretrain import default_store


@dataclass(frozen=True)
class Places:
    """Where the data of a run lie.

    Attributes:
        source: The labelled data set.
        encoder: A run of pretraining or its weights, or None.
        store: Where prepared scans lie.
    """

    source: Path
    encoder: Path | None
    store: Path


def record_start(
    run: RunFolder,
    source: Path | None,
    *,
    encoder: Path | None,
    store: Path | None,
    config: FinetuneConfig,
    command: Sequence[str],
    free: tuple[str, ...] = WATCHING_FIELDS,
) -> Places:
    """Write down how a run was started, or look it up, and return where its data lie.

    Args:
        run: Its folder.
        source: None on resume.
        encoder: None on resume, or where there is none.
        store: None for the default.
        config: Of the run.
        command: What the user typed.
        free: Settings that may change on resume, see `medssl.training.checkpoint.check_same_run`.

    Raises:
        ConfigError: If another setting differs from those that the run began with.
    """
    if source is not None:
        run.update_status(
            source=str(source.absolute()),
            encoder=str(encoder.absolute()) if encoder else None,
            store=str((store or default_store(run.path)).absolute()),
        )
    if run.config.exists():  # before its own settings are overwritten
        check_same_run(load_run_config(type(config), run.config), config, free=free)
    write_text(run.config, dump_yaml(config))
    commands = run.command.read_text(encoding="utf-8") if run.command.exists() else ""
    write_text(run.command, f"{commands}{shlex.join(command)}\n")
    write_text(run.environment, json.dumps(describe_environment(), indent=2) + "\n")
    status = run.read_status()
    place = Path(status["encoder"]) if status["encoder"] else None
    return Places(Path(status["source"]), place, Path(status["store"]))


def record_split(run: RunFolder, sides: Mapping[str, Sequence[PreparedCase]]) -> None:
    """Write which case is on which side; a run that goes on must find the same cases again.

    Raises:
        UsageError: If it does not.
    """
    rows = [
        {"scan_id": case.record.scan_id, "subject_id": case.record.subject_id, "split": side}
        for side, cases in sides.items()
        for case in cases
    ]
    if run.split.exists() and read_table(run.split) != rows:
        raise UsageError(
            f"The labelled cases are no longer those that {run.path} was started with: put them back, or "
            "start a new run."
        )
    write_table(run.split, SPLIT_COLUMNS, rows)
