"""The README promises only what is there."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from medssl.cli.main import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = "\n".join(re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)).replace("\\\n", " ")
COMMANDS = sorted(
    line[line.index("medssl ") :] for line in CODE.splitlines() if re.match(r"(torchrun .*-m )?medssl ", line)
)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_and_option_of_the_readme_exists(line: str) -> None:
    _, verb, *words = shlex.split(line, comments=True)
    command = get_command(app).commands[verb]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?<![\w/.])(?:bin|notebooks|medssl|configs)/[\w./]*\w", README)))
)
def test_every_file_the_readme_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "bin/test " in CODE
    assert "bin/test" in (ROOT / ".ci" / "run").read_text()
