"""Finding the fastest settings by timing a few real steps."""

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from medssl.config.schema import OptimiserConfig, SpeedConfig
from medssl.errors import MedsslError
from medssl.networks.model import Model
from medssl.training.bench import StepBench
from medssl.training.objective import Objective
from medssl.training.settings import StepSettings

REPEATS = 3
"""Timed steps a candidate, after one that warms up."""

BUDGET_S = 40.0
"""Time after which no further step is begun."""

COMPILE_BUDGET_S = 120.0
"""The same for a compiled network, most of it spent compiling."""

WORTH_COMPILING_S = 1800.0
"""Expected length of a run from which a minute of compiling, now and at each start, can pay."""

HOPELESS = 3.0
"""A candidate whose first step took this many times the fastest first step is not run again on a CPU."""

WORTHWHILE = 0.95
"""A less plain setting must take at most this share of a plainer one's time to be preferred."""


@dataclass
class Trial:
    """Timings of one candidate.

    Attributes:
        settings: The candidate.
        warm_up_s: Time of its first step, or None if it was never run.
        steps_s: Times of the later ones.
        reason: Why it is out, or empty.
    """

    settings: StepSettings
    warm_up_s: float | None = None
    steps_s: list[float] = field(default_factory=list)
    reason: str = ""

    @property
    def step_s(self) -> float:
        """Median time of a step; that of the first where time allowed no other; infinite when out."""
        if self.reason or self.warm_up_s is None:
            return math.inf
        return statistics.median(self.steps_s or [self.warm_up_s])

    def as_dict(self) -> dict[str, Any]:
        """Return the row for the run's record."""
        seconds = self.step_s if math.isfinite(self.step_s) else None
        reason = self.reason or ("" if seconds else "no time was left to try it")
        return {**self.settings.as_dict(), "step_s": seconds, "reason": reason}


def choose_step_settings(
    model: Model,
    batch: dict[str, Tensor],
    *,
    objective: Objective,
    speed: SpeedConfig,
    optimiser: OptimiserConfig,
    device: torch.device,
    total_steps: int,
) -> tuple[StepSettings, list[dict[str, Any]]]:
    """Return the fastest settings that ``speed`` leaves open, and what was timed.

    Candidates take turns, so that a machine that grows busier slows all of them. They run on a copy of the
    network, and the random state is put back: the run that follows is the same whatever was tried. What is
    set explicitly is taken as it is, and nothing is timed when nothing is open.

    Args:
        model: On any device; is not changed.
        batch: A real one, of one process.
        objective: What is learned.
        speed: Wishes. ``compile: auto`` is tried on a GPU only, with the fastest of the others, and only for
            a run so long that compiling can pay.
        optimiser: Accumulation and clipping, as in training.
        device: Where to train.
        total_steps: Steps of the whole run.

    Returns:
        The settings, and one row a candidate with ``step_s`` in seconds, or None and the ``reason``.

    Raises:
        ConfigError: If the batch cannot be divided into ``optimiser.accumulate`` parts.
    """
    candidates = list_candidates(speed, device)
    tries_compile = speed.compile == "auto" and device.type == "cuda"
    if len(candidates) == 1 and not tries_compile:
        return candidates[0], []
    deadline = time.perf_counter() + BUDGET_S
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        bench = StepBench(model, batch, objective=objective, optimiser=optimiser)
        trials = time_candidates(candidates, bench, deadline=deadline)
        best = fastest(trials)
        if tries_compile and WORTH_COMPILING_S < best.step_s * total_steps < math.inf:
            compiled = replace(best.settings, compile=True)
            trials += time_candidates([compiled], bench, deadline=time.perf_counter() + COMPILE_BUDGET_S)
    return fastest(trials).settings, [trial.as_dict() for trial in trials]


def time_step(
    model: Model,
    batch: dict[str, Tensor],
    *,
    objective: Objective,
    speed: SpeedConfig,
    optimiser: OptimiserConfig,
    device: torch.device,
) -> float:
    """Return the seconds of a step with the plainest of the settings that ``speed`` leaves open.

    Arguments as of `choose_step_settings`.
    """
    bench = StepBench(model, batch, objective=objective, optimiser=optimiser)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        (trial,) = time_candidates(list_candidates(speed, device)[:1], bench, deadline=math.inf)
    return trial.step_s


def list_candidates(speed: SpeedConfig, device: torch.device) -> list[StepSettings]:
    """Return the settings that ``speed`` allows on a device, plainest first, not compiled unless told."""
    precisions = ["float32", *_half(device)] if speed.precision == "auto" else [speed.precision]
    layouts = [False, True] if speed.channels_last == "auto" else [speed.channels_last]
    return [
        StepSettings(str(device), precision, layout, compile=speed.compile is True)
        for precision, layout in product(precisions, layouts)
    ]


def has_bfloat16_kernels() -> bool:
    """Return whether oneDNN has any for this CPU; without them a single step takes minutes."""
    is_supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return is_supported is not None and bool(is_supported())


def _half(device: torch.device) -> list[str]:
    """Return the 16-bit precision worth a try on a device, if there is one."""
    if device.type == "cuda":
        return ["bfloat16" if torch.cuda.is_bf16_supported() else "float16"]
    return ["bfloat16"] if has_bfloat16_kernels() else []


def time_candidates(
    candidates: Iterable[StepSettings],
    bench: Callable[[StepSettings], tuple[float, float]],
    *,
    deadline: float,
) -> list[Trial]:
    """Let each candidate take a step in turn, once to warm up and `REPEATS` times, until the deadline.

    Args:
        candidates: Settings to try.
        bench: Takes a step and returns its loss and its time; what it raises puts the candidate out.
        deadline: On the clock of ``time.perf_counter``; the first candidate runs once in any case.
    """
    trials = [Trial(settings) for settings in candidates]
    for _ in range(1 + REPEATS):
        for trial in trials:
            is_needed = trial is trials[0] and trial.warm_up_s is None
            if not trial.reason and (is_needed or time.perf_counter() < deadline):
                _time_once(trial, bench)
        _drop_hopeless(trials)
    return trials


def fastest(trials: list[Trial]) -> Trial:
    """Return the plainest trial that is nearly as fast as the fastest; the first if all are out."""
    best = min(trial.step_s for trial in trials)
    return next((trial for trial in trials if trial.step_s * WORTHWHILE <= best), trials[0])


def _drop_hopeless(trials: list[Trial]) -> None:
    """Put out what would only use up the time on a CPU: a type it has to emulate is ten times slower.

    On a GPU a first step also searches for kernels and says nothing about the next.
    """
    running = [
        trial for trial in trials if trial.warm_up_s and not trial.reason and not trial.settings.is_cuda
    ]
    fastest_s = min((trial.warm_up_s or 0.0 for trial in running), default=0.0)
    for trial in running:
        ratio = (trial.warm_up_s or 0.0) / fastest_s
        if ratio > HOPELESS:
            trial.reason = f"its first step took {ratio:.0f} times as long as the fastest"


def _time_once(trial: Trial, bench: Callable[[StepSettings], tuple[float, float]]) -> None:
    try:
        loss, seconds = bench(trial.settings)
    except MedsslError:
        raise
    except Exception as error:  # any kernel may lack any combination: that is what a trial is for
        trial.reason = (str(error).splitlines() or [type(error).__name__])[0]
        return
    if not math.isfinite(loss):
        trial.reason = f"its loss was {loss}"
    elif trial.warm_up_s is None:
        trial.warm_up_s = seconds
    else:
        trial.steps_s.append(seconds)
