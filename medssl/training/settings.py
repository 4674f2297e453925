"""How a step is computed on this machine, apart from what it computes."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medssl.config.schema import SpeedConfig

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class StepSettings:
    """Device, precision and memory layout of a step.

    Attributes:
        device: "cpu", "cuda" or "cuda:N".
        precision: A key of `PRECISIONS`; below float32 the network runs under autocast.
        channels_last: True for the memory format ``channels_last_3d``.
        compile: True to pass the network through ``torch.compile``.
    """

    device: str
    precision: str = "float32"
    channels_last: bool = False
    compile: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a record that `StepSettings(**record)` reads back."""
        return asdict(self)

    def describe(self) -> str:
        """Return the settings in a few words."""
        layout = "channels last" if self.channels_last else "contiguous"
        return f"{self.device}, {self.precision}, {layout}{', compiled' if self.compile else ''}"

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format of five-dimensional tensors."""
        return torch.channels_last_3d if self.channels_last else torch.contiguous_format

    @property
    def is_cuda(self) -> bool:
        """True on a GPU."""
        return torch.device(self.device).type == "cuda"

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context a forward pass runs in."""
        return torch.autocast(
            torch.device(self.device).type,
            dtype=PRECISIONS[self.precision],
            enabled=self.precision != "float32",
        )

    def scaler(self) -> torch.amp.GradScaler:
        """Return a gradient scaler that does something for float16 only."""
        return torch.amp.GradScaler(torch.device(self.device).type, enabled=self.precision == "float16")

    def place(self, model: nn.Module) -> nn.Module:
        """Move a network to the device, lay out its weights and compile it if so set; return it."""
        model.to(self.device)
        for parameter in model.parameters():
            if parameter.dim() == 5:
                parameter.data = parameter.data.contiguous(memory_format=self.memory_format)
        if self.is_cuda:
            torch.backends.cudnn.benchmark = True
        if self.compile:
            model.compile(dynamic=False)
        return model

    def move(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the batch on the device, its volumes in the memory format."""
        return {key: self._moved(value) for key, value in batch.items()}

    def _moved(self, value: Tensor) -> Tensor:
        value = value.to(self.device, non_blocking=True)
        return value.contiguous(memory_format=self.memory_format) if value.dim() == 5 else value


def recorded_settings(
    record: Mapping[str, Any] | None, *, speed: SpeedConfig, device: torch.device
) -> StepSettings | None:
    """Return the settings a run was begun with, so that it goes on with the same arithmetic.

    Args:
        record: ``step_settings`` of the run's ``run.json``, or None.
        speed: What is wished for now.
        device: Where to train now.

    Returns:
        The recorded settings on ``device``, or None where there are none, where they were made for the other
        kind of device, or where something else is wished for explicitly.
    """
    if record is None or torch.device(record["device"]).type != device.type:
        return None
    settings = StepSettings(**{**record, "device": str(device)})
    wishes = (speed.precision, speed.channels_last, speed.compile)
    recorded = (settings.precision, settings.channels_last, settings.compile)
    fits = all(wish in ("auto", value) for wish, value in zip(wishes, recorded, strict=True))
    return settings if fits else None
