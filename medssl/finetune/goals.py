"""The goals by name."""

from collections.abc import Mapping
from typing import Any

from medssl.errors import CheckpointError
from medssl.finetune.classification import Classification
from medssl.finetune.goal import Goal
from medssl.finetune.segmentation import Segmentation

GOALS: dict[str, type[Goal]] = {goal.name: goal for goal in (Segmentation, Classification)}


def rebuild_goal(description: Mapping[str, Any]) -> Goal:
    """Return the goal that `Goal.describe` described.

    Raises:
        CheckpointError: The description is not one of this version's goals.
    """
    settings = dict(description)
    try:
        return GOALS[settings.pop("name")].from_description(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"No goal of this version fits the description {dict(description)} ({error}); "
            "use the version of medssl that wrote the weights."
        ) from error
