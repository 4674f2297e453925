"""One optimiser step, from a batch to changed weights."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medssl.config.schema import OptimiserConfig
from medssl.errors import ConfigError
from medssl.training.distributed import mean_over_processes
from medssl.training.objective import Objective
from medssl.training.predict import predict
from medssl.training.state import TrainingState

SMALLEST_LOSS_SCALE = 1.0
"""A float16 gradient that overflows even when the loss is not scaled up is a diverged one."""


@dataclass(frozen=True)
class StepResult:
    """What a step did.

    Attributes:
        loss: Mean over all processes.
        gradient_norm: Before clipping.
        is_finite: False when loss or gradient were not, and the weights were therefore left as they are.
        values: Losses and, if asked for, metrics of this process's samples, ``(B,)`` each.
    """

    loss: float
    gradient_norm: float
    is_finite: bool
    values: dict[str, Tensor]


def optimise(
    state: TrainingState,
    batch: dict[str, Tensor],
    *,
    objective: Objective,
    config: OptimiserConfig,
    with_metrics: bool = False,
) -> StepResult:
    """Take one optimiser step on a batch.

    The batch is passed in ``config.accumulate`` equal parts, whose gradients add up to that of the whole.

    Args:
        state: Its weights, optimiser, scaler and moving average are changed.
        batch: This process's share, on the device.
        objective: What is learned.
        config: Accumulation and clipping.
        with_metrics: Whether to compute the tasks' metrics too.
    """
    state.optimiser.zero_grad(set_to_none=True)
    values = []
    loss = torch.zeros((), device=state.settings.device)
    for part in split_batch(batch, config.accumulate):
        predictions = predict(state.replica, part, state.settings)
        losses = objective.losses(predictions, part)
        part_loss = objective.total_loss(losses) / config.accumulate
        state.scaler.scale(part_loss).backward()
        loss = loss + part_loss.detach()
        values.append(_values_of_samples(objective, predictions, part, losses, with_metrics=with_metrics))
    norm = _clip(state, config.clip_norm)
    mean_loss, gradient_norm = torch.stack([mean_over_processes(loss), norm.to(loss)]).tolist()
    is_finite = _is_finite(mean_loss, gradient_norm, state)
    _update(state, is_finite=is_finite)
    return StepResult(mean_loss, gradient_norm, is_finite, _concatenate(values))


def split_batch(batch: dict[str, Tensor], parts: int) -> Iterator[dict[str, Tensor]]:
    """Yield ``parts`` consecutive equal parts of a batch.

    Raises:
        ConfigError: If the samples cannot be divided equally.
    """
    size = len(next(iter(batch.values())))
    if size % parts:
        raise ConfigError(
            f"optimiser.accumulate is {parts}, which does not divide a process's {size} crops a step: "
            "choose a training.batch_size that is a multiple of accumulate times the number of processes."
        )
    chunk = size // parts
    for start in range(0, size, chunk):
        yield {key: value[start : start + chunk] for key, value in batch.items()}


def _values_of_samples(
    objective: Objective, predictions: dict, part: dict, losses: dict[str, Tensor], *, with_metrics: bool
) -> dict[str, Tensor]:
    values = {f"{name}/loss": loss.detach() for name, loss in losses.items()}
    if with_metrics:
        with torch.no_grad():
            values |= objective.metrics(predictions, part)
    return values


def _clip(state: TrainingState, clip_norm: float | None) -> Tensor:
    state.scaler.unscale_(state.optimiser)
    limit = math.inf if clip_norm is None else clip_norm
    return nn.utils.clip_grad_norm_(state.model.parameters(), limit)


def _is_finite(loss: float, gradient_norm: float, state: TrainingState) -> bool:
    """Judge a step; a float16 gradient may overflow while its scale is still being searched."""
    is_searching = state.scaler.is_enabled() and state.scaler.get_scale() > SMALLEST_LOSS_SCALE
    return math.isfinite(loss) and (math.isfinite(gradient_norm) or is_searching)


def _update(state: TrainingState, *, is_finite: bool) -> None:
    if is_finite or state.scaler.is_enabled():
        state.scaler.step(state.optimiser)  # leaves out the step by itself when a scaled gradient overflowed
        state.scaler.update()
    if is_finite and state.ema is not None:
        state.ema.update_parameters(state.model)


def _concatenate(values: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in values]) for name in values[0]}
