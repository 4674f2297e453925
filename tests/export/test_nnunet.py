"""What nnU-Net finds in an exported checkpoint."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medssl.errors import UsageError
from medssl.export.exported import save_torch
from medssl.export.nnunet import adapt_plans, nnunet_checkpoint
from medssl.networks.build import build_encoder
from medssl.networks.residual_unet import ResidualUNetEncoder

PROVENANCE = {"spacing_mm": [0.8, 0.9, 2.5], "crop_size": [48, 40, 16]}
SETTINGS: dict[str, Any] = {
    "in_channels": 1,
    "features": (8, 16, 32),
    "blocks": (1, 2, 1),
    "strides": ((1, 1, 1), (2, 2, 1), (2, 2, 2)),
    "kernel_sizes": ((3, 3, 1), (3, 3, 3), (3, 3, 3)),
}


@pytest.fixture
def encoder() -> ResidualUNetEncoder:
    torch.manual_seed(0)
    encoder = ResidualUNetEncoder(**SETTINGS)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.2)
    return encoder


@pytest.fixture
def checkpoint(encoder: ResidualUNetEncoder, tmp_path: Path) -> dict[str, Any]:
    save_torch(tmp_path / "checkpoint.pth", nnunet_checkpoint(encoder, PROVENANCE))
    loaded: dict[str, Any] = torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    return loaded


def test_the_plan_names_everything_that_nnunet_reads(checkpoint: dict[str, Any]) -> None:
    plan = checkpoint["nnssl_adaptation_plan"]
    assert plan["pretrain_plan"]["configurations"]["3d_fullres"] == {
        "spacing": [2.5, 0.9, 0.8],
        "patch_size": [16, 40, 48],
    }
    assert plan["recommended_downstream_patchsize"] == [16, 40, 48]
    assert plan["pretrain_num_input_channels"] == 1
    assert plan["key_to_lpe"] is None
    kwargs = plan["architecture_plans"]["arch_kwargs"]
    assert kwargs["strides"] == [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
    assert kwargs["kernel_sizes"] == [[1, 3, 3], [3, 3, 3], [3, 3, 3]]
    weights = checkpoint["network_weights"]
    for key in (plan["key_to_encoder"], plan["key_to_stem"], *plan["keys_to_in_proj"]):
        assert any(name.startswith(key + ".") for name in weights), key


def test_the_encoder_sees_in_zyx_what_it_saw_in_xyz(
    encoder: ResidualUNetEncoder, checkpoint: dict[str, Any]
) -> None:
    kwargs = checkpoint["nnssl_adaptation_plan"]["architecture_plans"]["arch_kwargs"]
    theirs = ResidualUNetEncoder(
        in_channels=1,
        features=kwargs["features_per_stage"],
        blocks=kwargs["n_blocks_per_stage"],
        strides=kwargs["strides"],
        kernel_sizes=kwargs["kernel_sizes"],
    )
    own = {name: tensor for name, tensor in checkpoint["network_weights"].items() if "decoder" not in name}
    theirs.load_state_dict({name.removeprefix("encoder."): tensor for name, tensor in own.items()})
    volume = torch.rand(1, 1, 16, 24, 8)
    with torch.no_grad():
        pairs = zip(theirs(volume.permute(0, 1, 4, 3, 2)), encoder(volume), strict=True)
        for map_there, map_here in pairs:
            torch.testing.assert_close(map_there.permute(0, 1, 4, 3, 2), map_here)


def test_the_network_that_nnunet_builds_takes_every_tensor(
    encoder: ResidualUNetEncoder, checkpoint: dict[str, Any]
) -> None:
    pytest.importorskip("dynamic_network_architectures", reason="the networks of nnU-Net are not installed")
    real = build_real_network(checkpoint, classes=3)
    expected = {
        name: tensor.shape for name, tensor in real.state_dict().items() if ".seg_layers." not in name
    }
    given = checkpoint["network_weights"]
    assert {name: tensor.shape for name, tensor in given.items()} == expected
    real.load_state_dict(given, strict=False)
    volume = torch.rand(1, 1, 16, 24, 8)
    with torch.no_grad():
        maps = real.encoder(volume.permute(0, 1, 4, 3, 2))
        for map_there, map_here in zip(maps, encoder(volume), strict=True):
            torch.testing.assert_close(map_there.permute(0, 1, 4, 3, 2), map_here)


def build_real_network(checkpoint: dict[str, Any], *, classes: int) -> Any:
    plan = checkpoint["nnssl_adaptation_plan"]["architecture_plans"]
    kwargs = dict(plan["arch_kwargs"])
    for name in plan["arch_kwargs_requiring_import"]:
        kwargs[name] = imported(kwargs[name])
    return imported(plan["arch_class_name"])(input_channels=1, num_classes=classes, **kwargs)


def imported(name: str | None) -> Any:
    if name is None:
        return None
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_the_keys_are_those_recorded_from_the_real_network(checkpoint: dict[str, Any]) -> None:
    recorded = (Path(__file__).parent / "data" / "residual_encoder_unet.txt").read_text().splitlines()
    shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint["network_weights"].items()}
    assert [f"{name} {shape}" for name, shape in sorted(shapes.items())] == recorded


def test_plans_of_a_data_set_take_over_network_spacing_and_patch(checkpoint: dict[str, Any]) -> None:
    kept = {"batch_size": 2, "normalization_schemes": ["ZScoreNormalization"]}
    planned = {**kept, "spacing": [1, 1, 1], "patch_size": [9, 9, 9], "data_identifier": "nnUNetPlans_3d"}
    plans = {"dataset_name": "Dataset001_Some", "configurations": {"2d": {}, "3d_fullres": planned}}
    adapted = adapt_plans(plans, checkpoint, name="nnUNetPlans_medssl")
    assert (adapted["dataset_name"], adapted["plans_name"]) == ("Dataset001_Some", "nnUNetPlans_medssl")
    (configuration,) = adapted["configurations"].values()
    assert configuration["spacing"] == [2.5, 0.9, 0.8]
    assert configuration["patch_size"] == [16, 40, 48]
    assert configuration["data_identifier"] == "nnUNetPlans_medssl_3d_fullres"
    assert {name: configuration[name] for name in kept} == kept
    kwargs = configuration["architecture"]["arch_kwargs"]
    assert kwargs == checkpoint["nnssl_adaptation_plan"]["architecture_plans"]["arch_kwargs"]


def test_plans_without_full_resolution_are_refused(checkpoint: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="3d_fullres"):
        adapt_plans({"configurations": {"2d": {}}}, checkpoint, name="x")


@pytest.mark.parametrize("name", ["segresnet", "swin_unetr"])
def test_other_encoders_are_refused(name: str) -> None:
    other = build_encoder(name, "tiny", crop_size=(64,) * 3, spacing_mm=(1, 1, 1))
    with pytest.raises(UsageError, match="only residual_unet"):
        nnunet_checkpoint(other, PROVENANCE)
