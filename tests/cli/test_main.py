import errno
import os
import subprocess
import sys

import pytest

from medssl import __version__
from medssl.errors import ConfigError, DivergedError, InterruptedRunError, MedsslError, NoUsableScanError


class OutOfMemoryError(RuntimeError):
    """Goes by the name of torch's."""


@pytest.fixture
def fail(medssl, replace_workflow, tmp_path):
    """Runs a command whose workflow raises an error."""

    def run(error: BaseException, *flags: str):
        def run_demo(*arguments, **options):
            raise error

        replace_workflow("demo", run_demo=run_demo)
        return medssl(*flags, "demo", "--out", str(tmp_path))

    return run


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (MedsslError("It failed."), 1),
        (ConfigError("It is misspelt."), 2),
        (NoUsableScanError("There is nothing."), 3),
        (DivergedError("It went to infinity."), 5),
        (InterruptedRunError("Go on with medssl pretrain --resume [run]."), 130),
    ],
)
def test_an_expected_error_is_its_sentence_and_its_exit_code(
    fail, error: MedsslError, exit_code: int
) -> None:
    finished = fail(error)
    assert finished.exit_code == exit_code
    assert finished.err == f"{error}\n"


def test_a_bug_is_one_sentence_that_asks_for_debug(fail) -> None:
    finished = fail(ZeroDivisionError("division\nby zero"))
    assert finished.exit_code == 1
    assert finished.err.count("\n") == 1
    assert "bug" in finished.err
    assert "ZeroDivisionError: division by zero" in finished.err
    assert "--debug" in finished.err


def test_debug_shows_where_it_happened(fail) -> None:
    finished = fail(ZeroDivisionError("x"), "--debug")
    assert finished.exit_code == 1
    assert "Traceback" in finished.err
    assert "run_demo" in finished.err


def test_debug_may_stand_after_the_verb(medssl) -> None:
    finished = medssl("config", "show", "latop", "--debug")
    assert finished.exit_code == 2
    assert "Traceback" in finished.err


def test_a_full_disk_is_no_bug(fail) -> None:
    finished = fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scans/x"))
    assert finished.exit_code == 1
    assert finished.err.startswith(
        "The disk is full (OSError: [Errno 28] No space left on device: '/scans/x')"
    )


def test_a_file_that_may_not_be_written_is_no_bug(fail) -> None:
    finished = fail(PermissionError(errno.EACCES, "Permission denied", "/scans/x"))
    assert finished.err == "/scans/x cannot be used: Permission denied.\n"


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError("CUDA out of memory")])
def test_full_memory_names_the_settings_that_help(fail, error: Exception) -> None:
    assert "raise optimiser.accumulate" in fail(error).err


def test_ctrl_c_is_130_without_a_word_of_code(fail) -> None:
    finished = fail(KeyboardInterrupt())
    assert finished.exit_code == 130
    assert "Traceback" not in finished.err


def test_brackets_in_a_message_are_no_markup(fail) -> None:
    assert fail(MedsslError("/scans/[red]/a[0].nii is damaged.")).err == "/scans/[red]/a[0].nii is damaged.\n"


def test_version(medssl) -> None:
    assert medssl("--version").out == f"medssl {__version__}\n"


def test_an_unknown_verb_suggests_the_nearest(medssl) -> None:
    finished = medssl("pretrian")
    assert finished.exit_code == 2
    assert "pretrain" in finished.err


@pytest.mark.parametrize("verb", ["inspect", "pretrain", "embed", "demo", "config", "doctor"])
def test_every_verb_explains_itself(medssl, verb: str) -> None:
    finished = medssl(verb, "--help")
    assert finished.exit_code == 0
    assert f"medssl {verb}" in finished.out


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    command = [sys.executable, "-m", "medssl", "config", "show", "laptop"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    with subprocess.Popen(command, **pipes, text=True, env=buffered) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
