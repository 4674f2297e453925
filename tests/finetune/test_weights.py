from pathlib import Path

import pytest
import torch

from medssl.errors import CheckpointError, UsageError
from medssl.finetune.model import FinetuneModel
from medssl.finetune.segmentation import Segmentation
from medssl.finetune.weights import MODEL, find_models, load_model, save_model
from medssl.networks.weights import save_weights

GOAL = Segmentation({0: "background", 2: "anterior", 5: "left posterior"})


@pytest.fixture
def model(small_encoder) -> FinetuneModel:
    return FinetuneModel(small_encoder, GOAL.make_head(small_encoder, is_linear=False), name=GOAL.name)


@pytest.mark.parametrize("is_linear", [True, False])
def test_what_is_loaded_is_what_was_saved(small_encoder, tmp_path: Path, is_linear: bool):
    head = GOAL.make_head(small_encoder, is_linear=is_linear)
    model = FinetuneModel(small_encoder, head, name=GOAL.name, is_frozen=True)
    save_model(tmp_path / MODEL, model, goal=GOAL, provenance={"is_linear": is_linear, "note": [1, 2]})
    loaded = load_model(tmp_path / MODEL)
    assert loaded.goal.class_names == GOAL.class_names
    assert loaded.provenance["note"] == [1, 2]
    assert not loaded.model.training
    batch = {"image": torch.rand(1, 1, 16, 16, 8)}
    assert torch.equal(loaded.model(batch)["segmentation"], model.eval()(batch)["segmentation"])


def test_a_file_that_does_not_hold_what_it_describes_is_refused(model, tmp_path: Path):
    described = {
        "is_linear": True,
        "architecture": model.encoder.architecture,
        "goal": GOAL.describe(),
    }
    save_weights(tmp_path / MODEL, model, provenance=described)
    with pytest.raises(CheckpointError, match="does not hold the network it describes"):
        load_model(tmp_path / MODEL)


def test_a_goal_of_another_version_is_refused(model, tmp_path: Path):
    described = {
        "is_linear": False,
        "architecture": model.encoder.architecture,
        "goal": {"name": "registration"},
    }
    save_weights(tmp_path / MODEL, model, provenance=described)
    with pytest.raises(CheckpointError, match="use the version of medssl that wrote"):
        load_model(tmp_path / MODEL)


def test_an_encoder_is_no_model(ball_run: Path):
    with pytest.raises(CheckpointError, match="without a head"):
        load_model(ball_run / "encoder.safetensors")


def test_models_of_a_run(tmp_path: Path):
    with pytest.raises(UsageError, match=f"holds no {MODEL}"):
        find_models(tmp_path)
    for number in (2, 1):
        (tmp_path / f"fold_{number}").mkdir()
        (tmp_path / f"fold_{number}" / MODEL).touch()
    assert find_models(tmp_path) == [tmp_path / f"fold_{number}" / MODEL for number in (1, 2)]
    assert find_models(tmp_path / "fold_2" / MODEL) == [tmp_path / "fold_2" / MODEL]
