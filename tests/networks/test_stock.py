"""MONAI's own networks take our weights and agree with our feature maps."""

from collections.abc import Callable

import pytest
import torch
from monai.networks.nets import SegResNet, SwinUNETR, resnet18, resnet50
from torch import Tensor, nn

from medssl.networks.encoder import Encoder
from medssl.networks.resnet import ResNetEncoder
from medssl.networks.segresnet import SegResNetEncoder
from medssl.networks.swin_unetr import SwinUNETREncoder

SIZE = (64, 32, 32)


def segresnet() -> tuple[Encoder, nn.Module]:
    stock = SegResNet(init_filters=16, in_channels=2)
    return SegResNetEncoder(in_channels=2, init_filters=16, blocks_down=(1, 2, 2, 4)), stock


def swin_unetr() -> tuple[Encoder, nn.Module]:
    stock = SwinUNETR(in_channels=2, out_channels=3, feature_size=12)
    return SwinUNETREncoder(in_channels=2, feature_size=12, depths=(2, 2, 2, 2)), stock


def resnet_18() -> tuple[Encoder, nn.Module]:
    stock = resnet18(n_input_channels=2, widen_factor=0.25, num_classes=3)
    return ResNetEncoder(in_channels=2, depth=18, widen_factor=0.25), stock


def resnet_50() -> tuple[Encoder, nn.Module]:
    stock = resnet50(n_input_channels=2, widen_factor=0.125, num_classes=3)
    return ResNetEncoder(in_channels=2, depth=50, widen_factor=0.125), stock


PAIRS = {
    segresnet: lambda stock: list(stock.down_layers),
    swin_unetr: lambda stock: [stock.swinViT],
    resnet_18: lambda stock: [stock.bn1, stock.layer1, stock.layer2, stock.layer3, stock.layer4],
    resnet_50: lambda stock: [stock.bn1, stock.layer1, stock.layer2, stock.layer3, stock.layer4],
}


def maps_inside(stock: nn.Module, layers: list[nn.Module], volume: Tensor) -> list[Tensor]:
    """Run a stock network and return what the given layers put out on the way."""
    seen: list[Tensor] = []
    for layer in layers:
        layer.register_forward_hook(
            lambda module, inputs, output: seen.extend(output if isinstance(output, list) else [output])
        )
    stock(volume)
    return seen


@pytest.mark.parametrize("make", PAIRS)
def test_stock_network_has_every_key_with_the_same_shape(
    make: Callable[[], tuple[Encoder, nn.Module]],
) -> None:
    ours, stock = make()
    stock_shapes = {name: tensor.shape for name, tensor in stock.state_dict().items()}
    assert {name: stock_shapes[name] for name in ours.state_dict()} == {
        name: tensor.shape for name, tensor in ours.state_dict().items()
    }


@pytest.mark.parametrize("make", PAIRS)
def test_stock_network_loads_our_weights_and_sees_the_same(
    make: Callable[[], tuple[Encoder, nn.Module]], fill_weights: Callable[[nn.Module], None]
) -> None:
    ours, stock = make()
    fill_weights(ours)
    assert stock.load_state_dict(ours.state_dict(), strict=False).unexpected_keys == []
    volume = torch.rand(1, 2, *SIZE)
    with torch.no_grad():
        expected = maps_inside(stock.eval(), PAIRS[make](stock), volume)
        maps = ours.eval()(volume)
    if make in (resnet_18, resnet_50):
        expected[0] = expected[0].relu()
    assert len(maps) == len(expected) == len(ours.channels)
    for features, reference in zip(maps, expected, strict=True):
        torch.testing.assert_close(features, reference)
