"""The Ignite engine that trains: one iteration is one optimiser step."""

import logging
import math
from collections.abc import Callable, Sequence

import torch
from ignite.engine import Engine
from torch import Tensor

from medssl.config.schema import RunConfig
from medssl.errors import DivergedError
from medssl.training.distributed import rank
from medssl.training.objective import Objective
from medssl.training.schedule import apply_schedule, learning_rate_factor
from medssl.training.seeds import seed_step
from medssl.training.state import TrainingState
from medssl.training.step import StepResult, optimise

PrepareBatch = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""What is done to a batch on its device before the network sees it, such as augmentation."""

MOST_SKIPPED_IN_A_ROW = 10
"""Left-out steps after which the weights, not a scan, must be at fault."""

MOST_NAMED_SCANS = 8


def create_trainer(
    state: TrainingState,
    *,
    objective: Objective,
    config: RunConfig,
    prepare_batch: PrepareBatch,
    scan_ids: Callable[[int], Sequence[str]],
) -> Engine:
    """Return the engine whose ``train_step`` moves ``state`` on by one optimiser step.

    A step is a function of its number, its batch and the weights before it: the learning rate, dropout and
    augmentation are derived from the number and the batch, not from what was drawn before.

    Args:
        state: Is changed by every step.
        objective: What is learned.
        config: Of the whole run.
        prepare_batch: A pure function of the batch.
        scan_ids: Which scans the batch of a step was cropped from, to name them if the loss diverges.

    Returns:
        An engine whose ``state.output`` is a `StepResult`.
    """

    def train_step(engine: Engine, batch: dict[str, Tensor]) -> StepResult:
        step = engine.state.iteration - 1
        total_steps = engine.state.epoch_length * engine.state.max_epochs
        seed_step(config.training.seed, step, rank())
        factor = learning_rate_factor(
            step, total_steps=total_steps, warmup_fraction=config.optimiser.warmup_fraction
        )
        apply_schedule(state.optimiser, factor * config.optimiser.learning_rate, step=step)

        state.model.train()
        result = optimise(
            state,
            prepare_batch(state.settings.move(batch)),
            objective=objective,
            config=config.optimiser,
            with_metrics=is_logged(engine, config.training.log_every_steps),
        )
        state.counters.step = engine.state.iteration
        _count(result, state)
        if not result.is_finite:
            _leave_out(result, state, on_nan=config.training.on_nan, scans=scan_ids(step))
        return result

    trainer = Engine(train_step)
    trainer.logger.setLevel(logging.CRITICAL)  # it would print errors that the command line reports
    return trainer


def is_logged(engine: Engine, log_every_steps: int) -> bool:
    """Return whether metrics are computed in the current step: every so often, and in each epoch's last."""
    step = engine.state.iteration
    return step % log_every_steps == 0 or step % engine.state.epoch_length == 0


def _count(result: StepResult, state: TrainingState) -> None:
    if not result.is_finite:
        return
    state.counters.skipped_in_a_row = 0
    state.averages.add({"loss": torch.tensor([result.loss]), **result.values})
    if math.isfinite(result.gradient_norm):
        state.averages.add({"gradient_norm": torch.tensor([result.gradient_norm])})


def _leave_out(result: StepResult, state: TrainingState, *, on_nan: str, scans: Sequence[str]) -> None:
    """Count a step whose loss or gradient was not finite, or end the run over it."""
    state.counters.skipped_steps += 1
    state.counters.skipped_in_a_row += 1
    what = "loss" if not math.isfinite(result.loss) else "gradient"
    place = f"The {what} was not finite at step {state.counters.step}, on crops of {_listed(scans)}"
    if on_nan == "stop":
        raise DivergedError(
            f"{place}: lower optimiser.learning_rate, or set training.on_nan to skip if these scans are at "
            "fault."
        )
    if state.counters.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
        raise DivergedError(
            f"{place}, for the {MOST_SKIPPED_IN_A_ROW}th time in a row: lower optimiser.learning_rate and "
            "start a new run."
        )


def _listed(scans: Sequence[str]) -> str:
    rest = len(scans) - MOST_NAMED_SCANS
    return ", ".join(scans[:MOST_NAMED_SCANS]) + (f" and {rest} more" if rest > 0 else "")
