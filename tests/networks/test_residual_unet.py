"""The residual U-Net is nnU-Net's encoder, by its keys and by what it computes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medssl.networks.build import build_encoder
from medssl.networks.residual_unet import ResidualBlock, ResidualUNetEncoder

DATA = Path(__file__).parent / "data"
RECORDED = {name: json.loads((DATA / f"{name}.json").read_text()) for name in ("anisotropic", "resenc_l")}
SIZE = (16, 32, 24)


def shapes_by_key(network: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


def samples(features: Tensor) -> list[float]:
    """Mean, deviation and six values spread over a map."""
    spread = features.flatten()[:: features.numel() // 6][:6]
    return [float(value) for value in (features.mean(), features.std(), *spread)]


def real_encoder(settings: dict[str, Any]) -> nn.Module:
    real = pytest.importorskip("dynamic_network_architectures.building_blocks.residual_encoders")
    return real.ResidualEncoder(
        settings["in_channels"],
        len(settings["features"]),
        settings["features"],
        nn.Conv3d,
        settings["kernel_sizes"],
        settings["strides"],
        settings["blocks"],
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        return_skips=True,
    )


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_has_the_recorded_keys_and_shapes_in_order(name: str) -> None:
    with torch.device("meta"):
        ours = ResidualUNetEncoder(**RECORDED[name]["settings"])
    assert list(shapes_by_key(ours).items()) == list(RECORDED[name]["keys"].items())


def test_gives_the_recorded_activations(
    fill_weights: Callable[[nn.Module], None], known_volume: Callable[..., Tensor]
) -> None:
    ours = ResidualUNetEncoder(**RECORDED["anisotropic"]["settings"])
    fill_weights(ours)
    with torch.no_grad():
        maps = ours(known_volume(1, 1, *SIZE))
    for features, expected in zip(maps, RECORDED["anisotropic"]["activations"], strict=True):
        assert samples(features) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_large_is_resenc_l() -> None:
    with torch.device("meta"):
        large = build_encoder("residual_unet", "large", crop_size=(64, 64, 64), spacing_mm=(1.0, 1.0, 1.0))
    settings = RECORDED["resenc_l"]["settings"]
    assert large.architecture == {"name": "residual_unet", **settings}


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_the_recording_is_what_the_real_package_gives(name: str) -> None:
    recorded = RECORDED[name]
    assert shapes_by_key(real_encoder(recorded["settings"])) == recorded["keys"]


def test_equals_the_real_package_with_the_same_weights() -> None:
    settings = RECORDED["anisotropic"]["settings"]
    real, ours = real_encoder(settings), ResidualUNetEncoder(**settings)
    ours.load_state_dict(real.state_dict())
    volume = torch.rand(2, 1, *SIZE)
    with torch.no_grad():
        for expected, features in zip(real(volume), ours(volume), strict=True):
            torch.testing.assert_close(features, expected)


def test_both_names_of_a_layer_share_one_tensor() -> None:
    ours = ResidualUNetEncoder(**RECORDED["anisotropic"]["settings"])
    state = ours.state_dict()
    one, other = state["stem.convs.0.conv.weight"], state["stem.convs.0.all_modules.0.weight"]
    assert one.data_ptr() == other.data_ptr()


def test_skip_averages_what_is_there_where_sizes_do_not_divide() -> None:
    block = ResidualBlock(1, 1, kernel_size=(3, 3, 3), stride=(2, 2, 2))
    volume = torch.arange(27.0).reshape(1, 1, 3, 3, 3)
    pooled = block.skip(volume)
    assert pooled.shape == (1, 1, 2, 2, 2)
    assert pooled[0, 0, 1, 1, 1] == volume[0, 0, 2, 2, 2]
    assert pooled[0, 0, 0, 0, 0] == volume[0, 0, :2, :2, :2].mean()


def test_starts_as_its_skips_alone() -> None:
    encoder = ResidualUNetEncoder(**RECORDED["anisotropic"]["settings"])
    volume = torch.randn(1, 8, 8, 8, 8)
    first: nn.Module = encoder.stages[0].blocks[0]
    torch.testing.assert_close(first(volume), nn.functional.leaky_relu(volume, 0.01))


def test_anisotropic_data_get_anisotropic_strides() -> None:
    encoder = build_encoder("residual_unet", "small", crop_size=(64, 64, 12), spacing_mm=(0.8, 0.8, 5.0))
    assert encoder.strides == ((1, 1, 1), (2, 2, 1), (4, 4, 1), (8, 8, 2))
    assert encoder.smallest_input() == (9, 9, 3)
    assert encoder(torch.rand(2, 1, 9, 9, 3))[-1].shape[2:] == (2, 2, 2)
