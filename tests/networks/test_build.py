"""Encoders by name and size."""

import re
from typing import get_args

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from medssl.config.schema import EncoderConfig
from medssl.errors import CheckpointError, ConfigError
from medssl.networks import build
from medssl.networks.build import ENCODERS, SIZES, build_encoder, coarsest_stride, rebuild_encoder
from medssl.networks.encoder import Encoder

SPACING_MM = (1.0, 1.0, 1.0)
TABLE_CROP = (64, 64, 64)


def build_without_memory(name: str, size: str) -> Encoder:
    if name == "swin_unetr":  # its constructor reads values, which the meta device does not have
        return build_encoder(name, size, crop_size=TABLE_CROP, spacing_mm=SPACING_MM).to("meta")
    with torch.device("meta"):
        return build_encoder(name, size, crop_size=TABLE_CROP, spacing_mm=SPACING_MM)


def row_of(name: str) -> list[str]:
    (row,) = re.findall(rf"^\| {name} .*$", build.__doc__ or "", flags=re.MULTILINE)
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


def test_config_and_builder_know_the_same_encoders_and_sizes() -> None:
    fields = EncoderConfig.model_fields
    assert set(get_args(fields["name"].annotation)) == set(ENCODERS) == set(SIZES)
    for sizes in SIZES.values():
        assert tuple(sizes) == get_args(fields["size"].annotation)


@pytest.mark.parametrize("name", SIZES)
def test_documented_parameters_and_cost_are_true(name: str) -> None:
    *cells, stride = row_of(name)
    for size, cell in zip(SIZES[name], cells, strict=True):
        encoder = build_without_memory(name, size)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder(torch.empty(1, 1, *TABLE_CROP, device="meta"))
        parameters = sum(parameter.numel() for parameter in encoder.parameters())
        millions, billions = (float(number) for number in cell.split(", "))
        assert parameters / 1e6 == pytest.approx(millions, rel=0.07)
        assert counter.get_total_flops() / 2e9 == pytest.approx(billions, rel=0.05)
        if size == "base":
            assert set(encoder.strides[-1]) == {int(stride)}


@pytest.mark.parametrize("name", SIZES)
def test_stride_is_known_before_the_crop(name: str) -> None:
    random_state = torch.get_rng_state()
    stride = coarsest_stride(name, "small", spacing_mm=SPACING_MM)
    assert torch.equal(torch.get_rng_state(), random_state)
    crop_size = tuple(2 * step for step in stride)
    encoder = build_encoder(name, "small", crop_size=crop_size, spacing_mm=SPACING_MM)
    assert encoder.strides[-1] == stride


def test_small_crops_get_a_residual_unet_with_fewer_stages() -> None:
    encoder = build_encoder("residual_unet", "large", crop_size=(16, 16, 16), spacing_mm=SPACING_MM)
    assert encoder.channels == (32, 64, 128, 256)
    assert encoder(torch.rand(1, 1, 16, 16, 16))[-1].shape == (1, 256, 2, 2, 2)


@pytest.mark.parametrize(
    ("name", "size", "crop_size", "words"),
    [
        ("unet", "small", 32, r"no encoder 'unet'; choose one of residual_unet, segresnet"),
        ("segresnet", "huge", 32, r"no size 'huge'; choose one of tiny, small, base, large"),
        ("swin_unetr", "tiny", 32, r"crop_size 32 x 32 x 32 is too small .* needs at least 33 x 33 x 33"),
        ("residual_unet", "tiny", 1, r"too small"),
    ],
)
def test_what_cannot_be_built_is_told_in_one_sentence(
    name: str, size: str, crop_size: int, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        build_encoder(name, size, crop_size=(crop_size,) * 3, spacing_mm=SPACING_MM)


@pytest.mark.parametrize("architecture", [{}, {"name": "unet"}, {"name": "segresnet", "depth": 3}])
def test_unknown_descriptions_are_refused(architecture: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="No encoder of this version fits"):
        rebuild_encoder(architecture)
