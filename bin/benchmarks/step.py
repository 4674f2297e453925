"""What the training loop adds to the bare step, and what the timed choice of settings is worth.

The loop does what it does in a run: losses and metrics of three tasks, intensity augmentation, TensorBoard,
the table, checkpoints. A bare step is forward, backward and update on a batch that lies ready.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import cohorts
from benchmarks.measure import Measured, median_ratio, summary, take_turns
from medssl.config.schema import DataConfig, PretrainConfig
from medssl.progress import SilentProgress
from medssl.scans.record import PreparedScan
from medssl.training.allocator import keep_freed_memory
from medssl.training.bench import StepBench
from medssl.training.precision import choose_step_settings, list_candidates
from medssl.training.pretraining import train
from medssl.training.run_folder import RunFolder
from medssl.training.settings import StepSettings
from medssl.training.stream import CropStream
from medssl.workflows.setup import Network, build_network, open_stream

SIDE = 64
SCANS = 12
SPACING = (1.0, 1.0, 1.0)
DATA = DataConfig(spacing_mm=SPACING, crop_to_foreground=False, val_fraction=0.0)
THREE_TASKS = ("rotation", "inpainting", "position")

REPEATS = 4
LOOP_STEPS = 8
"""Steps of the loop, and bare ones, in turn; means of either, as what happens in some steps counts too."""

LOOP_REPEATS = 8
"""More than elsewhere: the two differ by less than a machine of several owners does from minute to minute."""

DEVICE_STEP_S = 0.02
DEVICE_STEPS = 100
DEVICE_BATCH = 4


def step(arguments: argparse.Namespace) -> Measured:
    """Measure on the CPU with all its cores."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "scans"
        cohorts.make_volumes(folder, count=SCANS, shape=(100, 80, 72))
        scans = cohorts.prepare(folder, Path(scratch) / "store", DATA)
        settings, measured = _choose(scans)
        measured |= measure_loop(make_network(scans, THREE_TASKS), scans, settings, Path(scratch) / "run")
        measured |= _tasks(scans, settings)
        return measured | _device(scans) | _allocator(folder, Path(scratch) / "store")


