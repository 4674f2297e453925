"""From a batch to predictions in float32."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medssl.training.settings import StepSettings


def predict(model: nn.Module, batch: dict[str, Tensor], settings: StepSettings) -> dict[str, Any]:
    """Return predictions by task name in float32, whatever precision the network runs in."""
    with settings.autocast():
        predictions = model(batch)
    result: dict[str, Any] = map_tensors(_as_float32, predictions)
    return result


def predict_sample(model: nn.Module, batch: dict[str, Tensor], settings: StepSettings) -> dict[str, Any]:
    """Return the predictions for a batch in evaluation mode, on the CPU; the network's mode is restored."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        predictions = predict(model, settings.move(batch), settings)
    model.train(was_training)
    result: dict[str, Any] = map_tensors(Tensor.cpu, predictions)
    return result


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return ``value`` with ``function`` applied to each tensor in its mappings, tuples and lists."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(function, entry) for key, entry in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(function, entry) for entry in value))
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(function, entry) for entry in value)
    return value


def _as_float32(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
