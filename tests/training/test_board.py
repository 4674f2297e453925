import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medssl.training.board import Board


def steps_shown(folder: Path) -> list[int]:
    events = EventAccumulator(str(folder / "train"))
    events.Reload()
    return [event.step for event in events.Scalars("loss/total")]


def write_steps(folder: Path, first: int, last: int, *, resumed_step: int) -> None:
    board = Board(folder, resumed_step=resumed_step)
    for step in range(first, last + 1):
        board.scalars("train", {"loss/total": 1 / step}, step=step)
    board.close()


def test_what_was_written_past_the_checkpoint_is_hidden(tmp_path: Path) -> None:
    write_steps(tmp_path, 1, 7, resumed_step=0)
    write_steps(tmp_path, 6, 9, resumed_step=5)
    assert steps_shown(tmp_path) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_a_clock_that_is_set_back_between_sittings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = time.time()
    for sitting in range(4):
        monkeypatch.setattr(time, "time", lambda past_s=3600 * sitting: now_s - past_s)
        write_steps(tmp_path, 5 * sitting + 1, 5 * sitting + 7, resumed_step=5 * sitting)
    assert steps_shown(tmp_path) == list(range(1, 23))
