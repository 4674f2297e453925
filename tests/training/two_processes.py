"""Trains the stand-ins under torchrun: ``two_processes.py CONFTEST RUN CONFIG_JSON [stop]``."""

import importlib.util
import json
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import torch

spec = importlib.util.spec_from_file_location("standins", sys.argv[1])
assert spec is not None
assert spec.loader is not None
standins = importlib.util.module_from_spec(spec)
sys.modules["standins"] = standins
spec.loader.exec_module(standins)

from medssl.progress import SilentProgress  # noqa: E402
from medssl.training.distributed import process_group, rank, world_size  # noqa: E402


class StopsOneProcess(SilentProgress):
    """Sends this process SIGTERM in the second step, as if one machine of several were taken away."""

    @contextmanager
    def track(self, description, *, total, done=0):
        def advance(steps=1, *, detail=""):
            nonlocal done
            done += steps
            if done == 2 and sys.argv[-1] == "stop":
                os.kill(os.getpid(), signal.SIGTERM)

        yield advance


if __name__ == "__main__":
    torch.set_num_threads(1)
    with process_group(torch.device("cpu")):
        run = standins.TinyRun(Path(sys.argv[2]))
        run(
            standins.make_config(**json.loads(sys.argv[3])),
            model=standins.make_model(dropout=0.0),
            rank=rank(),
            world_size=world_size(),
            progress=StopsOneProcess(),
        )
        if rank() == 0:
            torch.save(run.weights(), run.folder / "weights.pt")
