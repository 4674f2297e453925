from io import StringIO

import pytest
from rich.console import Console

from medssl.cli import console
from medssl.cli.console import RichProgress, command_progress
from medssl.progress import SilentProgress


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What a terminal would be sent on standard error."""
    file = StringIO()
    monkeypatch.setattr(
        console, "err_console", Console(file=file, force_terminal=True, width=100, highlight=False)
    )
    return file


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What a file would be sent on standard error."""
    file = StringIO()
    monkeypatch.setattr(console, "err_console", Console(file=file, width=40, highlight=False))
    return file


def test_lines_for_a_file_have_no_control_codes_and_are_not_broken(pipe: StringIO) -> None:
    path = "/scans/[bold]" + "x" * 60
    progress = RichProgress()
    progress.say(f"Read {path}")
    progress.warn(f"{path} is odd.")
    assert pipe.getvalue() == f"Read {path}\nWarning: {path} is odd.\n"


def test_a_name_that_is_no_utf8_is_printed_all_the_same(pipe: StringIO) -> None:
    RichProgress().say("scan-\udce9.nii")
    assert pipe.getvalue() == "scan-?.nii\n"


def test_a_track_for_a_file_is_a_line_now_and_then(pipe: StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    clock_s = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock_s[0])
    with RichProgress().track("Preparing", total=100, done=60) as advance:
        for _ in range(40):
            clock_s[0] += 1
            advance(detail="sub-01")
    lines = pipe.getvalue().splitlines()
    assert lines == [f"Preparing: {done} of 100  sub-01" for done in (75, 90, 100)]


def test_a_track_on_a_terminal_ends_full_with_its_detail(screen: StringIO) -> None:
    with RichProgress().track("Reading [x]", total=3, done=1) as advance:
        advance()
        advance(detail="[last]")
    assert "Reading [x]" in screen.getvalue()
    assert "3/3" in screen.getvalue()
    assert "[last]" in screen.getvalue()


def test_tracks_can_lie_in_one_another_and_follow_each_other(screen: StringIO) -> None:
    progress = RichProgress()
    for round_name in ("First", "Second"):
        with progress.track(round_name, total=1) as outer:
            with progress.track("Steps", total=2) as inner:
                inner(2)
                progress.say("Between them.")
            screen.truncate(0)
            outer()
        assert round_name in screen.getvalue()
        assert "1/1" in screen.getvalue()


def test_an_error_inside_a_track_leaves_the_terminal_usable(screen: StringIO) -> None:
    progress = RichProgress()
    with pytest.raises(ZeroDivisionError), progress.track("Epochs", total=1):
        raise ZeroDivisionError
    with progress.track("Again", total=1) as advance:
        advance()
    assert "Again" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[?25h"), "the cursor stays hidden"


def test_only_the_first_process_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(command_progress(), RichProgress)
    monkeypatch.setattr(console, "IS_FIRST_PROCESS", False)
    assert isinstance(command_progress(), SilentProgress)


def test_rows_are_aligned_and_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_rows([("a", "x" * 200), ("long", "[b]")])
    assert capsys.readouterr().out == f"a     {'x' * 200}\nlong  [b]\n"
