import csv
import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from medssl.errors import CheckpointError, ConfigError, DivergedError, InterruptedRunError
from medssl.progress import SilentProgress
from medssl.training.checkpoint import load_model, read_checkpoint
from medssl.training.settings import StepSettings

TIMES = ("seconds", "step_s", "data_wait_s", "data_wait_share")
STEPS_PER_EPOCH = 4


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the package may catch it."""


class Told(SilentProgress):
    """Remembers what it is told and calls ``at_step`` after each step."""

    def __init__(self, at_step: Callable[[int], None] = lambda step: None) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self._at_step = at_step

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)

    @contextmanager
    def track(self, description: str, *, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
        step = done

        def advance(steps: int = 1, *, detail: str = "") -> None:
            nonlocal step
            step += steps
            self._at_step(step)

        yield advance


def kill_if(is_time: bool) -> None:
    if is_time:
        raise Killed


def kill_at(step: int) -> Told:
    return Told(lambda done: kill_if(done == step))


def rows(folder: Path, *, without: tuple[str, ...] = TIMES) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{key: row[key] for key in row if key not in without} for row in csv.DictReader(file)]


def assert_equal_weights(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def other_run(tiny_run: Any, tmp_path: Path) -> Any:
    return type(tiny_run)(tmp_path / "other")


@pytest.mark.parametrize("every_s", [0, 1e9])
def test_a_run_killed_again_and_again_ends_in_the_same_weights(
    tiny_run: Any, other_run: Any, standins: SimpleNamespace, every_s: float
) -> None:
    config = standins.make_config(
        training={"checkpoint_every_s": every_s}, optimiser={"ema_decay": 0.9, "accumulate": 2}
    )
    tiny_run(config)
    has_begun = False
    for step in (2, 3, 4, 7, 12):  # within an epoch, at its end, and in the last step
        with pytest.raises(Killed):
            other_run(config, resume=has_begun, progress=kill_at(step))
        has_begun = True
    result = other_run(config, resume=True)
    assert (result.status, result.step, result.epoch) == ("finished", 12, 3)
    assert_equal_weights(other_run.weights(), tiny_run.weights())
    assert rows(other_run.folder) == rows(tiny_run.folder)
    kept = [standins.make_model(seed=5) for _ in range(2)]
    for run, model in zip((tiny_run, other_run), kept, strict=True):
        load_model(run.folder / "checkpoints" / "best.pt", model)
    assert_equal_weights(kept[0].state_dict(), kept[1].state_dict())


@pytest.mark.parametrize("where", ["in validation", "between the row and the checkpoint"])
def test_a_run_killed_at_the_end_of_an_epoch_does_that_end_again(
    tiny_run: Any, other_run: Any, standins: SimpleNamespace, where: str
) -> None:
    config = standins.make_config(training={"checkpoint_every_s": 0})
    tiny_run(config)
    epoch = 0

    def health(embeddings: Tensor) -> dict[str, float]:
        nonlocal epoch
        epoch += 1
        if epoch == 2 and where == "in validation":
            raise Killed
        result: dict[str, float] = standins.embedding_health(embeddings)
        return result

    told = Told()
    if where != "in validation":
        told.say = lambda message: kill_if("epoch 2/3" in message)  # type: ignore[method-assign]
    with pytest.raises(Killed):
        other_run(config, health=health, progress=told)
    other_run(config, resume=True)
    assert rows(other_run.folder) == rows(tiny_run.folder)
    assert_equal_weights(other_run.weights(), tiny_run.weights())


def test_weights_depend_on_the_seed_and_not_on_threads(
    tiny_run: Any, other_run: Any, standins: SimpleNamespace, tmp_path: Path
) -> None:
    scans = standins.make_scans(8)
    tiny_run(stream=standins.make_stream(scans, threads=1))
    other_run(stream=standins.make_stream(scans, threads=3))
    assert_equal_weights(other_run.weights(), tiny_run.weights())
    third = type(tiny_run)(tmp_path / "third")
    third(standins.make_config(training={"seed": 4}), stream=standins.make_stream(scans, seed=4))
    assert not torch.equal(third.weights()["encoder.stem.weight"], tiny_run.weights()["encoder.stem.weight"])


def test_more_epochs_on_resume_just_go_on(tiny_run: Any, standins: SimpleNamespace) -> None:
    tiny_run(standins.make_config(training={"epochs": 2}))
    before = rows(tiny_run.folder, without=())
    result = tiny_run(standins.make_config(training={"epochs": 4}), resume=True)
    assert (result.step, result.epoch) == (16, 4)
    after = rows(tiny_run.folder, without=())
    assert after[:2] == before
    assert [int(row["epoch"]) for row in after] == [1, 2, 3, 4]
    assert float(after[2]["learning_rate"]) > float(after[1]["learning_rate"])


def test_resuming_a_finished_run_changes_nothing(tiny_run: Any) -> None:
    first = tiny_run()
    before = (tiny_run.folder / "checkpoints" / "last.pt").read_bytes()
    assert tiny_run(resume=True) == first
    assert (tiny_run.folder / "checkpoints" / "last.pt").read_bytes() == before


def test_other_settings_on_resume_are_refused(tiny_run: Any, standins: SimpleNamespace) -> None:
    tiny_run(standins.make_config(training={"epochs": 1}))
    with pytest.raises(ConfigError, match=r"learning_rate was 0\.001 and is 0\.1"):
        tiny_run(standins.make_config(optimiser={"learning_rate": 0.1}), resume=True)


def test_a_spoilt_checkpoint_names_the_way_out(tiny_run: Any) -> None:
    tiny_run()
    checkpoints = tiny_run.folder / "checkpoints"
    (checkpoints / "last.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"copy .*best\.pt over it"):
        tiny_run(resume=True)
    (checkpoints / "last.pt").write_bytes((checkpoints / "best.pt").read_bytes())
    assert tiny_run(resume=True).status == "finished"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [6, 8])
def test_a_signal_saves_and_the_run_goes_on_exactly(
    tiny_run: Any, other_run: Any, sent: signal.Signals, step: int
) -> None:
    tiny_run()
    told = Told(lambda done: os.kill(os.getpid(), sent) if done == step else None)
    with pytest.raises(InterruptedRunError, match=f"after step {step}; go on with: medssl pretrain --resume"):
        other_run(progress=told)
    assert read_checkpoint(other_run.folder / "checkpoints" / "last.pt")["counters"]["step"] == step
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    other_run(resume=True)
    assert_equal_weights(other_run.weights(), tiny_run.weights())
    assert rows(other_run.folder) == rows(tiny_run.folder)


def test_a_signal_in_the_last_step_lets_the_run_finish(tiny_run: Any) -> None:
    told = Told(lambda done: os.kill(os.getpid(), signal.SIGINT) if done == 12 else None)
    assert tiny_run(progress=told).status == "finished"


class PoisonedMixture:
    """Makes the loss NaN in the steps it is told."""

    @staticmethod
    def of(standins: SimpleNamespace, steps: set[int]) -> Any:
        class Poisoned(standins.TinyMixture):
            step = 0

            def total_loss(self, losses: dict[str, Tensor]) -> Tensor:
                if losses["flip"].requires_grad:
                    self.step += 1
                factor = math.nan if self.step in steps and losses["flip"].requires_grad else 1.0
                return super().total_loss(losses) * factor

        return Poisoned()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_scans(
    tiny_run: Any, standins: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned = PoisonedMixture.of(standins, {6})
    tiny_run.mixture = poisoned
    stream = standins.make_stream(standins.make_scans(8))
    with pytest.raises(DivergedError) as caught:
        tiny_run(stream=stream)
    assert str(caught.value).startswith("The loss was not finite at step 6, on crops of scan")
    assert all(name in str(caught.value) for name in stream.scan_ids(5))
    assert not any(
        f"{name}," in str(caught.value) for name in set(stream.scan_ids(6)) - set(stream.scan_ids(5))
    )
    assert read_checkpoint(tiny_run.folder / "checkpoints" / "last.pt")["counters"]["step"] == STEPS_PER_EPOCH


def test_a_loss_that_is_not_finite_can_be_left_out(tiny_run: Any, standins: SimpleNamespace) -> None:
    tiny_run.mixture = PoisonedMixture.of(standins, {6, 7})
    result = tiny_run(standins.make_config(training={"on_nan": "skip"}))
    assert (result.status, result.step) == ("finished", 12)
    assert [row["skipped_steps"] for row in rows(tiny_run.folder)] == ["0", "2", "2"]
    assert all(math.isfinite(float(row["train/loss"])) for row in rows(tiny_run.folder))
    assert all(value.isfinite().all() for value in tiny_run.weights().values())


def test_many_left_out_steps_in_a_row_stop_the_run(tiny_run: Any, standins: SimpleNamespace) -> None:
    tiny_run.mixture = PoisonedMixture.of(standins, set(range(2, 99)))
    with pytest.raises(DivergedError, match=r"at step 11, .*10th time in a row"):
        tiny_run(standins.make_config(training={"on_nan": "skip"}))


def test_it_stops_early_and_stays_stopped(tiny_run: Any, standins: SimpleNamespace) -> None:
    class Worsening(standins.TinyMixture):
        value = 1.0

        def total_loss(self, losses: dict[str, Tensor]) -> Tensor:
            if losses["flip"].requires_grad:
                return super().total_loss(losses)
            self.value += 1
            return torch.tensor(self.value)

    tiny_run.mixture = Worsening()
    config = standins.make_config(training={"epochs": 9, "early_stop_epochs": 2})
    result = tiny_run(config)
    assert (result.status, result.epoch, result.best_epoch) == ("stopped early", 3, 1)
    assert tiny_run(config, resume=True) == result
    longer = standins.make_config(training={"epochs": 9, "early_stop_epochs": 4})
    assert tiny_run(longer, resume=True).epoch == 5


def test_best_is_the_epoch_of_the_lowest_validation_loss(tiny_run: Any, standins: SimpleNamespace) -> None:
    result = tiny_run(standins.make_config(optimiser={"learning_rate": 0.2}))
    losses = [float(row["val/loss"]) for row in rows(tiny_run.folder)]
    assert result.best_epoch == 1 + losses.index(min(losses))
    assert result.best_value == pytest.approx(min(losses), rel=1e-5)
    best = read_checkpoint(tiny_run.folder / "checkpoints" / "best.pt")
    assert best["counters"]["step"] == STEPS_PER_EPOCH * result.best_epoch


def test_validation_comes_every_so_often_and_at_the_end(tiny_run: Any, standins: SimpleNamespace) -> None:
    tiny_run(standins.make_config(training={"epochs": 3, "validate_every_epochs": 2}))
    assert [row["val/loss"] != "" for row in rows(tiny_run.folder)] == [False, True, True]


def test_without_held_out_scans_there_is_no_best(tiny_run: Any) -> None:
    tiny_run.val_scans = 0
    result = tiny_run()
    assert (result.best_epoch, result.best_value) == (None, None)
    assert not (tiny_run.folder / "checkpoints" / "best.pt").exists()


def test_it_learns_and_with_shuffled_targets_it_does_not(
    tiny_run: Any, other_run: Any, standins: SimpleNamespace
) -> None:
    training = {"epochs": 3, "crops_per_scan": 8, "batch_size": 8}
    optimiser = {"learning_rate": 0.01}
    for run, shuffled in ((tiny_run, False), (other_run, True)):
        config = standins.make_config(training={**training, "shuffle_targets": shuffled}, optimiser=optimiser)
        run(config, stream=standins.make_stream(standins.make_scans(8), batch_size=8, crops_per_scan=8))
    assert float(rows(tiny_run.folder)[-1]["val/flip/accuracy"]) > 0.95
    assert float(rows(other_run.folder)[-1]["val/flip/loss"]) > 0.6


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_other_precisions_train_and_resume_exactly(tiny_run: Any, other_run: Any, precision: str) -> None:
    settings = StepSettings("cpu", precision, channels_last=True)
    tiny_run(settings=settings)
    with pytest.raises(Killed):
        other_run(settings=settings, progress=kill_at(6))
    other_run(settings=settings, resume=True)
    assert_equal_weights(other_run.weights(), tiny_run.weights())


def test_each_epoch_is_one_line_beside_chance_and_trivial_cue(tiny_run: Any) -> None:
    told = Told()
    tiny_run(progress=told)
    assert len(told.said) == 3
    assert told.said[0].startswith("epoch 1/3  loss ")
    assert "flip accuracy " in told.said[0]
    assert "[chance 0.500 | trivial cue 0.600]" in told.said[0]
    assert told.said[-1].endswith(" 0 s left")


def test_pictures_show_the_latest_of_each_task(tiny_run: Any) -> None:
    tiny_run()
    assert sorted(path.name for path in (tiny_run.folder / "figures").iterdir()) == [
        "flip_1.png",
        "mean_1.png",
    ]


def test_an_unknown_error_leaves_the_threads_and_signals_as_they_were(tiny_run: Any) -> None:
    import threading

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Killed):
        tiny_run(progress=kill_at(3))
    assert signal.getsignal(signal.SIGINT) is before
    assert not any(thread.name.startswith("crop") for thread in threading.enumerate())
