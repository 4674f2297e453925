"""What a person sees: TensorBoard, the line of an epoch, and alarms."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ignite.engine import Engine, Events
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medssl.progress import SilentProgress
from medssl.training.board import LINES, Board
from medssl.training.handlers.alarms import Alarms
from medssl.training.handlers.screen import format_duration


def read_line(folder: Path, line: str) -> EventAccumulator:
    events = EventAccumulator(str(folder / "tensorboard" / line), size_guidance={"images": 0})
    events.Reload()
    return events


def points(folder: Path, line: str, chart: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read_line(folder, line).Scalars(chart)]


def test_network_chance_and_trivial_cue_share_a_chart(tiny_run: Any) -> None:
    tiny_run()
    for line in LINES:
        assert {"flip/accuracy", "mean/mae"} <= set(read_line(tiny_run.folder, line).Tags()["scalars"])
    assert points(tiny_run.folder, "chance", "flip/accuracy") == [(step, 0.5) for step in (0, 4, 8, 12)]
    assert [step for step, _ in points(tiny_run.folder, "validation", "flip/accuracy")] == [4, 8, 12]


def test_charts_cover_losses_optimisation_speed_and_embeddings(tiny_run: Any) -> None:
    tiny_run()
    train = set(read_line(tiny_run.folder, "train").Tags()["scalars"])
    assert train >= {
        "all tasks/loss",
        "flip/loss",
        "optimisation/learning_rate",
        "optimisation/gradient_norm",
        "speed/step_s",
        "speed/data_wait_s",
        "speed/data_wait_share",
    }
    validation = set(read_line(tiny_run.folder, "validation").Tags()["scalars"])
    assert validation >= {"all tasks/loss", "mean/loss", "embeddings/effective_rank", "embeddings/spread"}
    assert [step for step, _ in points(tiny_run.folder, "train", "flip/loss")] == [2, 4, 6, 8, 10, 12]


def test_pictures_of_one_scan_are_kept_over_time(tiny_run: Any, standins: SimpleNamespace) -> None:
    tiny_run(standins.make_config(training={"pictures_every_epochs": 2}))
    images = read_line(tiny_run.folder, "validation").Images("flip/scan 1")
    assert [image.step for image in images] == [0, 8, 12]
    assert imread(tiny_run.folder / "figures" / "flip_1.png").ndim == 3


def test_a_guide_explains_every_chart(tiny_run: Any) -> None:
    tiny_run()
    events = read_line(tiny_run.folder, "train")
    (text,) = events.Tensors("how to read these charts/text_summary")
    guide = text.tensor_proto.string_val[0].decode()
    charts = set(events.Tags()["scalars"]) | set(read_line(tiny_run.folder, "validation").Tags()["scalars"])
    for chart in charts:
        group, name = chart.split("/")
        explained = f"{group}/{name}" in guide or (name == "loss" and "TASK/loss" in guide)
        assert explained or group in {"flip", "mean"}, chart


def test_what_was_drawn_past_the_resumed_step_is_hidden(tmp_path: Path) -> None:
    first = Board(tmp_path / "tensorboard", resumed_step=0)
    for step in (1, 2, 3):
        first.scalars("train", {"all tasks/loss": float(step)}, step=step)
    first.close()
    second = Board(tmp_path / "tensorboard", resumed_step=1)
    second.scalars("train", {"all tasks/loss": 20.0}, step=2)
    second.close()
    assert points(tmp_path, "train", "all tasks/loss") == [(1, 1.0), (2, 20.0)]


class Heard(SilentProgress):
    def __init__(self) -> None:
        self.warned: list[str] = []

    def warn(self, message: str) -> None:
        self.warned.append(message)


def alarms_at(tmp_path: Path, epochs: list[dict[str, float]], *, epoch_length: int = 20) -> list[str]:
    heard = Heard()
    board = Board(tmp_path / "tensorboard", resumed_step=0)
    trainer = Engine(lambda engine, batch: None)
    alarms = Alarms(heard, board, loader_threads=2)
    sound = {
        "data_wait_share": 0.0,
        "embeddings/effective_rank": 9.0,
        "embeddings/spread": 0.5,
    }
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda engine: engine.state.metrics.update(sound | epochs[engine.state.epoch - 1]),
    )
    alarms.attach(trainer)
    trainer.run([None] * epoch_length, max_epochs=len(epochs))
    board.close()
    return heard.warned


def test_no_alarm_rings_while_all_is_well(tmp_path: Path) -> None:
    assert alarms_at(tmp_path, [{}, {"data_wait_share": 0.19}]) == []


def test_waiting_for_data_is_told_once_for_each_time_it_begins(tmp_path: Path) -> None:
    waits = {"data_wait_share": 0.6}
    (first, second) = alarms_at(tmp_path, [waits, waits, {}, waits])
    assert first.startswith(
        "The network waited for data 60% of the time in epoch 1: raise speed.loader_threads (now 2)"
    )
    assert "in epoch 4" in second


def test_a_short_epoch_is_not_judged_for_waiting(tmp_path: Path) -> None:
    assert alarms_at(tmp_path, [{"data_wait_share": 0.9}], epoch_length=5) == []


@pytest.mark.parametrize("sick", [{"embeddings/effective_rank": 1.2}, {"embeddings/spread": 0.001}])
def test_a_collapse_is_told(tmp_path: Path, sick: dict[str, float]) -> None:
    (warning,) = alarms_at(tmp_path, [sick])
    assert warning.startswith("The embeddings have collapsed")
    events = read_line(tmp_path, "train")
    assert events.Tensors("alarms/collapse/text_summary")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
