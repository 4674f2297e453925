"""Checkpoints: written whole or not at all, read without running code, refused when they do not fit."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from medssl.atomic import atomic_path
from medssl.config.schema import RunConfig
from medssl.errors import CheckpointError, ConfigError
from medssl.networks.foreign import UNREADABLE
from medssl.networks.model import Model
from medssl.training.state import TrainingState

WATCHING_FIELDS = (
    "speed.",
    "training.checkpoint_every_s",
    "training.log_every_steps",
    "training.pictures_every_epochs",
    "training.on_nan",
    "data.prepare_workers",
)
"""Config fields that say how fast a run is and how closely it is watched."""

FREE_FIELDS = (*WATCHING_FIELDS, "training.epochs", "training.early_stop_epochs")
"""Config fields that may change when a run is resumed: those, and how long it is."""


def save_checkpoint(
    path: Path, contents: Mapping[str, Any], *, config: RunConfig, architecture: Mapping[str, Any]
) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: Usually ``RUN/checkpoints/last.pt``.
        contents: `TrainingState.state_dict`.
        config: The run's settings, kept to refuse a resume with others.
        architecture: The encoder's.
    """
    payload = {**contents, "config": config.model_dump(mode="json"), "architecture": dict(architecture)}
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save(payload, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch says only that a position was unexpected
            raise error.__context__ from None
        raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds, on the CPU.

    Raises:
        CheckpointError: If the file is truncated, is no checkpoint, or holds anything but tensors and plain
            values; code in it is never run.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of foreign pickles before it refuses them
            payload = torch.load(path, map_location="cpu", weights_only=True)
        if {"model", "architecture", "counters"} <= payload.keys():
            return dict(payload)
    except (*UNREADABLE, AttributeError) as error:
        raise CheckpointError(_unreadable_message(path)) from error
    raise CheckpointError(_unreadable_message(path))


def resume_state(path: Path, state: TrainingState, *, config: RunConfig) -> None:
    """Put a training state to where a checkpoint left it.

    Args:
        path: The checkpoint.
        state: A new state of the same network, optimiser and tasks.
        config: The settings to go on with.

    Raises:
        CheckpointError: If the file cannot be read or belongs to another network.
        ConfigError: If a setting differs that cannot change within a run; the message names it.
    """
    payload = read_checkpoint(path)
    check_same_run(type(config).model_validate(payload["config"]), config)
    _check_architecture(path, payload["architecture"], state.model)
    try:
        state.load_state_dict(payload)
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} does not fit this run's network and tasks: {_first_line(error)}"
        ) from error


def load_model(path: Path, model: Model) -> dict[str, Any]:
    """Load the weights to keep, the moving average if the run has one, into a network.

    Args:
        path: ``best.pt`` or ``last.pt``.
        model: The network the checkpoint was made with.

    Returns:
        The checkpoint's counters, see `medssl.training.state.Counters`.

    Raises:
        CheckpointError: If the file cannot be read or belongs to another network.
    """
    payload = read_checkpoint(path)
    _check_architecture(path, payload["architecture"], model)
    try:
        model.load_state_dict(weights_to_keep(payload))
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not fit this run's network and tasks: {_first_line(error)}"
        ) from error
    return dict(payload["counters"])


def weights_to_keep(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's moving average by the network's own names, or its weights where there is none."""
    prefix = "module."
    averaged = payload["ema"] or {}
    kept = {name.removeprefix(prefix): value for name, value in averaged.items() if name.startswith(prefix)}
    return kept or dict(payload["model"])


def check_same_run(before: RunConfig, now: RunConfig, *, free: tuple[str, ...] = FREE_FIELDS) -> None:
    """Refuse settings that cannot change within a run.

    Args:
        before: Settings of the run so far.
        now: Settings to go on with.
        free: What the names of fields that may change begin with.

    Raises:
        ConfigError: The message names what differs.
    """
    saved, current = before.model_dump(mode="json"), now.model_dump(mode="json")
    changes = _changes(saved, current, ignoring=free)
    if changes:
        raise ConfigError(
            f"This run cannot go on with other settings ({changes}): "
            "resume it with its own, or start a new run."
        )


def _check_architecture(path: Path, saved: Mapping[str, Any], model: Model) -> None:
    if dict(saved) != dict(model.encoder.architecture):
        raise CheckpointError(
            f"{path} holds another network ({_changes(saved, model.encoder.architecture)}): "
            "resume with the run's own config, or start a new run."
        )


def _changes(saved: Mapping[str, Any], current: Mapping[str, Any], *, ignoring: tuple[str, ...] = ()) -> str:
    before, now = dict(_flatten(saved)), dict(_flatten(current))
    names = sorted(name for name in before.keys() | now.keys() if not name.startswith(ignoring))
    return ", ".join(
        f"{name} was {before.get(name)} and is {now.get(name)}"
        for name in names
        if before.get(name) != now.get(name)
    )


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _unreadable_message(path: Path) -> str:
    return (
        f"{path} is missing, damaged or no medssl checkpoint: copy {path.with_name('best.pt')} over it to go "
        "on from the best epoch, or start a new run."
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)] if lines else type(error).__name__
