"""Importing torch and MONAI, which takes seconds: commands do it when called, not for --help."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_imports() -> Iterator[None]:
    """Leave garbage lying while modules are imported: to look for it takes a seventh of that time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
