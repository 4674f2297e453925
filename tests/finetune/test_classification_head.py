import numpy as np
import pytest
import torch
from torch import nn

from medssl.finetune.classification_head import ClassificationHead, RunningStandardisation

SETTINGS = {"covariates": 2, "outputs": 5, "dropout": 0.5}


def make_inputs(encoder, count=3):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.rand(count, width, 4, 4, 2, generator=generator) for width in encoder.channels]
    return maps, {"covariates": torch.rand(count, 2, generator=generator)}


def test_logits_are_linear_in_the_mean_of_the_coarsest_map_and_the_covariates(small_encoder):
    head = ClassificationHead(small_encoder, **SETTINGS, is_linear=False).eval()
    features, batch = make_inputs(small_encoder)
    inputs = torch.cat([features[-1].mean(dim=(2, 3, 4)), batch["covariates"]], dim=1)
    torch.testing.assert_close(head(features, batch), head.linear(inputs))


def test_dropout_hides_parts_of_the_embedding_in_training_but_no_covariate(small_encoder):
    head = ClassificationHead(small_encoder, **SETTINGS, is_linear=False).train()
    features, batch = make_inputs(small_encoder)
    assert not torch.equal(head(features, batch), head(features, batch))
    nothing = [torch.zeros_like(level) for level in features]
    torch.testing.assert_close(head(nothing, batch), head(nothing, batch), rtol=0, atol=0)


def test_the_linear_probe_is_standardised_and_has_no_dropout(small_encoder):
    head = ClassificationHead(small_encoder, **SETTINGS, is_linear=True)
    assert not any(isinstance(module, nn.Dropout) for module in head.modules())
    assert isinstance(head.prepare, RunningStandardisation)
    assert sum(parameter.numel() for parameter in head.parameters()) == 5 * (small_encoder.channels[-1] + 3)


@pytest.mark.parametrize("is_linear", [False, True])
def test_logits_stay_precise_under_autocast(small_encoder, is_linear):
    head = ClassificationHead(small_encoder, **SETTINGS, is_linear=is_linear).eval()
    features, batch = make_inputs(small_encoder)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(features, batch)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, head(features, batch))


@pytest.mark.parametrize("size", [1, 2, 7, 60])
def test_standardisation_is_over_all_that_was_seen_whatever_the_batch_size(size):
    rng = np.random.default_rng(0)
    seen = torch.from_numpy((rng.normal(size=(60, 3)) * [1e-3, 1, 100] + [5, 0, -1e3]).astype(np.float32))
    layer = RunningStandardisation(3).train()
    for batch in seen.split(size):
        layer(batch)
    result = layer.eval()(seen)
    torch.testing.assert_close(result.mean(dim=0), torch.zeros(3), atol=2e-3, rtol=0)
    torch.testing.assert_close(result.std(dim=0, correction=0), torch.ones(3), atol=2e-3, rtol=0)
    torch.testing.assert_close(layer(seen), result)
    assert not list(layer.parameters())


def test_a_feature_that_never_changes_is_not_blown_up():
    layer = RunningStandardisation(1).train()
    assert torch.equal(layer(torch.full((4, 1), 0.3)), torch.zeros(4, 1))
    assert layer.eval()(torch.full((1, 1), 0.4)).item() == pytest.approx(0.1, abs=1e-5)
