"""What every export leaves: a file, and words about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medssl.atomic import atomic_path


@dataclass(frozen=True)
class Exported:
    """What was written, and what to do with it.

    Attributes:
        told: What the other side will find, one sentence each.
        snippet: To paste there.
    """

    told: tuple[str, ...]
    snippet: str


def save_torch(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values with ``torch.save``, so that ``weights_only=True`` loads them.

    Args:
        path: The file; its folder must exist.
        content: Tensors, strings, numbers, None, and lists, tuples and dictionaries of them.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(dict(content), file)


def quoted(path: Path) -> str:
    """Return a path as Python writes it."""
    return repr(str(path.absolute()))
