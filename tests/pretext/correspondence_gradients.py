"""Save the loss and the gradients of a batch that all processes of torchrun share: FILE is all it is told."""

import os
import sys

import torch
import torch.distributed as dist

from medssl.networks.build import build_encoder
from medssl.pretext.correspondence import CorrespondenceSettings, CorrespondenceTask
from medssl.pretext.task import TaskContext

CUBE = (8, 8, 8)
SAMPLES = 4
POINTS = 16


def main() -> None:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        dist.init_process_group("gloo")
    rank = dist.get_rank() if processes > 1 else 0
    torch.manual_seed(0)
    task = CorrespondenceTask(
        CorrespondenceSettings(points=POINTS), TaskContext(CUBE, (1, 1, 1), (CUBE,), CUBE)
    )
    encoder = build_encoder("residual_unet", "tiny", crop_size=CUBE, spacing_mm=(1, 1, 1))
    head = task.make_head(encoder)
    batch = {
        "correspondence_views": torch.rand(SAMPLES, 2, 1, *CUBE),
        "correspondence_first": 2 * torch.rand(SAMPLES, POINTS, 3) - 1,
        "correspondence_second": 2 * torch.rand(SAMPLES, POINTS, 3) - 1,
        "correspondence_places": 30 * torch.rand(SAMPLES, POINTS, 3),
    }
    own = {key: value.chunk(processes)[rank] for key, value in batch.items()}
    loss = task.loss(head(encoder(own["correspondence_views"].flatten(0, 1)), own), own).mean()
    loss.backward()
    found = {"loss": loss.detach()}
    for part, module in (("encoder", encoder), ("head", head)):
        found |= {f"{part}.{name}": parameter.grad for name, parameter in module.named_parameters()}
    if processes > 1:
        for tensor in found.values():
            dist.all_reduce(tensor)
            tensor /= processes
    if rank == 0:
        torch.save(found, sys.argv[1])
    if processes > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
