"""Trains the stand-ins under torchrun, whole and then stopped: ``two_processes.py CONFTEST FOLDER JSON``."""

import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch

from medssl.errors import InterruptedRunError
from medssl.progress import SilentProgress
from medssl.training.distributed import is_first, process_group, rank, world_size


class StopsOneProcess(SilentProgress):
    """Sends this process SIGTERM in the second step, as if one machine of several were taken away."""

    @contextmanager
    def track(self, description: str, *, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
        def advance(steps: int = 1, *, detail: str = "") -> None:
            nonlocal done
            done += steps
            if done == 2:
                os.kill(os.getpid(), signal.SIGTERM)

        yield advance


def load_standins(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("standins", path)
    assert spec is not None
    assert spec.loader is not None
    standins = importlib.util.module_from_spec(spec)
    sys.modules["standins"] = standins
    spec.loader.exec_module(standins)
    return standins


def main(conftest: str, folder: Path, sections: dict) -> None:
    torch.set_num_threads(1)
    standins = load_standins(conftest)
    with process_group(torch.device("cpu")):
        whole = standins.TinyRun(folder / "whole")
        whole(
            standins.make_config(**sections),
            model=standins.make_model(dropout=0.0),
            rank=rank(),
            world_size=world_size(),
        )
        if is_first():
            torch.save(whole.weights(), folder / "weights.pt")
        try:
            standins.TinyRun(folder / "stopped")(
                progress=StopsOneProcess(), rank=rank(), world_size=world_size()
            )
        except InterruptedRunError as error:
            (folder / f"stopped{rank()}.txt").write_text(str(error))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
