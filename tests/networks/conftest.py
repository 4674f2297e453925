"""Networks with known weights, and one thread so that timings of the suite stay even."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _known_values(shape: torch.Size, phase: float) -> Tensor:
    return torch.sin(torch.arange(shape.numel(), dtype=torch.float64) * 0.7 + phase).reshape(shape).float()


@pytest.fixture
def fill_weights() -> Callable[[nn.Module], None]:
    """Give every parameter values that depend on nothing but its place and shape, and no zeros."""

    def fill(module: nn.Module) -> None:
        with torch.no_grad():
            for place, parameter in enumerate(module.parameters()):
                values = _known_values(parameter.shape, phase=float(place))
                is_kernel = parameter.ndim > 1
                fan_in = parameter[0].numel() if is_kernel else 1
                parameter.copy_(values * math.sqrt(2 / fan_in) if is_kernel else 1 + 0.1 * values)

    return fill


@pytest.fixture
def known_volume() -> Callable[..., Tensor]:
    """Make a volume of the given shape whose values depend on nothing else."""
    return lambda *shape: _known_values(torch.Size(shape), phase=0.3)
