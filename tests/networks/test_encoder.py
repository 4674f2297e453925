"""Every encoder keeps the contract."""

import json
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from medssl.networks.build import ENCODERS, build_encoder, rebuild_encoder
from medssl.networks.encoder import Encoder

CROP_SIZE = (33, 36, 40)
SIZES = [(36, 36, 36), (40, 33, 36), (37, 35, 33)]
# A norm right after these takes their effect away, so their gradient is zero but for rounding.
BIAS_BEFORE_NORM = re.compile(r"(\.conv|all_modules\.0|downsample\.0)\.bias$")


def random_crops(encoder: Encoder, count: int) -> Tensor:
    return torch.rand(count, 1, *(voxels + 2 for voxels in encoder.smallest_input()))


@pytest.fixture(params=sorted(ENCODERS))
def encoder(request: pytest.FixtureRequest, fill_weights: Callable[[nn.Module], None]) -> Encoder:
    built = build_encoder(request.param, "tiny", crop_size=CROP_SIZE, spacing_mm=(1.0, 1.0, 1.0))
    fill_weights(built)
    return built


@pytest.mark.parametrize("size", SIZES)
def test_channels_and_strides_are_true_and_sizes_round_up(
    encoder: Encoder, size: tuple[int, int, int]
) -> None:
    with torch.no_grad():
        maps = encoder(torch.rand(1, 1, *size))
    assert len(maps) == len(encoder.channels) == len(encoder.strides)
    for features, channels, stride in zip(maps, encoder.channels, encoder.strides, strict=True):
        expected = [-(-voxels // step) for voxels, step in zip(size, stride, strict=True)]
        assert list(features.shape) == [1, channels, *expected]
        assert type(features) is torch.Tensor


def test_smallest_input_trains_and_leaves_two_voxels(encoder: Encoder) -> None:
    maps = encoder.train()(torch.rand(2, 1, *encoder.smallest_input()))
    assert min(maps[-1].shape[2:]) == 2
    assert all(features.isfinite().all() for features in maps)


def test_gradient_reaches_every_parameter(encoder: Encoder) -> None:
    torch.manual_seed(0)
    maps = encoder(random_crops(encoder, 2))
    sum((features * torch.randn_like(features)).sum() for features in maps).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert BIAS_BEFORE_NORM.search(name) or parameter.grad.abs().max() > 0, name


def test_trains_under_bfloat16_autocast(encoder: Encoder) -> None:
    volume = random_crops(encoder, 2)
    with torch.autocast("cpu", torch.bfloat16):
        maps = encoder(volume)
        loss = sum(features.float().square().mean() for features in maps)
    loss.backward()
    assert any(features.dtype == torch.bfloat16 for features in maps)
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_channels_last_changes_nothing_but_rounding(encoder: Encoder) -> None:
    volume = random_crops(encoder, 1)
    encoder.eval()
    with torch.no_grad():
        plain = encoder.embed(volume)
        encoder.to(memory_format=torch.channels_last_3d)
        last = encoder.embed(volume.to(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(last, plain, rtol=1e-3, atol=1e-4)


def test_rebuilt_from_json_gives_the_same_output(encoder: Encoder) -> None:
    rebuilt = rebuild_encoder(json.loads(json.dumps(encoder.architecture)))
    rebuilt.load_state_dict(encoder.state_dict())
    volume = random_crops(encoder, 1)
    with torch.no_grad():
        assert torch.equal(rebuilt.eval().embed(volume), encoder.eval().embed(volume))
    assert rebuilt.architecture == encoder.architecture
    assert (rebuilt.channels, rebuilt.strides) == (encoder.channels, encoder.strides)


def test_embedding_is_the_mean_of_the_coarsest_map(encoder: Encoder) -> None:
    volume = random_crops(encoder, 2)
    encoder.eval()
    with torch.no_grad():
        embedding, coarsest = encoder.embed(volume), encoder(volume)[-1]
    assert embedding.shape == (2, encoder.channels[-1])
    torch.testing.assert_close(embedding, coarsest.flatten(2).mean(dim=2))
