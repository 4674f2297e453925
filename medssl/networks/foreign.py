"""Weights that other tools wrote, by the names that our encoders have."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from medssl.errors import CheckpointError
from medssl.networks.encoder import Encoder
from medssl.networks.weights import LoadReport, load_weights, read_weights

NNUNET_KEY = "network_weights"
STATE_KEYS = (NNUNET_KEY, "state_dict", "model_state_dict", "model")
"""Under which of these a checkpoint holds its tensors: nnU-Net and nnssl; MONAI and MedicalNet; others."""

INNER = "swinViT."
"""What SwinUNETR calls the transformer that MONAI's self-supervised weights are for."""

RENAMED = {".mlp.fc1.": ".mlp.linear1.", ".mlp.fc2.": ".mlp.linear2."}
"""Names in MONAI's self-supervised SwinUNETR weights, and in its network."""

UNREADABLE = (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError, TypeError)
"""What loading raises for files that are truncated, hold something else, or would run code."""


def load_foreign(encoder: Encoder, path: Path, *, allow_partial: bool = False) -> LoadReport:
    """Load an encoder from a file of nnssl, nnU-Net, MONAI, MedicalNet, or of medssl itself.

    Names are matched as they are but for one prefix, such as ``module.`` or ``encoder.``, whichever lets the
    most parameters match. Kernels of nnU-Net, whose axes are Z, Y, X, are turned; a first convolution for
    another number of channels is fitted, see `medssl.networks.weights.load_weights`.

    Args:
        encoder: Changed in place, and not at all when the load is refused.
        path: A ``.safetensors``, or what ``torch.load(weights_only=True)`` reads.
        allow_partial: Load even when less than 90 % of the parameters fit.

    Raises:
        CheckpointError: If the file cannot be read, or too little of it fits.
    """
    state = match_names(_read(path), encoder)
    try:
        return load_weights(encoder, state, allow_partial=allow_partial)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def match_names(state: Mapping[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """Return tensors by the names of an encoder's own where one prefix makes them the same.

    Args:
        state: By the names that their writer gave them.
        encoder: Whose names are wanted.

    Returns:
        The same tensors; those that belong nowhere keep their names.
    """
    renamed = {_rename(name): tensor for name, tensor in state.items()}
    own = {name: tensor.numel() for name, tensor in encoder.state_dict().items()}
    names = {**{name.removeprefix(INNER): name for name in own}, **{name: name for name in own}}
    prefixes = {"", *(name[: -len(end)] for name in renamed for end in names if name.endswith(f".{end}"))}

    def matched(prefix: str) -> dict[str, str]:
        given = (name for name in renamed if name.startswith(prefix))
        return {name: names[end] for name in given if (end := name.removeprefix(prefix)) in names}

    best = max(sorted(prefixes), key=lambda prefix: sum(own[name] for name in set(matched(prefix).values())))
    to_own = matched(best)
    return {to_own.get(name, name): tensor for name, tensor in renamed.items()}


def turn_kernel(tensor: Tensor) -> Tensor:
    """Return a kernel with its axes X, Y, Z turned to Z, Y, X or back, or any other tensor as it is."""
    return tensor.permute(0, 1, 4, 3, 2).contiguous() if tensor.ndim == 5 else tensor


def _rename(name: str) -> str:
    for theirs, ours in RENAMED.items():
        name = name.replace(theirs, ours)
    return name


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_weights(path)
    if not path.is_file():
        raise CheckpointError(f"There is no weights file {path}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of foreign pickles before it refuses them
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        RuntimeError,
        pickle.UnpicklingError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        raise CheckpointError(
            f"{path} cannot be read as weights: it is damaged, or holds more than tensors and plain values, "
            "which could run code."
        ) from error
    content = content if isinstance(content, Mapping) else {}
    key = next((key for key in STATE_KEYS if isinstance(content.get(key), Mapping)), None)
    state = content[key] if key else content
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors by name.")
    return {name: turn_kernel(tensor) for name, tensor in tensors.items()} if key == NNUNET_KEY else tensors
