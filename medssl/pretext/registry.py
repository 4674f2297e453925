"""Finds the pretext tasks: every module of this package that defines one adds it by existing."""

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from medssl import pretext
from medssl.config.load import validate_section
from medssl.errors import ConfigError
from medssl.pretext.task import PretextTask, TaskContext


def task_names() -> list[str]:
    """Return the names of all tasks, sorted."""
    return sorted(_task_classes())


def build_tasks(tasks: Mapping[str, Mapping[str, Any]], context: TaskContext) -> list[PretextTask]:
    """Build the tasks of a config in the order they are given.

    Args:
        tasks: Settings by task name; an empty mapping means the defaults.
        context: What the tasks may know of the data.

    Returns:
        At least one task, of which at least one has a weight above 0.

    Raises:
        ConfigError: No task, an unknown name, a setting that does not fit, or no task that would train.
    """
    built = [_build_task(name, settings, context) for name, settings in tasks.items()]
    if not any(task.settings.weight > 0 for task in built):
        raise ConfigError(
            f"tasks needs at least one task with a weight above 0; there are {', '.join(task_names())}."
        )
    return built


def _build_task(name: str, settings: Mapping[str, Any], context: TaskContext) -> PretextTask:
    known = _task_classes()
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(task_names())}."
        raise ConfigError(f"tasks.{name} is no pretext task; {hint}")
    task_class = known[name]
    return task_class(validate_section(task_class.Settings, settings, where=f"tasks.{name}"), context)


@cache
def _task_classes() -> dict[str, type[PretextTask]]:
    modules = [
        importlib.import_module(f"{pretext.__name__}.{module.name}")
        for module in pkgutil.iter_modules(pretext.__path__)
    ]
    return {
        member.name: member
        for module in modules
        for member in vars(module).values()
        if isinstance(member, type) and issubclass(member, PretextTask) and "name" in vars(member)
    }
