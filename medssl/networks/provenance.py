"""What a weights file says about itself, read without torch."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from medssl.errors import CheckpointError

METADATA_KEY = "medssl"


def read_provenance(path: Path) -> dict[str, Any]:
    """Return what `medssl.networks.weights.save_encoder` wrote beside the weights, ``architecture`` included.

    Raises:
        CheckpointError: The file is missing, damaged, no safetensors file, or was not written by medssl.
    """
    with open_safetensors(path, framework="numpy") as file:
        metadata = file.metadata() or {}
    try:
        provenance: dict[str, Any] = json.loads(metadata[METADATA_KEY])
    except (KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path} holds weights without medssl's description of their network; "
            "take the encoder.safetensors of a run folder."
        ) from error
    return provenance


def flat_rows(provenance: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield each value of nested dictionaries as text, named by its way down such as ``data.modality``."""
    for name, value in provenance.items():
        if isinstance(value, Mapping) and value:
            yield from flat_rows(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", str(value)


@contextmanager
def open_safetensors(path: Path, *, framework: str) -> Iterator[Any]:
    """Open a safetensors file, which cannot run code, and refuse every other kind.

    Args:
        path: The file.
        framework: What its tensors are read as: "pt" or "numpy".

    Raises:
        CheckpointError: The file is missing, damaged or no safetensors file.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no weights file {path}.")
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}), and no other kind of weights is loaded "
            "because pickled ones (.pt, .pth, .bin) can run code."
        ) from error
