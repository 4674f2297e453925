"""What `bin/evidence` would run is what the command line takes."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from medssl.cli.main import app
from medssl.cli.study import parse_arms, parse_labels
from medssl.config.finetune_schema import StudyConfig
from medssl.config.load import load_run_config
from medssl.config.schema import PretrainConfig

EVIDENCE = Path(__file__).parents[2] / "bin" / "evidence"


@pytest.mark.parametrize(
    ("what", "table"),
    [
        ("hippocampus", "split.csv"),
        ("noise", "split.csv"),
        ("longer", "split.csv"),
        ("larger", "split.csv"),
        ("unlabelled", "split.csv"),
        ("tasks", "split.csv"),
        ("tasks", "nodules.csv"),
        ("nodules", "nodules.csv"),
    ],
)
def test_the_commands_and_their_settings_exist(what: str, table: str, tmp_path: Path) -> None:
    (tmp_path / table).touch()
    words = [sys.executable, EVIDENCE, what, tmp_path, "--out", tmp_path / "runs", "--print"]
    printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line.split()[1] for line in printed].count("study") >= 1
    assert not (tmp_path / "runs").exists()
    commands = typer.main.get_command(app)
    for line in printed:
        arguments = shlex.split(line)[1:]
        context = commands.make_context("medssl", arguments)
        verb, command, rest = commands.resolve_command(context, arguments)
        given = command.make_context(verb, rest).params
        if verb == "pretrain":
            load_run_config(PretrainConfig, given["config"], given["settings"])
        else:
            config = load_run_config(StudyConfig, "finetune", given["settings"])
            assert config.crop_size != "auto"
            assert parse_labels(given["labels"])
            assert given["arms"] is None or parse_arms(given["arms"])
