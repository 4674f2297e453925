"""The step on a GPU, beside a plain PyTorch loop on the same network and crops of the same size.

The plain loop is in the style of MONAI's pretraining script for SwinUNETR: transforms on the CPU in worker
processes, autocast to float16 with a gradient scaler.
"""

import argparse
import tempfile
import time
from itertools import product
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import cohorts
from benchmarks.measure import Measured, summary
from benchmarks.step import DATA, LOOP_STEPS, REPEATS, first_batch, make_bench, make_network, measure_loop
from benchmarks.streams import monai_stream
from medssl.scans.record import PreparedScan
from medssl.training.precision import choose_step_settings
from medssl.workflows.setup import Network

DEVICE = "cuda"
ENCODERS = {"swin_unetr": "base", "residual_unet": "base"}
SIDES = (96, 128)
BATCH = 2
"""Crops, as many as the plain loop draws of a volume."""
TASKS = ("inpainting",)
SCANS = 8
SHAPE = (256, 256, 256)
WORKERS = 8

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Of dense bfloat16 products, as the vendor states them."""


def gpu(arguments: argparse.Namespace) -> Measured:
    """Measure every encoder at every crop size."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise SystemExit("There is no GPU here.")
    measured: Measured = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "scans"
        files = [str(path) for path in cohorts.make_volumes(folder, count=SCANS, shape=SHAPE)]
        scans = cohorts.prepare(folder, Path(scratch) / "store", DATA)
        for (encoder, size), side in product(ENCODERS.items(), SIDES):
            name = f"{encoder} {size}, {side}^3"

            def build(encoder: str = encoder, size: str = size, side: int = side) -> Network:
                return make_network(
                    scans, TASKS, batch_size=BATCH, side=side, encoder=encoder, size=size, device=DEVICE
                )

            own = _ours(build(), scans, Path(scratch) / name.replace(" ", "_"))
            plain_s = _plain_loop(build(), files, Path(scratch) / "monai", side=side)
            measured |= {f"{name}: {what}": value for what, value in own.items()}
            measured[f"{name}: plain loop, s a step"] = summary(plain_s)
            loop_s = own["step in the loop, s"]["median"]
            measured[f"{name}: crops/s"] = BATCH / loop_s
            measured[f"{name}: plain loop / medssl"] = summary(plain_s)["median"] / loop_s
    return measured


def _ours(network: Network, scans: list[PreparedScan], out: Path) -> Measured:
    batch = first_batch(network, scans)
    settings, _ = choose_step_settings(
        network.model,
        batch,
        objective=network.mixture,
        speed=network.config.speed,
        optimiser=network.config.optimiser,
        device=torch.device(DEVICE),
        total_steps=10_000,
    )
    bench = make_bench(network, batch)
    with FlopCounterMode(display=False) as counter:
        bench(settings)
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    measured = {"settings": settings.describe(), **measure_loop(network, scans, settings, out)}
    if DEVICE == "cuda":
        measured["peak memory, GB"] = torch.cuda.max_memory_allocated() / 1e9
        for kind, peak in PEAK_FLOPS.items():
            if kind in torch.cuda.get_device_name():
                achieved = counter.get_total_flops() / measured["step in the loop, s"]["median"]
                measured["share of the peak of bfloat16"] = achieved / peak
    return measured


def _plain_loop(network: Network, files: list[str], cache: Path, *, side: int) -> list[float]:
    """Return the seconds of a step, again and again."""
    model = network.model.to(DEVICE).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler(DEVICE, enabled=DEVICE == "cuda")
    seconds = []
    with monai_stream(files, cache, side=side, volumes=1, crops_of_each=BATCH, workers=WORKERS) as batches:
        for repeat in range(REPEATS + 1):
            began = time.perf_counter()
            for _ in range(LOOP_STEPS):
                image = next(batches).to(DEVICE)
                hidden = torch.ones_like(image, dtype=torch.bool)
                batch = {"image": image, "inpainting_target": image, "inpainting_mask": hidden}
                optimiser.zero_grad()
                with torch.autocast(DEVICE, dtype=torch.float16, enabled=DEVICE == "cuda"):
                    predictions = model(batch)
                loss = network.mixture.total_loss(network.mixture.losses(predictions, batch))
                scaler.scale(loss).backward()
                scaler.step(optimiser)
                scaler.update()
                loss.item()
            if repeat:  # the first round warms up
                seconds.append((time.perf_counter() - began) / LOOP_STEPS)
    return seconds
