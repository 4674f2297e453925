"""The learning rate as a pure function of the step."""

import math

from torch.optim import Optimizer


def learning_rate_factor(step: int, *, total_steps: int, warmup_fraction: float) -> float:
    """Return the share of the peak learning rate at a step: linear warm-up, then half a cosine to zero.

    A pure function rather than a torch scheduler: there is no state to save, and a run that is resumed with
    more epochs goes on along the longer curve from its very next step.

    Args:
        step: Optimiser steps done so far.
        total_steps: Optimiser steps of the whole run.
        warmup_fraction: Share of them in which the rate rises.

    Returns:
        A factor in (0, 1] for every step below ``total_steps``.
    """
    warmup_steps = round(warmup_fraction * total_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps)))


def apply_schedule(optimiser: Optimizer, learning_rate: float, *, step: int) -> None:
    """Give each parameter group its learning rate, and freeze those whose time has not come.

    A frozen parameter gets no gradient: it neither moves nor counts in the gradient's norm.

    Args:
        optimiser: Its groups may hold ``rate``, a factor, and ``thaw_step``, the first step that trains them.
        learning_rate: Of the run at this step.
        step: Optimiser steps done so far.
    """
    for group in optimiser.param_groups:
        group["lr"] = learning_rate * group.get("rate", 1.0)
        is_thawed = step >= group.get("thaw_step", 0)
        for parameter in group["params"]:
            parameter.requires_grad_(is_thawed)
