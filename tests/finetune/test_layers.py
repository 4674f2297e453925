import pytest
import torch

from medssl.config.finetune_schema import TransferConfig
from medssl.config.schema import OptimiserConfig
from medssl.finetune.layers import parameters_by_level, plan_layers
from medssl.finetune.model import FinetuneModel
from medssl.finetune.segmentation import Segmentation
from medssl.networks.build import ENCODERS, build_encoder
from medssl.training.schedule import apply_schedule
from medssl.training.state import build_optimiser

GOAL = Segmentation({0: "background", 1: "ball"})


def make_model(name="residual_unet", *, is_frozen=False):
    torch.manual_seed(0)
    encoder = build_encoder(name, "tiny", in_channels=2, crop_size=(64, 64, 64), spacing_mm=(1.0, 1.0, 1.0))
    return FinetuneModel(
        encoder, GOAL.make_head(encoder, is_linear=False), name=GOAL.name, is_frozen=is_frozen
    )


def identities(parameters):
    return sorted(id(parameter) for parameter in parameters)


@pytest.mark.parametrize("name", ENCODERS)
def test_levels_hold_each_parameter_once_and_feed_their_map(name):
    encoder = make_model(name).encoder
    levels = parameters_by_level(encoder)
    assert len(levels) == len(encoder.channels)
    assert identities(p for level in levels for p in level) == identities(encoder.parameters())
    assert all(levels)
    x, y, z = encoder.smallest_input()
    features = encoder(torch.rand(1, 2, x, y, z))
    for number, feature in enumerate(features):
        later = [parameter for level in levels[number + 1 :] for parameter in level]
        if later:
            touched = torch.autograd.grad(feature.sum(), later, allow_unused=True, retain_graph=True)
            assert all(gradient is None for gradient in touched), "fine maps depend on no coarser level"


def test_looking_for_levels_changes_nothing():
    model = make_model()
    model.encoder.train()
    before = {name: tensor.clone() for name, tensor in model.encoder.state_dict().items()}
    state = torch.random.get_rng_state()
    parameters_by_level(model.encoder)
    assert torch.equal(state, torch.random.get_rng_state())
    assert model.encoder.training
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_rates_fall_from_the_head_to_the_finest_level():
    model = make_model()
    transfer = TransferConfig(freeze_fraction=0.25, encoder_rate=0.8, layer_decay=0.5)
    *levels, head = plan_layers(transfer, total_steps=200)(model)
    assert [layer.rate for layer in levels] == pytest.approx([0.8, 0.4, 0.2])
    assert {layer.thaw_step for layer in levels} == {50}
    assert (head.rate, head.thaw_step) == (1.0, 0)
    assert identities(head.parameters) == identities(model.head.parameters())
    finest = parameters_by_level(model.encoder)[0]
    assert identities(levels[-1].parameters) == identities(finest)


def test_from_scratch_everything_learns_alike():
    transfer = TransferConfig(mode="from_scratch", freeze_fraction=0.5, encoder_rate=0.1, layer_decay=0.5)
    layers = plan_layers(transfer, total_steps=10)(make_model())
    assert {(layer.rate, layer.thaw_step) for layer in layers} == {(1.0, 0)}


@pytest.mark.parametrize("mode", ["frozen", "linear_probe"])
def test_a_frozen_encoder_has_no_place_in_the_optimiser(mode):
    model = make_model(is_frozen=True)
    layers = plan_layers(TransferConfig(mode=mode), total_steps=10)(model)
    optimiser = build_optimiser(layers, OptimiserConfig())
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    assert identities(trained) == identities(model.head.parameters())


def test_the_encoder_stands_still_until_it_thaws():
    model = make_model()
    transfer = TransferConfig(freeze_fraction=0.5, layer_decay=0.5)
    optimiser = build_optimiser(plan_layers(transfer, total_steps=4)(model), OptimiserConfig())
    images = torch.rand(2, 2, 16, 16, 16)
    has_moved = []
    for step in range(4):
        before = [parameter.detach().clone() for parameter in model.encoder.parameters()]
        apply_schedule(optimiser, 1e-2, step=step)
        optimiser.zero_grad()
        model({"image": images})[GOAL.name].square().mean().backward()
        optimiser.step()
        pairs = zip(before, model.encoder.parameters(), strict=True)
        has_moved.append(not all(torch.equal(old, new) for old, new in pairs))
    assert has_moved == [False, False, True, True]
