"""Weights out of an encoder with their provenance, and into a network with a report of what fitted."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from medssl.atomic import atomic_path
from medssl.errors import CheckpointError
from medssl.networks.build import rebuild_encoder
from medssl.networks.encoder import Encoder
from medssl.networks.provenance import METADATA_KEY, open_safetensors, read_provenance

ENOUGH = 0.9
"""Share of a network's parameters that must fit; with fewer it is not the network the weights came from."""

NAMES_SHOWN = 3

POSITION_TABLE = "relative_position_bias_table"
POSITION_INDEX = "relative_position_index"
"""What MONAI's SwinUNETR calls its biases by relative position, and which of them is each pair's."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What happened to each tensor of a load, by name.

    A tensor whose shape differs is both missing (the network's) and unused (the file's).

    Attributes:
        matched: Loaded as they are.
        adapted: Loaded after fitting: the first convolution to another number of input channels, attention
            biases to another size of window.
        missing: The network's tensors that kept their values.
        unused: Given tensors that the network has no place for.
        share: Share of the network's parameters that were loaded, 0 to 1.
    """

    matched: tuple[str, ...]
    adapted: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    share: float

    def summary(self) -> str:
        """Return one sentence with every count, and names where something did not fit."""
        percent = math.floor(1000 * self.share) / 10  # rounded down, so that 100 means all of them
        return (
            f"{percent} % of the parameters loaded: {len(self.matched)} tensors matched, "
            f"{_counted(self.adapted, 'adapted')}, {_counted(self.missing, 'missing')}, "
            f"{_counted(self.unused, 'unused')}."
        )


def save_encoder(path: Path, encoder: Encoder, *, provenance: Mapping[str, Any]) -> None:
    """Write an encoder as safetensors, whole or not at all.

    The residual U-Net's state dict names many tensors twice. Both names are written, each with its own copy,
    because that is what nnU-Net reads.

    Args:
        path: The file; its folder must exist.
        encoder: What to write; ``encoder.architecture`` goes into the provenance.
        provenance: What JSON can hold, such as spacing, intensity recipe, crop size, tasks and versions.
    """
    save_weights(path, encoder, provenance={**provenance, "architecture": encoder.architecture})


def save_weights(path: Path, module: nn.Module, *, provenance: Mapping[str, Any]) -> None:
    """Write any network as safetensors, whole or not at all, with what `read_provenance` is to return."""
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
    # Python writes it: an error of its own tells when the disk is full.
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={METADATA_KEY: json.dumps(provenance)}))


