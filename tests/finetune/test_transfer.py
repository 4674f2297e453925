import shutil
from pathlib import Path

import pytest
import torch

from medssl.config.finetune_schema import FinetuneConfig
from medssl.errors import CheckpointError, UsageError
from medssl.finetune.segmentation import Segmentation
from medssl.finetune.training import build_model
from medssl.finetune.transfer import Pretrained
from medssl.networks.weights import read_weights

GOAL = Segmentation({0: "background", 1: "ball", 2: "cube"})  # as many as location predicts


def start(run: Path, *, in_channels: int = 1, **transfer):
    config = FinetuneConfig.model_validate({"transfer": transfer})
    return build_model(
        GOAL,
        pretrained=Pretrained.find(run) if run else None,
        config=config,
        in_channels=in_channels,
        crop_size=(16, 16, 16),
        spacing_mm=(1.0, 1.0, 1.0),
    )


@pytest.fixture
def own_run(ball_run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may spoil."""
    return shutil.copytree(ball_run, tmp_path / "run")


def put_decoders(run: Path, **values: float) -> None:
    """Let the run's checkpoint hold a decoder of each task, its weights all of one value."""
    path = run / "checkpoints" / "last.pt"
    payload = torch.load(path)
    prefix = "heads.location."
    names = {name.removeprefix(prefix): tensor for name, tensor in payload["model"].items()}
    payload["model"] = {
        f"heads.{task}.{name}": torch.full_like(tensor, value)
        for task, value in values.items()
        for name, tensor in names.items()
    }
    torch.save(payload, path)


@pytest.mark.parametrize("mode", ["full", "frozen", "linear_probe"])
def test_the_encoder_is_that_of_the_run(ball_run: Path, mode: str):
    begun = start(ball_run, mode=mode)
    given, own = read_weights(ball_run / "encoder.safetensors"), begun.model.encoder.state_dict()
    assert given.keys() == own.keys()
    assert all(torch.equal(given[name], own[name]) for name in given)
    report = begun.loads["encoder"]
    assert (report.share, report.adapted, report.missing, report.unused) == (1.0, (), (), ())


def test_a_weights_file_does_as_well_as_its_run(ball_run: Path):
    assert Pretrained.find(ball_run / "encoder.safetensors") == Pretrained.find(ball_run)


def test_from_scratch_is_the_same_network_without_the_weights(ball_run: Path):
    begun, pretrained = start(ball_run, mode="from_scratch"), start(ball_run)
    assert begun.loads == {}
    assert begun.model.encoder.architecture == pretrained.model.encoder.architecture
    given, own = read_weights(ball_run / "encoder.safetensors"), begun.model.encoder.state_dict()
    assert not any(torch.equal(given[name], own[name]) for name in given if given[name].dim() > 1)


def test_both_arms_begin_with_the_same_head(ball_run: Path):
    scratch, pretrained = start(ball_run, mode="from_scratch"), start(ball_run, carry_decoder=False)
    for one, other in zip(scratch.model.head.parameters(), pretrained.model.head.parameters(), strict=True):
        assert torch.equal(one, other)


def test_two_channels_share_the_stem_and_the_report_says_so(ball_run: Path):
    one, two = start(ball_run), start(ball_run, in_channels=2)
    report = two.loads["encoder"]
    assert len(report.adapted) >= 1
    assert "adapted" in report.summary()
    assert "0 adapted" not in report.summary()
    image = torch.rand(1, 1, 16, 16, 16)
    expected = one.model.eval()({"image": image})["segmentation"]
    found = two.model.eval()({"image": image.expand(-1, 2, -1, -1, -1)})["segmentation"]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("task", ["location", "inpainting"])
def test_the_decoder_is_carried_over_but_for_its_last_layer(own_run: Path, task: str):
    put_decoders(own_run, **{task: 0.25})
    fresh, begun = start(own_run, carry_decoder=False), start(own_run)
    assert set(begun.loads) == {"encoder", "decoder"}
    for name, tensor in begun.model.head.decoder.state_dict().items():
        is_last = name.startswith("out.")
        assert bool((tensor == 0.25).all()) != is_last, name
        assert torch.equal(tensor, fresh.model.head.decoder.state_dict()[name]) == is_last, name


def test_of_two_decoders_that_of_location_is_taken(own_run: Path):
    put_decoders(own_run, inpainting=0.25, location=0.5)
    assert (start(own_run).model.head.decoder.levels[0].up.weight == 0.5).all()


@pytest.mark.parametrize(
    "transfer", [{"mode": "from_scratch"}, {"mode": "linear_probe"}, {"carry_decoder": False}]
)
def test_no_decoder_is_carried_over(ball_run: Path, transfer):
    assert "decoder" not in start(ball_run, **transfer).loads


def test_a_run_without_a_dense_task_or_checkpoint_has_no_decoder(own_run: Path):
    put_decoders(own_run, rotation=1.0)
    assert set(start(own_run).loads) == {"encoder"}
    shutil.rmtree(own_run / "checkpoints")
    assert set(start(own_run).loads) == {"encoder"}


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="holds no encoder"):
        Pretrained.find(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x00" * 100])
def test_a_file_that_is_no_encoder_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"encoder\.safetensors"):
        Pretrained.find(path)


def test_a_checkpoint_is_no_encoder(ball_run: Path):
    with pytest.raises(CheckpointError, match="pickled"):
        Pretrained.find(ball_run / "checkpoints" / "last.pt")
