import copy

import pytest
import torch

from medssl.finetune.model import FinetuneModel
from medssl.finetune.segmentation import Segmentation
from medssl.networks.build import build_encoder

GOAL = Segmentation({0: "background", 1: "ball"})


@pytest.fixture
def make_model():
    def make(*, is_frozen: bool) -> FinetuneModel:
        # A network with batch statistics, which a frozen encoder keeps as well.
        encoder = build_encoder("resnet18", "tiny", crop_size=(32, 32, 32), spacing_mm=(1.0, 1.0, 1.0))
        head = GOAL.make_head(encoder, is_linear=True)
        return FinetuneModel(encoder, head, name=GOAL.name, is_frozen=is_frozen).train()

    return make


@pytest.mark.parametrize("is_frozen", [True, False])
def test_a_frozen_encoder_keeps_weights_and_batch_statistics(make_model, is_frozen: bool):
    model = make_model(is_frozen=is_frozen)
    before = copy.deepcopy(model.encoder.state_dict())
    head_before = copy.deepcopy(model.head.state_dict())
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model({"image": torch.rand(2, 1, 32, 32, 32)})["segmentation"].square().mean().backward()
    optimiser.step()
    after = model.encoder.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after) == is_frozen
    assert any("running_mean" in name for name in after)
    assert not all(torch.equal(model.head.state_dict()[name], head_before[name]) for name in head_before)


def test_train_and_eval_reach_all_but_a_frozen_encoder(make_model):
    frozen, whole = make_model(is_frozen=True), make_model(is_frozen=False)
    assert (frozen.training, frozen.encoder.training, frozen.head.training) == (True, False, True)
    assert whole.encoder.training
    assert not whole.eval().encoder.training
