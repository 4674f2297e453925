"""Sliding windows over a large scan, beside MONAI's inferer on the whole of it.

The network is next to nothing, so that what is compared is everything round it. Each runs in a process of its
own, whose peak memory is told. Freed memory is kept as `medssl predict` keeps it, unlike MONAI.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import Measured, median_ratio, summary, take_turns

SHAPE = (512, 512, 300)
CROP = (96, 96, 96)
CLASSES = 4
REPEATS = 3


def inference(arguments: argparse.Namespace) -> Measured:
    """Run both in turn."""
    peaks: dict[str, list[float]] = {"medssl": [], "MONAI": []}

    def run(name: str) -> float:
        command = [sys.executable, "-m", "benchmarks.inference", name]
        place = Path(__file__).parents[1]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, cwd=place).stdout)
        peaks[name].append(told["peak_mb"])
        return float(told["seconds"])

    seconds = take_turns({name: lambda name=name: run(name) for name in peaks}, repeats=REPEATS)
    measured: Measured = {f"{name}, s": summary(values) for name, values in seconds.items()}
    measured |= {f"{name}, peak memory, MB": summary(values) for name, values in peaks.items()}
    measured["MONAI / medssl"] = median_ratio(seconds["MONAI"], seconds["medssl"])
    return measured


def _child(name: str) -> None:
    import torch
    from monai.inferers import SlidingWindowInferer

    from medssl.finetune.windows import SlabPlan, predict_slabs
    from medssl.training.allocator import keep_freed_memory
    from medssl.training.settings import StepSettings

    torch.manual_seed(0)
    torch.set_num_threads(1)
    volume = torch.rand(1, *SHAPE)
    network = torch.nn.Conv3d(1, CLASSES, 1)
    labels = torch.empty(SHAPE, dtype=torch.uint8)
    began = time.perf_counter()
    if name == "medssl":
        keep_freed_memory()
        plan = SlabPlan.make(SHAPE, crop_size=CROP)

        def read(start: int, stop: int) -> torch.Tensor:
            return volume.narrow(1 + plan.axis, start, stop - start)

        start = 0
        for slab in predict_slabs(network, read, plan, settings=StepSettings("cpu")):
            planes = slab.shape[1 + plan.axis]
            labels.narrow(plan.axis, start, planes).copy_(slab.argmax(dim=0))
            start += planes
    else:
        inferer = SlidingWindowInferer(CROP, sw_batch_size=2, overlap=0.5, mode="gaussian")
        with torch.inference_mode():
            labels.copy_(
                inferer(volume[None], lambda window: network(window).softmax(dim=1))[0].argmax(dim=0)
            )
    seconds = time.perf_counter() - began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb}))


if __name__ == "__main__":
    _child(sys.argv[1])
