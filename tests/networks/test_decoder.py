"""The decoder brings any encoder's maps back to the input's size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medssl.networks.build import ENCODERS, build_encoder
from medssl.networks.decoder import WIDEST_AT_FULL_SIZE, UNetDecoder
from medssl.networks.encoder import Stride3D

ISOTROPIC = ((1, 1, 1), (2, 2, 2), (4, 4, 4))


def random_maps(
    channels: tuple[int, ...], strides: tuple[Stride3D, ...], size: tuple[int, ...]
) -> list[Tensor]:
    return [
        torch.randn(
            1, width, *(-(-voxels // step) for voxels, step in zip(size, stride, strict=True))
        ).requires_grad_()
        for width, stride in zip(channels, strides, strict=True)
    ]


@pytest.mark.parametrize("name", sorted(ENCODERS))
@pytest.mark.parametrize("size", [(36, 36, 36), (37, 35, 33)])
def test_every_encoder_decodes_to_its_input_size(name: str, size: tuple[int, int, int]) -> None:
    encoder = build_encoder(name, "tiny", crop_size=size, spacing_mm=(1.0, 1.0, 1.0))
    decoder = UNetDecoder(encoder.channels, encoder.strides, out_channels=2)
    with torch.no_grad():
        decoded = decoder(encoder(torch.rand(1, 1, *size)), size)
    assert decoded.shape == (1, 2, *size)


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(*[st.integers(5, 14)] * 3),
    steps=st.lists(st.tuples(*[st.integers(1, 2)] * 3), min_size=1, max_size=3),
    starts_at=st.sampled_from([(1, 1, 1), (2, 2, 2), (2, 2, 1)]),
)
def test_any_strides_and_sizes_work(
    size: tuple[int, int, int], steps: list[Stride3D], starts_at: Stride3D
) -> None:
    strides = [starts_at]
    for step in steps:
        x, y, z = (before * factor for before, factor in zip(strides[-1], step, strict=True))
        strides.append((x, y, z))
    channels = tuple(4 * (level + 1) for level in range(len(strides)))
    decoder = UNetDecoder(channels, strides, out_channels=1)
    assert decoder(random_maps(channels, tuple(strides), size), size).shape == (1, 1, *size)


def test_gradient_reaches_every_map_and_parameter() -> None:
    channels = (4, 8, 16)
    decoder = UNetDecoder(channels, ISOTROPIC, out_channels=1)
    maps = random_maps(channels, ISOTROPIC, (9, 8, 7))
    (decoder(maps, (9, 8, 7)) * torch.randn(1, 1, 9, 8, 7)).sum().backward()
    assert all(features.grad is not None and features.grad.abs().max() > 0 for features in maps)
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert name.endswith("block.0.bias") or parameter.grad.abs().max() > 0, name


def test_what_lies_beyond_the_input_is_cut_at_the_far_end() -> None:
    decoder = UNetDecoder((1, 1), ((1, 1, 1), (2, 2, 2)), out_channels=1)
    (level,) = decoder.levels
    level.block = nn.Identity()
    nn.init.ones_(level.up.weight)
    nn.init.zeros_(level.up.bias)
    coarse = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    joined = decoder.body([torch.zeros(1, 1, 3, 3, 3), coarse], (3, 3, 3))[:, :1]
    enlarged = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    torch.testing.assert_close(joined, enlarged[:, :, :3, :3, :3])


def test_body_serves_another_last_convolution() -> None:
    channels = (4, 8, 16)
    decoder = UNetDecoder(channels, ISOTROPIC, out_channels=1)
    maps = random_maps(channels, ISOTROPIC, (8, 8, 8))
    torch.testing.assert_close(decoder(maps, (8, 8, 8)), decoder.out(decoder.body(maps, (8, 8, 8))))
    decoder.out = nn.Conv3d(decoder.out.in_channels, 5, kernel_size=1)
    assert decoder(maps, (8, 8, 8)).shape == (1, 5, 8, 8, 8)


def test_wide_encoders_get_a_narrower_decoder() -> None:
    decoder = UNetDecoder((256, 512, 1024), ISOTROPIC, out_channels=1)
    assert decoder.out.in_channels == WIDEST_AT_FULL_SIZE


def test_trains_under_bfloat16_autocast() -> None:
    encoder = build_encoder("swin_unetr", "tiny", crop_size=(33, 33, 33), spacing_mm=(1.0, 1.0, 1.0))
    decoder = UNetDecoder(encoder.channels, encoder.strides, out_channels=1)
    with torch.autocast("cpu", torch.bfloat16):
        decoded = decoder(encoder(torch.rand(1, 1, 33, 33, 33)), (33, 33, 33))
    decoded.float().square().mean().backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())
