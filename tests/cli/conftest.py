"""The command line as a user meets it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from medssl.cli.main import main


@dataclass(frozen=True)
class Finished:
    exit_code: int
    out: str
    err: str


@pytest.fixture
def medssl(capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Runs a command in this process: ``medssl("config", "list")``."""

    def run(*arguments: str) -> Finished:
        with pytest.raises(SystemExit) as ending:
            main(arguments)
        captured = capsys.readouterr()
        return Finished(int(ending.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def replace_workflow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts functions in the place of a workflow module: ``replace_workflow("demo", run_demo=...)``."""

    def replace(name: str, **functions: Any) -> None:
        module = ModuleType(f"medssl.workflows.{name}")
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return replace
