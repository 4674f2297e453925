"""Weights go out whole and come in with a report."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from medssl.errors import CheckpointError
from medssl.networks.build import ENCODERS, build_encoder
from medssl.networks.encoder import Encoder
from medssl.networks.provenance import METADATA_KEY, read_provenance
from medssl.networks.weights import load_encoder, load_weights, read_weights, save_encoder

CROP_SIZE = (36, 36, 36)
PROVENANCE = {"spacing_mm": [1.0, 1.0, 2.5], "tasks": ["rotation"], "crop_size": list(CROP_SIZE)}
STEM = {
    "residual_unet": "stem.convs.0.conv.weight",
    "segresnet": "convInit.conv.weight",
    "swin_unetr": "swinViT.patch_embed.proj.weight",
    "resnet18": "conv1.weight",
    "resnet50": "conv1.weight",
}


def tiny(name: str = "residual_unet", *, in_channels: int = 1) -> Encoder:
    return build_encoder(
        name, "tiny", in_channels=in_channels, crop_size=CROP_SIZE, spacing_mm=(1.0, 1.0, 1.0)
    ).eval()


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_round_trip_keeps_every_weight_and_the_provenance(name: str, tmp_path: Path) -> None:
    encoder, path = tiny(name), tmp_path / "encoder.safetensors"
    save_encoder(path, encoder.to(memory_format=torch.channels_last_3d), provenance=PROVENANCE)
    loaded, provenance = load_encoder(path)
    assert provenance == {**PROVENANCE, "architecture": encoder.architecture}
    assert read_provenance(path) == provenance
    state = loaded.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in encoder.state_dict().items())


def test_file_holds_both_names_of_each_shared_layer(tmp_path: Path) -> None:
    encoder, path = tiny(), tmp_path / "encoder.safetensors"
    save_encoder(path, encoder, provenance={})
    assert set(load_file(path)) == set(encoder.state_dict())


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    encoder = tiny()
    for name in ("one", "other"):
        save_encoder(tmp_path / name, encoder, provenance=PROVENANCE)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_provenance_is_read_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, tiny(), provenance=PROVENANCE)
    code = (
        "import sys, json; from pathlib import Path; from medssl.networks.provenance import read_provenance;"
        "print(json.dumps(read_provenance(Path(sys.argv[1]))['tasks'])); assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, str(path)]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, capture_output=True, check=True, cwd=root, text=True).stdout == (
        '["rotation"]\n'
    )


@pytest.mark.parametrize("load", [load_encoder, read_provenance, read_weights])
def test_other_files_are_refused_in_one_sentence(load, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    whole = tmp_path / "whole.safetensors"
    save_encoder(whole, tiny(), provenance={})
    content = whole.read_bytes()
    torch.save({"a": torch.zeros(3)}, tmp_path / "saved.pt")
    spoilt = {
        "cut": content[:-100],
        "cut_in_header": content[:50],
        "empty": b"",
        "text": b"no weights at all",
        "pickle": pickle.dumps({"a": 1}),
        "saved": (tmp_path / "saved.pt").read_bytes(),
    }
    for name, bytes_ in spoilt.items():
        path = tmp_path / name
        path.write_bytes(bytes_)
        with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
            load(path)
    with pytest.raises(CheckpointError, match="no weights file"):
        load(tmp_path / "absent.safetensors")


def test_pickled_code_never_runs(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",))

    path = tmp_path / "trap.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError):
        load_encoder(path)
    assert not (tmp_path / "sprung").exists()


def test_weights_of_others_have_no_provenance(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="without medssl's description"):
        read_provenance(path)


def test_file_that_is_not_what_it_says_is_refused(tmp_path: Path) -> None:
    encoder, path = tiny(), tmp_path / "encoder.safetensors"
    tensors = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    for name in ("conv", "all_modules.0"):
        del tensors[f"stem.convs.0.{name}.bias"]
    metadata = {METADATA_KEY: json.dumps({"architecture": encoder.architecture})}
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"does not hold the network it describes: .* 2 missing"):
        load_encoder(path)


def test_report_counts_and_names_what_did_not_fit() -> None:
    source, target = tiny("segresnet"), tiny("segresnet")
    state = dict(source.state_dict())
    state["conv_final.2.conv.weight"] = torch.zeros(2, 8, 1, 1, 1)
    state["down_layers.0.1.norm1.weight"] = torch.zeros(3)
    del state["down_layers.0.1.norm1.bias"]
    report = load_weights(target, state)
    assert report.missing == ("down_layers.0.1.norm1.weight", "down_layers.0.1.norm1.bias")
    assert report.unused == ("down_layers.0.1.norm1.weight", "conv_final.2.conv.weight")
    assert len(report.matched) == len(source.state_dict()) - 2
    assert 0.99 < report.share < 1
    assert report.summary() == (
        f"99.9 % of the parameters loaded: {len(report.matched)} tensors matched, 0 adapted, 2 missing "
        "(down_layers.0.1.norm1.weight, down_layers.0.1.norm1.bias), 2 unused "
        "(down_layers.0.1.norm1.weight, conv_final.2.conv.weight)."
    )


def test_one_name_of_a_shared_layer_is_enough() -> None:
    source, target = tiny(), tiny()
    state = {name: tensor for name, tensor in source.state_dict().items() if "all_modules" not in name}
    report = load_weights(target, state)
    assert (report.missing, report.unused, report.share) == ((), (), 1.0)
    assert all(torch.equal(tensor, target.state_dict()[name]) for name, tensor in state.items())


def test_a_poor_fit_is_refused_and_changes_nothing() -> None:
    source, target = tiny("segresnet"), tiny("segresnet")
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    half = {name: tensor for name, tensor in source.state_dict().items() if "down_layers.2" not in name}
    with pytest.raises(CheckpointError, match=r"do not fit the network: .* missing .* allow a partial load"):
        load_weights(target, half)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())
    report = load_weights(target, half, allow_partial=True)
    assert report.share < 0.9
    assert all(torch.equal(tensor, target.state_dict()[name]) for name, tensor in half.items())


@pytest.mark.parametrize("name", sorted(ENCODERS))
@pytest.mark.parametrize(("given", "own"), [(1, 3), (2, 1)])
def test_stem_is_fitted_to_the_number_of_channels(name: str, given: int, own: int) -> None:
    source, target = tiny(name, in_channels=given), tiny(name, in_channels=own)
    report = load_weights(target, source.state_dict())
    assert STEM[name] in report.adapted
    assert (report.missing, report.unused, report.share) == ((), (), 1.0)
    volume = torch.rand(1, 1, *CROP_SIZE)
    with torch.no_grad():
        expected = source.embed(volume.expand(-1, given, -1, -1, -1))
        embedding = target.embed(volume.expand(-1, own, -1, -1, -1))
    torch.testing.assert_close(embedding, expected, rtol=1e-3, atol=1e-4)