def load_encoder(path: Path) -> tuple[Encoder, dict[str, Any]]:
    """Return the encoder that `save_encoder` wrote, with its weights, and the provenance.

    Raises:
        CheckpointError: The file is damaged, of another kind, or does not hold what its description says.
    """
    provenance = read_provenance(path)
    encoder = rebuild_encoder(provenance.get("architecture", {}))
    report = load_weights(encoder, read_weights(path), allow_partial=True)
    if report.adapted or report.missing or report.unused:
        raise CheckpointError(f"{path} does not hold the network it describes: {report.summary()}")
    return encoder, provenance


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return every tensor of a safetensors file by name.

    Raises:
        CheckpointError: The file is missing, damaged or no safetensors file.
    """
    with open_safetensors(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def load_weights(
    module: nn.Module, state: Mapping[str, Tensor], *, allow_partial: bool = False
) -> LoadReport:
    """Copy tensors into a network by name and shape, and tell what fitted.

    The first convolution is fitted to another number of input channels: its kernels are summed over the
    given channels and spread evenly over the network's, so that an image repeated in every channel gives
    the same activations as before.

    A Swin transformer's biases by relative position are interpolated to the network's own size of window
    (trilinearly; Swin Transformer, Liu et al., ICCV 2021, section 3.2, does so bicubically in 2D). Which of
    them is each pair's stays as it is, and is not counted.

    Args:
        module: The network; changed in place, and not at all when the load is refused.
        state: Tensors by the names of ``module.state_dict()``.
        allow_partial: Load even when less than 90 % of the parameters fit.

    Raises:
        CheckpointError: Less than 90 % of the parameters fit and ``allow_partial`` is False.
    """
    report = _compare(module, state)
    if report.share < ENOUGH and not allow_partial:
        raise CheckpointError(
            f"These weights do not fit the network: {report.summary()} Check that both have the same name "
            "and size, or allow a partial load."
        )
    own = module.state_dict()
    for name in report.matched:
        own[name].copy_(state[name])
    for name in report.adapted:
        is_table = name.endswith(POSITION_TABLE)
        fitted = _fit_table(state[name], own[name]) if is_table else _fit_channels(state[name], own[name])
        own[name].copy_(fitted)
    return report


def _compare(module: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    own = module.state_dict(keep_vars=True)
    given = {name: tensor for name, tensor in state.items() if name in own}
    stem = next((id(tensor) for tensor in own.values() if tensor.ndim == 5), None)
    matched = [name for name, tensor in given.items() if tensor.shape == own[name].shape]
    adapted = [
        name
        for name, tensor in given.items()
        if name not in matched
        and (
            (id(own[name]) == stem and _differ_in_channels(tensor, own[name]))
            or (name.endswith(POSITION_TABLE) and _differ_in_window(tensor, own[name]))
        )
    ]
    # It follows from the window's size, so the network's own is right as it is.
    kept = [name.replace(POSITION_TABLE, POSITION_INDEX) for name in adapted if name.endswith(POSITION_TABLE)]
    # Two names of the residual U-Net can stand for one tensor, which is there as soon as one of them is.
    loaded = {id(own[name]) for name in (*matched, *adapted)}
    sizes = {id(parameter): parameter.numel() for parameter in module.parameters()}
    return LoadReport(
        matched=tuple(matched),
        adapted=tuple(adapted),
        missing=tuple(name for name, tensor in own.items() if id(tensor) not in loaded and name not in kept),
        unused=tuple(name for name in state if name not in {*matched, *adapted, *kept}),
        share=sum(sizes[key] for key in loaded & sizes.keys()) / sum(sizes.values()),
    )


def _differ_in_channels(given: Tensor, own: Tensor) -> bool:
    return given.ndim == own.ndim and (given.shape[0], *given.shape[2:]) == (own.shape[0], *own.shape[2:])


def _fit_channels(weight: Tensor, own: Tensor) -> Tensor:
    channels = own.shape[1]
    return weight.sum(dim=1, keepdim=True).expand(-1, channels, -1, -1, -1) / channels


def _differ_in_window(given: Tensor, own: Tensor) -> bool:
    is_table = given.ndim == own.ndim == 2 and given.shape[1] == own.shape[1]
    return is_table and _side(given) ** 3 == len(given) and _side(own) ** 3 == len(own)


def _fit_table(table: Tensor, own: Tensor) -> Tensor:
    """Return ``(side**3, heads)`` for the offsets of another window; the largest of both fall together."""
    offsets = table.float().T.reshape(1, -1, *[_side(table)] * 3)  # (1, heads, dX, dY, dZ)
    resized = F.interpolate(offsets, size=[_side(own)] * 3, mode="trilinear", align_corners=True)
    return resized.flatten(2)[0].T


def _side(table: Tensor) -> int:
    """Return how many offsets there are along each axis of a cubic window, 2 * window - 1."""
    return round(len(table) ** (1 / 3))


def _counted(names: Iterable[str], word: str) -> str:
    listed = list(names)
    shown = ", ".join(listed[:NAMES_SHOWN]) + (", ..." if len(listed) > NAMES_SHOWN else "")
    return f"{len(listed)} {word} ({shown})" if listed else f"0 {word}"
