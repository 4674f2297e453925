"""Weights as other tools name them land in our encoders."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.networks.nets import SegResNet, SwinUNETR, resnet18
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor, nn

from medssl.errors import CheckpointError
from medssl.export.nnunet import nnunet_checkpoint
from medssl.networks.build import build_encoder
from medssl.networks.encoder import Encoder
from medssl.networks.foreign import load_foreign
from medssl.networks.resnet import ResNetEncoder
from medssl.networks.segresnet import SegResNetEncoder
from medssl.networks.swin_unetr import SwinUNETREncoder
from medssl.networks.weights import load_weights, save_encoder


def unet(in_channels: int = 1) -> Encoder:
    crop_size, spacing_mm = (32, 32, 16), (1, 1, 3)
    return build_encoder(
        "residual_unet", "tiny", in_channels=in_channels, crop_size=crop_size, spacing_mm=spacing_mm
    )


def same_weights(one: nn.Module, other: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.state_dict().items())


def test_nnssl_and_nnunet_checkpoints(tmp_path: Path) -> None:
    source, target = unet(), unet()
    about = {"spacing_mm": [1, 1, 3], "crop_size": [32, 32, 16]}
    torch.save(nnunet_checkpoint(source, about), tmp_path / "checkpoint_final.pth")
    report = load_foreign(target, tmp_path / "checkpoint_final.pth")
    assert same_weights(target, source.state_dict())
    assert report.share == 1
    assert report.missing == ()
    assert any(name.startswith("decoder.transpconvs") for name in report.unused)


def test_a_compiled_nnunet_checkpoint(tmp_path: Path) -> None:
    source, target = unet(), unet()
    weights = nnunet_checkpoint(source, {"spacing_mm": [1, 1, 3], "crop_size": [32, 32, 16]})
    named = {f"_orig_mod.module.{name}": tensor for name, tensor in weights["network_weights"].items()}
    torch.save({"network_weights": named, "current_epoch": 3}, tmp_path / "last.pth")
    assert load_foreign(target, tmp_path / "last.pth").share == 1
    assert same_weights(target, source.state_dict())


def test_monai_self_supervised_swin_weights(tmp_path: Path) -> None:
    stock = SwinUNETR(in_channels=1, out_channels=2, feature_size=12, depths=(1, 1, 1, 1))
    inner = {
        f"module.{name.replace('linear1', 'fc1').replace('linear2', 'fc2')}": tensor
        for name, tensor in stock.swinViT.state_dict().items()
    }
    heads = {"module.rotation_head.weight": torch.zeros(4, 9), "module.norm.weight": torch.zeros(9)}
    torch.save({"epoch": 1, "state_dict": inner | heads}, tmp_path / "model_swinvit.pt")
    target = SwinUNETREncoder(in_channels=1, feature_size=12, depths=(1, 1, 1, 1))
    report = load_foreign(target, tmp_path / "model_swinvit.pt")
    assert report.share == 1
    assert len(report.unused) == 2
    assert same_weights(target, stock.state_dict())


def test_medicalnet_resnet_weights(tmp_path: Path) -> None:
    stock = resnet18(n_input_channels=1, widen_factor=0.25, feed_forward=False)
    torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in stock.state_dict().items()}},
        tmp_path / "resnet_18.pth",
    )
    target = ResNetEncoder(in_channels=1, depth=18, widen_factor=0.25)
    assert load_foreign(target, tmp_path / "resnet_18.pth").share == 1
    assert same_weights(target, stock.state_dict())


def test_a_bare_state_dict_of_monai(tmp_path: Path) -> None:
    stock = SegResNet(init_filters=8, in_channels=1, blocks_down=(1, 1), blocks_up=(1,))
    torch.save(stock.state_dict(), tmp_path / "segresnet.pt")
    target = SegResNetEncoder(in_channels=1, init_filters=8, blocks_down=(1, 1))
    assert load_foreign(target, tmp_path / "segresnet.pt").share == 1
    assert same_weights(target, stock.state_dict())


def test_our_own_weights_fitted_to_more_channels(tmp_path: Path) -> None:
    source, target = unet(), unet(in_channels=2)
    save_encoder(tmp_path / "encoder.safetensors", source, provenance={})
    report = load_foreign(target, tmp_path / "encoder.safetensors")
    assert report.share == 1
    assert report.adapted
    volume = torch.rand(1, 1, 32, 32, 16)
    with torch.no_grad():
        torch.testing.assert_close(target(volume.expand(-1, 2, -1, -1, -1))[-1], source(volume)[-1])


def test_another_network_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    torch.save(resnet18(n_input_channels=1, widen_factor=0.25).state_dict(), tmp_path / "resnet.pt")
    target = unet()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"resnet\.pt: .*0\.0 % of the parameters"):
        load_foreign(target, tmp_path / "resnet.pt")
    assert same_weights(target, before)
    assert load_foreign(target, tmp_path / "resnet.pt", allow_partial=True).share == 0


class Payload:
    """Would write a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self._path), "w")


