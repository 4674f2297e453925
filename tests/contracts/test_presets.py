import shlex

import pytest
import typer

from medssl.cli.main import app
from medssl.config.finetune_schema import FinetuneConfig
from medssl.config.load import load_run_config
from medssl.config.presets import preset_names, preset_purpose, preset_text
from medssl.config.schema import PretrainConfig

TORCHRUN = ["torchrun", "--nproc-per-node", "8", "-m", "medssl"]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_validates(name: str) -> None:
    kind = FinetuneConfig if "medssl finetune" in preset_text(name).splitlines()[1] else PretrainConfig
    load_run_config(kind, name)


@pytest.mark.parametrize("name", preset_names())
def test_the_second_line_is_a_command_that_the_command_line_takes(name: str) -> None:
    words = shlex.split(preset_text(name).splitlines()[1].removeprefix("#"))
    arguments = words[len(TORCHRUN) :] if words[: len(TORCHRUN)] == TORCHRUN else words[1:]
    assert arguments != words[1:] or words[0] == "medssl"
    commands = typer.main.get_command(app)
    context = commands.make_context("medssl", arguments, resilient_parsing=True)
    verb, command, rest = commands.resolve_command(context, arguments)
    parameters = command.make_context(verb, rest).params
    assert parameters.get("config", name) == name


@pytest.mark.parametrize("name", preset_names())
def test_every_value_has_its_reason(name: str) -> None:
    assert preset_purpose(name).endswith(".")
    for line in preset_text(name).splitlines():
        key, _, value = line.partition("#")[0].partition(":")
        says_itself = key.strip() in (
            "weight",
            "device",
            "channels_last",
            "compile",
            "precision",
            "loader_threads",
        )
        assert not value.strip() or "#" in line or says_itself, line
