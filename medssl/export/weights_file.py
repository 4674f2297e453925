"""Files that the tools of others load, written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from medssl.atomic import atomic_path


def save_torch(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values with ``torch.save``, so that ``weights_only=True`` loads them.

    Args:
        path: The file; its folder must exist.
        content: Tensors, strings, numbers, None, and lists, tuples and dictionaries of them.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(dict(content), file)