@pytest.mark.parametrize("content", ["code", "text", "empty", "numbers"])
def test_what_is_no_weights_file_is_refused(content: str, tmp_path: Path) -> None:
    path, harmed = tmp_path / "weights.pth", tmp_path / "harmed"
    if content == "code":
        path.write_bytes(pickle.dumps(Payload(harmed)))
    elif content == "text":
        path.write_text("hello")
    elif content == "empty":
        path.touch()
    else:
        torch.save({"state_dict": {"epoch": 3}}, path)
    with pytest.raises(CheckpointError, match=r"weights\.pth"):
        load_foreign(unet(), path)
    assert not harmed.exists()


def swin(window: int) -> nn.Module:
    """Return MONAI's transformer of SwinUNETR with windows of another size."""
    return SwinTransformer(
        in_chans=1, embed_dim=12, window_size=(window,) * 3, patch_size=(2, 2, 2), depths=(1, 1, 1, 1),
        num_heads=(3, 6, 12, 24),
    )  # fmt: skip


def test_swin_weights_for_another_size_of_window(tmp_path: Path) -> None:
    source = swin(window=4)
    table = source.layers1[0].blocks[0].attn.relative_position_bias_table
    offsets = torch.linspace(-1, 1, 7)  # of a window of 4 voxels, as shares of the farthest
    with torch.no_grad():
        table[:, 0] = torch.cartesian_prod(offsets, offsets, offsets) @ torch.tensor([1.0, 10.0, 100.0])
    torch.save({"state_dict": source.state_dict()}, tmp_path / "swin.pt")
    target = SwinUNETREncoder(in_channels=1, feature_size=12, depths=(1, 1, 1, 1))
    index = target.swinViT.layers1[0].blocks[0].attn.relative_position_index.clone()
    report = load_foreign(target, tmp_path / "swin.pt")
    assert (report.share, report.missing, report.unused) == (1, (), ())
    assert len(report.adapted) == 4
    assert all(name.endswith("relative_position_bias_table") for name in report.adapted)
    attention = target.swinViT.layers1[0].blocks[0].attn
    assert torch.equal(attention.relative_position_index, index)
    offsets = torch.linspace(-1, 1, 13)
    expected = torch.cartesian_prod(offsets, offsets, offsets) @ torch.tensor([1.0, 10.0, 100.0])
    torch.testing.assert_close(attention.relative_position_bias_table[:, 0], expected, rtol=0, atol=1e-4)
    qkv = source.layers1[0].blocks[0].attn.qkv.weight
    assert torch.equal(attention.qkv.weight, qkv)


def test_swin_tables_of_another_number_of_heads_do_not_fit() -> None:
    target = SwinUNETREncoder(in_channels=1, feature_size=12, depths=(1, 1, 1, 1))
    name = "swinViT.layers1.0.blocks.0.attn.relative_position_bias_table"
    for shape in ((7**3, 4), (7 * 7 * 5, 3)):
        report = load_weights(target, {name: torch.zeros(shape)}, allow_partial=True)
        assert (report.adapted, report.unused) == ((), (name,))
