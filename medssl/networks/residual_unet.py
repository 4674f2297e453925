"""The encoder of nnU-Net's residual U-Net, key for key and activation for activation.

The layout is that of ``ResidualEncoder`` in dynamic_network_architectures 0.4.4. These are our own blocks
and not that package, because it drags in timm and torchvision (which has no CPU wheel to match every torch)
for what is three small blocks. A test holds the layout against key listings and activations recorded from the
real package, and another against the package itself where it is installed.

One thing is different: where a size does not divide by the stride, the real skip connection rounds down, the
convolutions beside it round up, and the network fails; here both round up.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from medssl.networks.encoder import Encoder, FeatureMaps, Stride3D

LEAK = 0.01


class ConvNorm(nn.Module):
    """Convolution, instance norm and, unless told otherwise, LeakyReLU.

    The layers are registered twice, under their own name and inside `all_modules`, because a state dict of
    nnU-Net holds both.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (1, 1, 1),
        bias: bool = True,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(
            in_channels,
            out_channels,
            (kernel_size[0], kernel_size[1], kernel_size[2]),
            (stride[0], stride[1], stride[2]),
            padding=(kernel_size[0] // 2, kernel_size[1] // 2, kernel_size[2] // 2),
            bias=bias,
        )
        self.norm = nn.InstanceNorm3d(out_channels, affine=True)
        activation = [nn.LeakyReLU(LEAK, inplace=True)] if activate else []
        self.all_modules = nn.Sequential(self.conv, self.norm, *activation)

    def forward(self, volume: Tensor) -> Tensor:
        """Apply the layers."""
        result: Tensor = self.all_modules(volume)
        return result


class ResidualBlock(nn.Module):
    """Two convolutions beside a skip that pools first and projects after (ResNet-D, He et al., CVPR 2019)."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: Sequence[int], stride: Sequence[int]
    ) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels, kernel_size=kernel_size, stride=stride)
        self.conv2 = ConvNorm(out_channels, out_channels, kernel_size=kernel_size, activate=False)
        self.nonlin2 = nn.LeakyReLU(LEAK, inplace=True)
        skip: list[nn.Module] = []
        if any(step != 1 for step in stride):
            size = (stride[0], stride[1], stride[2])
            skip.append(nn.AvgPool3d(size, size, ceil_mode=True))
        if in_channels != out_channels:
            skip.append(
                ConvNorm(in_channels, out_channels, kernel_size=(1, 1, 1), bias=False, activate=False)
            )
        self.skip = nn.Sequential(*skip)

    def forward(self, volume: Tensor) -> Tensor:
        """Add both paths and activate the sum."""
        result: Tensor = self.nonlin2(self.conv2(self.conv1(volume)) + self.skip(volume))
        return result


class ResidualUNetEncoder(Encoder):
    """nnU-Net's residual encoder: a stem and stages of residual blocks, one feature map a stage.

    Args:
        in_channels: Channels of the input volume.
        features: Channels of each stage, fine to coarse.
        blocks: Residual blocks in each stage.
        strides: Stride of each stage relative to the one before, along X, Y and Z.
        kernel_sizes: Kernel of the convolutions in each stage.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        features: Sequence[int],
        blocks: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernel_sizes: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.channels = tuple(features)
        self.strides = _cumulative(strides)
        self.architecture = {
            "name": "residual_unet",
            "in_channels": in_channels,
            "features": list(features),
            "blocks": list(blocks),
            "strides": [list(stride) for stride in strides],
            "kernel_sizes": [list(kernel) for kernel in kernel_sizes],
        }
        stem = ConvNorm(in_channels, features[0], kernel_size=kernel_sizes[0])
        self.stem = _named("convs", nn.Sequential(stem))
        inputs = (features[0], *features[:-1])
        self.stages = nn.Sequential(
            *(
                _named("blocks", _stage(channels_in, channels_out, count, kernel_size=kernel, stride=stride))
                for channels_in, channels_out, count, kernel, stride in zip(
                    inputs, features, blocks, kernel_sizes, strides, strict=True
                )
            )
        )
        self.apply(_initialise)

    def forward(self, volume: Tensor) -> FeatureMaps:
        """Encode ``(B, in_channels, X, Y, Z)`` into one map a stage, fine to coarse."""
        features = self.stem(volume)
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps


def _stage(
    in_channels: int, out_channels: int, count: int, *, kernel_size: Sequence[int], stride: Sequence[int]
) -> nn.Sequential:
    first = ResidualBlock(in_channels, out_channels, kernel_size=kernel_size, stride=stride)
    rest = (
        ResidualBlock(out_channels, out_channels, kernel_size=kernel_size, stride=(1, 1, 1))
        for _ in range(count - 1)
    )
    return nn.Sequential(first, *rest)


def _named(name: str, module: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict([(name, module)]))


def _cumulative(strides: Sequence[Sequence[int]]) -> tuple[Stride3D, ...]:
    x = y = z = 1
    result = []
    for step_x, step_y, step_z in strides:
        x, y, z = x * step_x, y * step_y, z * step_z
        result.append((x, y, z))
    return tuple(result)


def _initialise(module: nn.Module) -> None:
    """Start as nnU-Net does: He initialisation, and each residual block as its skip alone."""
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, a=LEAK)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, ResidualBlock):
        nn.init.zeros_(module.conv2.norm.weight)
        nn.init.zeros_(module.conv2.norm.bias)
