"""Single steps on a copy of a network, to see how long they take."""

import copy
import time

import torch
from torch import Tensor

from medssl.config.schema import OptimiserConfig
from medssl.networks.model import Model
from medssl.training.objective import Objective
from medssl.training.schedule import apply_schedule
from medssl.training.settings import StepSettings
from medssl.training.state import TrainingState, all_alike, build_optimiser
from medssl.training.step import optimise


class StepBench:
    """Takes steps on a copy of a network, with a learning rate of zero so that each is the same work."""

    def __init__(
        self,
        model: Model,
        batch: dict[str, Tensor],
        *,
        objective: Objective,
        optimiser: OptimiserConfig,
    ) -> None:
        self._model = copy.deepcopy(model).train()
        self._batch = batch
        self._objective = objective
        self._config = optimiser
        self._placed: StepSettings | None = None

    def __call__(self, settings: StepSettings) -> tuple[float, float]:
        """Return the loss of a step and the seconds it took."""
        if settings != self._placed:
            settings.place(self._model)
            self._placed = settings
        state = TrainingState(
            model=self._model,
            replica=self._model,
            ema=None,
            optimiser=build_optimiser(all_alike(self._model), self._config),
            scaler=settings.scaler(),
            settings=settings,
        )
        apply_schedule(state.optimiser, 0.0, step=0)
        batch = settings.move(self._batch)
        start = time.perf_counter()
        result = optimise(state, batch, objective=self._objective, config=self._config)
        if settings.is_cuda:
            torch.cuda.synchronize(settings.device)
        return result.loss, time.perf_counter() - start
