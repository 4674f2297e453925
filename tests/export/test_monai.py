"""MONAI's networks take what was exported, by the very lines that are printed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from medssl.errors import UsageError
from medssl.export.monai import build_stock
from medssl.networks.build import build_encoder
from medssl.networks.weights import save_encoder
from medssl.workflows.export import export


@pytest.mark.parametrize("name", ["segresnet", "swin_unetr", "resnet18", "resnet50"])
def test_the_printed_lines_load_the_encoder(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, "tiny", in_channels=2, crop_size=(64,) * 3, spacing_mm=(1, 1, 1))
    save_encoder(tmp_path / "encoder.safetensors", encoder, provenance={"spacing_mm": [1, 1, 1]})
    exported = export(tmp_path / "encoder.safetensors", to="monai", out=tmp_path / "encoder.pt")
    scope: dict[str, Any] = {}
    exec(exported.snippet, scope)
    loaded = scope["network"].state_dict()
    for key, tensor in encoder.state_dict().items():
        torch.testing.assert_close(loaded[key], tensor, rtol=0, atol=0)
    assert f"{len(encoder.state_dict())} tensors matched, 0 adapted" in exported.told[0]
    assert exported.told[0].endswith("0 unused.")


def test_a_residual_unet_is_refused() -> None:
    encoder = build_encoder("residual_unet", "tiny", crop_size=(32,) * 3, spacing_mm=(1, 1, 1))
    with pytest.raises(UsageError, match=r"skips are convolutions with a stride .* --to nnunet"):
        build_stock(encoder)
