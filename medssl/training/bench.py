"""Single steps on a copy of a network, to see how long they take."""

import copy
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medssl.config.schema import OptimiserConfig
from medssl.training.schedule import set_learning_rate
from medssl.training.settings import StepSettings
from medssl.training.state import TrainingState, build_optimiser
from medssl.training.step import optimise

if TYPE_CHECKING:
    from medssl.pretext.mixture import PretextMixture, PretextModel


class StepBench:
    """Takes steps on a copy of a network, with a learning rate of zero so that each is the same work."""

    def __init__(
        self,
        model: "PretextModel",
        batch: dict[str, Tensor],
        *,
        mixture: "PretextMixture",
        optimiser: OptimiserConfig,
    ) -> None:
        self._model = copy.deepcopy(model).train()
        self._batch = batch
        self._mixture = mixture
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
            optimiser=build_optimiser(self._model, self._config),
            scaler=settings.scaler(),
            settings=settings,
        )
        set_learning_rate(state.optimiser, 0.0)
        batch = settings.move(self._batch)
        start = time.perf_counter()
        result = optimise(state, batch, mixture=self._mixture, config=self._config)
        if settings.is_cuda:
            torch.cuda.synchronize(settings.device)
        return result.loss, time.perf_counter() - start
