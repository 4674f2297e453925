"""Everything that changes while a run trains, and so everything a checkpoint holds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medssl.config.schema import OptimiserConfig
from medssl.networks.model import Model
from medssl.training.averages import Averages
from medssl.training.distributed import synchronised
from medssl.training.settings import StepSettings


@dataclass
class Counters:
    """The plain numbers of a run.

    Attributes:
        step: Optimiser steps done, left-out ones included.
        best_value: Lowest validation loss so far, or None.
        best_epoch: The epoch it came from, counted from 1, or None.
        skipped_steps: Steps that were left out because their loss or gradient was not finite.
        skipped_in_a_row: Those since the last good step.
        seconds: Time spent training, over all sittings.
    """

    step: int = 0
    best_value: float | None = None
    best_epoch: int | None = None
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    seconds: float = 0.0


@dataclass
class TrainingState:
    """The network, what trains it and how far it has come.

    Attributes:
        model: On its device, the owner of the weights.
        replica: ``model``, or what synchronises it with other processes; the forward pass of a training step.
        ema: Moving average of ``model``, or None.
        optimiser: AdamW over the parameters of ``model``.
        scaler: Scales the loss under float16, does nothing otherwise.
        settings: How a step is computed.
        counters: Plain numbers.
        averages: Means of the epoch that is under way.
    """

    model: Model
    replica: nn.Module
    ema: AveragedModel | None
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    settings: StepSettings
    counters: Counters = field(default_factory=Counters)
    averages: Averages = field(default_factory=Averages)

    @property
    def best_weights(self) -> Model:
        """The network to validate and to keep: the moving average if there is one."""
        return self.model if self.ema is None else cast(Model, self.ema.module)

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values; every process must call it."""
        return {
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "settings": self.settings.as_dict(),
            "counters": dict(vars(self.counters)),
            "averages": self.averages.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; the settings of this machine stay.

        Raises:
            KeyError: If a part is missing.
            RuntimeError: If weights do not fit.
            ValueError: If the optimiser's parameters do not fit.
        """
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.averages.load_state_dict(state["averages"])
        self.counters = Counters(**state["counters"])


@dataclass(frozen=True)
class Layers:
    """Parameters that are trained alike.

    Attributes:
        parameters: Of one part of the network.
        rate: Their learning rate as a multiple of the run's.
        thaw_step: The first step that changes them; until then they are frozen.
    """

    parameters: Sequence[nn.Parameter]
    rate: float = 1.0
    thaw_step: int = 0


ChooseLayers = Callable[[Model], Sequence[Layers]]


def all_alike(model: Model) -> list[Layers]:
    """Return all parameters as one group."""
    return [Layers([*model.parameters()])]


def start_state(
    model: Model,
    *,
    settings: StepSettings,
    config: OptimiserConfig,
    choose_layers: ChooseLayers = all_alike,
) -> TrainingState:
    """Place a network on its device and return the state of a run that has not begun."""
    settings.place(model)
    ema = None
    if config.ema_decay is not None:
        ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
    return TrainingState(
        model=model,
        replica=synchronised(model, torch.device(settings.device)),
        ema=ema,
        optimiser=build_optimiser(choose_layers(model), config),
        scaler=settings.scaler(),
        settings=settings,
    )


def build_optimiser(layers: Iterable[Layers], config: OptimiserConfig) -> torch.optim.AdamW:
    """Return AdamW that decays weight matrices and kernels, but neither biases nor normalisation weights.

    Each of its groups knows ``rate`` and ``thaw_step``, see `medssl.training.schedule.apply_schedule`.
    Parameters that need no gradient are left out.
    """
    groups = []
    for part in layers:
        trained = [parameter for parameter in part.parameters if parameter.requires_grad]
        shared = {"rate": part.rate, "thaw_step": part.thaw_step}
        kernels = [parameter for parameter in trained if parameter.dim() > 1]
        others = [parameter for parameter in trained if parameter.dim() <= 1]
        groups += [
            {"params": kernels, "weight_decay": config.weight_decay, **shared},
            {"params": others, "weight_decay": 0.0, **shared},
        ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate)
