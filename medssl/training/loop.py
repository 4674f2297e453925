"""The course of a run: from a network and batches to checkpoints, curves and pictures."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ignite.engine import Engine
from torch import Tensor

from medssl.config.schema import RunConfig
from medssl.errors import InterruptedRunError
from medssl.progress import Progress
from medssl.training.board import Board
from medssl.training.checkpoint import resume_state, save_checkpoint
from medssl.training.devices import choose_loader_threads
from medssl.training.distributed import is_first, world_size
from medssl.training.engine import PrepareBatch, create_trainer
from medssl.training.handlers.alarms import Alarms
from medssl.training.handlers.charts import Charts
from medssl.training.handlers.checkpoints import Checkpoints
from medssl.training.handlers.pictures import Draw, Pictures
from medssl.training.handlers.screen import Screen
from medssl.training.handlers.stopping import EarlyStop, Interruption
from medssl.training.handlers.stopwatch import Stopwatch
from medssl.training.handlers.table import Table
from medssl.training.handlers.training_means import TrainingMeans
from medssl.training.handlers.validation import Measure, Validation
from medssl.training.objective import Objective
from medssl.training.run_folder import RunFolder
from medssl.training.signals import StopRequest
from medssl.training.state import TrainingState

if TYPE_CHECKING:
    from medssl.pretext.task import CueReport


class Handler(Protocol):
    """Something that acts on the events of an engine."""

    def attach(self, trainer: Engine) -> None:
        """Register for the events."""


class BatchStream(Protocol):
    """Where batches come from, such as `medssl.training.stream.CropStream`."""

    def batches(self, start_step: int = 0) -> Generator[dict[str, Tensor]]:
        """Yield the batches of ``start_step`` and all later steps, without end."""

    def scan_ids(self, step: int) -> Sequence[str]:
        """Return which scans the batch of a step is cropped from."""


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        status: "finished" or "stopped early".
        step: Optimiser steps done.
        epoch: Epochs done.
        best_epoch: The epoch of the lowest validation loss, or None without validation.
        best_value: That loss.
        seconds: Time spent training, over all sittings.
    """

    status: str
    step: int
    epoch: int
    best_epoch: int | None
    best_value: float | None
    seconds: float


@dataclass(frozen=True)
class Watch:
    """What is measured and shown while a run trains.

    Attributes:
        measure: Metrics on held-out scans, or None where there are none; then no epoch is the best.
        draw: Pictures of what the network makes of a few scans, or None.
        cues: How far guessing and trivial cues get, by task name.
    """

    measure: Measure | None
    draw: Draw | None
    cues: Mapping[str, "CueReport"]


def run_loop(
    state: TrainingState,
    *,
    objective: Objective,
    stream: BatchStream,
    prepare_batch: PrepareBatch,
    extent: "Extent",
    watch: Watch,
    config: RunConfig,
    run: RunFolder,
    progress: Progress,
    resume: bool,
    continue_command: str,
) -> TrainingResult:
    """Train until the epochs are done, validation stops improving, or someone asks to stop.

    Args:
        state: That has not begun; holds the last weights afterwards. Those to keep are loaded with
            `medssl.training.checkpoint.load_model`.
        objective: What is learned.
        stream: Makes the batches of any step.
        prepare_batch: What is done to each on its device.
        extent: How long the run is.
        watch: What is measured and shown.
        config: Of the whole run.
        run: Where everything is written.
        progress: Who is told.
        resume: Whether to go on from ``last.pt``; a run that was stopped before its first checkpoint starts.
        continue_command: The command that continues this run.

    Raises:
        InterruptedRunError: On SIGINT or SIGTERM, once the run is saved.
        DivergedError: If the loss is not finite, as ``training.on_nan`` says.
        CheckpointError: If ``last.pt`` cannot be resumed from.
        ConfigError: If it belongs to a run with other settings.
        NoUsableScanError: If not one scan can be read any more.
    """
    if resume and run.last_checkpoint.exists():
        resume_state(run.last_checkpoint, state, config=config)
    run.update_status(step_settings=state.settings.as_dict())
    early_stop = EarlyStop(state.counters, config.training.early_stop_epochs)
    if extent.is_done(state) or early_stop.has_stalled(extent.epochs_done(state)):
        return _result(state, extent)

    handlers: list[Handler] = [TrainingMeans(state), Stopwatch(state)]
    if watch.measure is not None:
        handlers.append(Validation(state, watch.measure, every_epochs=config.training.validate_every_epochs))
    checkpoints = Checkpoints(
        state,
        save=partial(save_checkpoint, config=config, architecture=state.model.encoder.architecture),
        last=run.last_checkpoint,
        best=run.best_checkpoint,
        every_s=config.training.checkpoint_every_s,
    )
    trainer = create_trainer(
        state, objective=objective, config=config, prepare_batch=prepare_batch, scan_ids=stream.scan_ids
    )
    with ExitStack() as stack:
        if is_first():
            board = stack.enter_context(closing(Board(run.tensorboard, resumed_step=state.counters.step)))
            bar = progress.track("Training", total=extent.total_steps, done=state.counters.step)
            handlers += [
                Table(run, state.counters),
                Charts(board, state, cues=watch.cues, log_every_steps=config.training.log_every_steps),
                Screen(progress, stack.enter_context(bar), cues=watch.cues),
                Alarms(progress, board, loader_threads=choose_loader_threads(config.speed.loader_threads)),
            ]
            if watch.draw is not None:
                every_epochs = config.training.pictures_every_epochs
                handlers.append(Pictures(board, watch.draw, folder=run.figures, every_epochs=every_epochs))
        request = stack.enter_context(StopRequest(is_alone=world_size() == 1))
        interruption = Interruption(request, checkpoints)
        handlers += [checkpoints, interruption, early_stop]
        for handler in handlers:
            handler.attach(trainer)
        trainer.load_state_dict(
            {
                "iteration": state.counters.step,
                "epoch_length": extent.steps_per_epoch,
                "max_epochs": extent.epochs,
            }
        )
        trainer.run(stack.enter_context(closing(stream.batches(state.counters.step))))
    if interruption.has_happened:
        raise InterruptedRunError(
            f"Stopped and saved after step {state.counters.step}; go on with: {continue_command}"
        )
    return _result(state, extent)


@dataclass(frozen=True)
class Extent:
    """How long a run is.

    Attributes:
        steps_per_epoch: Optimiser steps in an epoch.
        epochs: Epochs in the run.
    """

    steps_per_epoch: int
    epochs: int

    @property
    def total_steps(self) -> int:
        """Optimiser steps in the run."""
        return self.steps_per_epoch * self.epochs

    def epochs_done(self, state: TrainingState) -> int:
        """Return how many epochs are complete."""
        return state.counters.step // self.steps_per_epoch

    def is_done(self, state: TrainingState) -> bool:
        """Return whether no step is left."""
        return state.counters.step >= self.total_steps


def _result(state: TrainingState, extent: Extent) -> TrainingResult:
    counters = state.counters
    return TrainingResult(
        status="finished" if extent.is_done(state) else "stopped early",
        step=counters.step,
        epoch=extent.epochs_done(state),
        best_epoch=counters.best_epoch,
        best_value=counters.best_value,
        seconds=counters.seconds,
    )