def make_network(
    scans: list[PreparedScan],
    tasks: tuple[str, ...],
    *,
    batch_size: int = 2,
    side: int = SIDE,
    encoder: str = "segresnet",
    size: str = "small",
    device: str = "cpu",
) -> Network:
    """Return a network whose epoch is as long as `measure_loop` needs."""
    config = PretrainConfig.model_validate(
        {
            "tasks": {name: {} for name in tasks},
            "crop_size": side,
            "data": DATA.model_dump(),
            "encoder": {"name": encoder, "size": size},
            "training": {
                "batch_size": batch_size,
                "epochs": 1,
                "crops_per_scan": -(-batch_size * LOOP_STEPS * LOOP_REPEATS // len(scans)),
            },
            "speed": {"device": device},
        }
    )
    return build_network(config, shapes=[scan.shape for scan in scans], spacing_mm=SPACING)


def first_batch(network: Network, scans: list[PreparedScan]) -> dict[str, Tensor]:
    """Return the first batch of a run."""
    stream = open_stream(scans, network=network, progress=SilentProgress())
    with closing(stream.batches()) as batches:
        return next(batches)


def make_bench(network: Network, batch: dict[str, Tensor]) -> StepBench:
    """Return what takes bare steps."""
    optimiser = network.config.optimiser
    return StepBench(network.model, batch, objective=network.mixture, optimiser=optimiser)


def _choose(scans: list[PreparedScan]) -> tuple[StepSettings, Measured]:
    """Compare what a run chooses at its start with every combination of precision, layout and threads."""
    network = make_network(scans, THREE_TASKS)
    batch = first_batch(network, scans)
    speed, cpu = network.config.speed, torch.device("cpu")
    began = time.perf_counter()
    chosen, trials = choose_step_settings(
        network.model,
        batch,
        objective=network.mixture,
        speed=speed,
        optimiser=network.config.optimiser,
        device=cpu,
        total_steps=1000,
    )
    measured: Measured = {"choosing took, s": time.perf_counter() - began, "chosen": chosen.describe()}
    bench, all_threads = make_bench(network, batch), torch.get_num_threads()

    def timed(settings: StepSettings, threads: int) -> Callable[[], float]:
        def measure() -> float:
            torch.set_num_threads(threads)
            try:
                bench(settings)  # kernels for another number of threads are made anew
                return bench(settings)[1]
            finally:
                torch.set_num_threads(all_threads)

        return measure

    hopeless = [trial for trial in trials if trial["reason"]]
    out = [(trial["precision"], trial["channels_last"]) for trial in hopeless]
    grid = {
        _named(settings, threads): timed(settings, threads)
        for threads in sorted({1, all_threads})
        for settings in list_candidates(speed, cpu)
        if (settings.precision, settings.channels_last) not in out
    }
    seconds = take_turns(grid, repeats=REPEATS)
    for name, values in seconds.items():
        measured[f"step, {name}, s"] = summary(values)
    best = min(seconds.values(), key=lambda values: summary(values)["median"])
    own = seconds[_named(chosen, all_threads)]
    measured["chosen / best of the grid"] = median_ratio(own, best)
    plain = seconds[_named(replace(chosen, precision="float32", channels_last=False), all_threads)]
    measured["plain float32 / chosen"] = median_ratio(plain, own)
    for trial in hopeless:
        measured[f"{trial['precision']}, channels last {trial['channels_last']}"] = trial["reason"]
    return chosen, measured


def _named(settings: StepSettings, threads: int) -> str:
    return f"{settings.describe()}, {threads} threads"


class _InterruptedStream:
    """Stops the clock of the loop now and then, to take bare steps."""

    def __init__(self, stream: CropStream, take_bare_step: Callable[[], float]) -> None:
        self.steps_per_epoch = stream.steps_per_epoch
        self.scan_ids = stream.scan_ids
        self.loop_s: list[float] = []
        self.bare_s: list[float] = []
        self._stream = stream
        self._take_bare_step = take_bare_step

    def batches(self, start_step: int = 0) -> Generator[dict[str, Tensor]]:
        with closing(self._stream.batches(start_step)) as batches:
            while True:
                self.bare_s.append(statistics.mean(self._take_bare_step() for _ in range(LOOP_STEPS)))
                began = time.perf_counter()
                for _ in range(LOOP_STEPS):
                    yield next(batches)
                self.loop_s.append((time.perf_counter() - began) / LOOP_STEPS)


def measure_loop(network: Network, scans: list[PreparedScan], settings: StepSettings, out: Path) -> Measured:
    """Train for an epoch in ``out``, and take bare steps in between."""
    bench = make_bench(network, first_batch(network, scans))
    bench(settings)
    crops = open_stream(scans, network=network, progress=SilentProgress())
    stream = _InterruptedStream(crops, lambda: bench(settings)[1])
    with RunFolder.open(out, resume=False) as run:
        train(
            network.model,
            mixture=network.mixture,
            train_stream=stream,
            val_batches=None,
            picture_samples=[],
            config=network.config,
            run=run,
            cues={},
            embedding_health=lambda embeddings: {},
            settings=settings,
            progress=SilentProgress(),
            resume=False,
            continue_command="",
        )
    bare = stream.bare_s[: len(stream.loop_s)]
    return {
        "step in the loop, s": summary(stream.loop_s),
        "bare step, s": summary(bare),
        "bare step / step in the loop": median_ratio(bare, stream.loop_s),
    }


def _tasks(scans: list[PreparedScan], settings: StepSettings) -> Measured:
    candidates: dict[str, Callable[[], float]] = {}
    for tasks in (("inpainting",), THREE_TASKS):
        network = make_network(scans, tasks)
        bench = make_bench(network, first_batch(network, scans))
        bench(settings)
        candidates[", ".join(tasks)] = lambda bench=bench: bench(settings)[1]
    alone, together = take_turns(candidates, repeats=REPEATS).values()
    return {"step of three tasks / inpainting alone": median_ratio(together, alone)}


def _device(scans: list[PreparedScan]) -> Measured:
    """Wait as one waits for a GPU, while two threads make the next crops."""
    network = make_network(scans, ("rotation", "inpainting"), batch_size=DEVICE_BATCH)
    speed = network.config.speed.model_copy(update={"loader_threads": 2})
    network = replace(network, config=network.config.model_copy(update={"speed": speed}))
    with closing(open_stream(scans, network=network, progress=SilentProgress()).batches()) as batches:

        def wait(*, takes_batches: bool) -> float:
            began = time.perf_counter()
            for _ in range(DEVICE_STEPS):
                if takes_batches:
                    next(batches)
                time.sleep(DEVICE_STEP_S)
            return time.perf_counter() - began

        candidates = {str(takes): lambda takes=takes: wait(takes_batches=takes) for takes in (False, True)}
        bare, loop = take_turns(candidates, repeats=REPEATS).values()
    return {"bare / loop, where a device takes 20 ms for 4 crops": median_ratio(bare, loop)}


def _allocator(folder: Path, store: Path) -> Measured:
    """Compare a step with freed memory kept and without: it cannot be undone, so each in its own process."""

    def run(name: str) -> float:
        command = [sys.executable, "-m", "benchmarks.step", name, str(folder), str(store)]
        place = Path(__file__).parents[1]
        return float(subprocess.run(command, check=True, capture_output=True, cwd=place).stdout)

    kept, returned = take_turns(
        {name: lambda name=name: run(name) for name in ("kept", "returned")}, repeats=REPEATS
    ).values()
    return {"step, freed memory returned / kept": median_ratio(returned, kept)}


def _child(name: str, folder: Path, store: Path) -> None:
    if name == "kept":
        keep_freed_memory()
    scans = cohorts.prepare(folder, store, DATA)
    network = make_network(scans, THREE_TASKS)
    bench, settings = make_bench(network, first_batch(network, scans)), StepSettings("cpu")
    bench(settings)
    print(statistics.median(bench(settings)[1] for _ in range(5)))


if __name__ == "__main__":
    _child(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
