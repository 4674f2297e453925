"""Which device trains, and how many threads feed it."""

import os

import torch

from medssl.errors import UsageError
from medssl.scans.processes import count_cores


def choose_device(wish: str) -> torch.device:
    """Return the device that ``speed.device`` asks for.

    Args:
        wish: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N". Under torchrun each process takes the
            GPU of its local rank.

    Raises:
        UsageError: If the wish cannot be met.
    """
    if wish == "cpu" or (wish == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    try:
        device = torch.device("cuda" if wish == "auto" else wish)
    except RuntimeError as error:
        raise UsageError(f'speed.device is "{wish}"; choose auto, cpu, cuda or cuda:N.') from error
    if device.type != "cuda":
        raise UsageError(f'speed.device is "{wish}"; choose auto, cpu, cuda or cuda:N.')
    index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise UsageError(
            f"speed.device is {wish}, and PyTorch sees {torch.cuda.device_count()} usable GPUs: "
            "set speed.device to cpu, or install a PyTorch build for this machine's GPU."
        )
    return torch.device("cuda", index)


def choose_loader_threads(wish: int | str) -> int:
    """Return how many pairs of threads make crops, see `medssl.training.prefetch.batches_in_order`.

    Auto is half of this process's share of the cores, four at most.
    """
    if wish != "auto":
        return int(wish)
    cores = count_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(4, max(1, cores // 2))
