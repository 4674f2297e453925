import math
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from medssl.config.schema import OptimiserConfig
from medssl.errors import ConfigError
from medssl.training.predict import map_tensors
from medssl.training.settings import StepSettings
from medssl.training.state import TrainingState, all_alike, build_optimiser, start_state
from medssl.training.step import StepResult, optimise


@pytest.fixture
def batch(standins: SimpleNamespace) -> dict[str, Tensor]:
    batches = standins.make_stream(standins.make_scans(6)).batches(0)
    first: dict[str, Tensor] = next(batches)
    batches.close()
    return first


def take_step(
    standins: SimpleNamespace,
    batch: dict[str, Tensor],
    *,
    settings: StepSettings = StepSettings("cpu"),  # noqa: B008
    objective: Any = None,
    **config: Any,
) -> tuple[TrainingState, StepResult]:
    optimiser = OptimiserConfig(**config)
    state = start_state(standins.make_model(dropout=0.0), settings=settings, config=optimiser)
    result = optimise(
        state,
        settings.move(batch),
        objective=objective or standins.TinyMixture(),
        config=optimiser,
        with_metrics=True,
    )
    return state, result


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_parts_equal_one_large_batch(
    standins: SimpleNamespace, batch: dict[str, Tensor], accumulate: int
) -> None:
    whole, expected = take_step(standins, batch)
    parts, result = take_step(standins, batch, accumulate=accumulate)
    assert result.loss == pytest.approx(expected.loss, rel=1e-5)
    assert result.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4)
    for name, value in expected.values.items():
        torch.testing.assert_close(result.values[name], value, equal_nan=True)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_batch_that_cannot_be_divided_is_refused(
    standins: SimpleNamespace, batch: dict[str, Tensor]
) -> None:
    with pytest.raises(ConfigError, match="accumulate is 3, which does not divide a process's 4 crops"):
        take_step(standins, batch, accumulate=3)


def test_clipping_bounds_the_gradient_and_tells_what_it_was(
    standins: SimpleNamespace, batch: dict[str, Tensor]
) -> None:
    state, result = take_step(standins, batch, clip_norm=0.01)
    gradients = [p.grad for p in state.model.parameters() if p.grad is not None]
    assert result.gradient_norm > 0.01
    assert nn.utils.get_total_norm(gradients) == pytest.approx(0.01, rel=1e-3)
    free, unclipped = take_step(standins, batch, clip_norm=None)
    assert unclipped.gradient_norm == pytest.approx(result.gradient_norm)
    gradients = [p.grad for p in free.model.parameters() if p.grad is not None]
    assert nn.utils.get_total_norm(gradients) == pytest.approx(result.gradient_norm)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing(
    standins: SimpleNamespace, batch: dict[str, Tensor], where: str
) -> None:
    class Broken(standins.TinyMixture):
        def total_loss(self, losses: dict[str, Tensor]) -> Tensor:
            loss = super().total_loss(losses)
            return loss * math.inf if where == "loss" else (loss - loss.detach()).abs().sqrt()

    fresh = standins.make_model(dropout=0.0).state_dict()
    state, result = take_step(standins, batch, objective=Broken(), ema_decay=0.5)
    assert not result.is_finite
    assert math.isfinite(result.loss) == (where == "gradient")
    assert all(torch.equal(value, fresh[name]) for name, value in state.model.state_dict().items())
    assert state.ema is not None
    assert state.ema.n_averaged == 0
    assert not state.optimiser.state


def test_the_moving_average_follows_the_weights(standins: SimpleNamespace, batch: dict[str, Tensor]) -> None:
    config = OptimiserConfig(ema_decay=0.75, learning_rate=0.1)
    state = start_state(standins.make_model(), settings=StepSettings("cpu"), config=config)
    optimise(state, batch, objective=standins.TinyMixture(), config=config)
    first = state.model.encoder.stem.weight.detach().clone()
    optimise(state, batch, objective=standins.TinyMixture(), config=config)
    second = state.model.encoder.stem.weight.detach()
    assert not torch.allclose(first, second)
    torch.testing.assert_close(state.best_weights.encoder.stem.weight, 0.75 * first + 0.25 * second)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_lower_precision_stays_close_to_float32(
    standins: SimpleNamespace, batch: dict[str, Tensor], precision: str, channels_last: bool
) -> None:
    _, expected = take_step(standins, batch)
    settings = StepSettings("cpu", precision, channels_last)
    state, result = take_step(standins, batch, settings=settings)
    assert result.loss == pytest.approx(expected.loss, rel=0.02)
    assert result.gradient_norm == pytest.approx(expected.gradient_norm, rel=0.1)
    assert result.is_finite
    assert all(value.dtype == torch.float32 for value in result.values.values())
    assert state.scaler.is_enabled() == (precision == "float16")


def test_a_float16_overflow_leaves_the_step_out_and_lowers_the_scale(
    standins: SimpleNamespace, batch: dict[str, Tensor]
) -> None:
    config = OptimiserConfig()
    settings = StepSettings("cpu", "float16")
    state = start_state(standins.make_model(), settings=settings, config=config)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = state.model.encoder.stem.weight.detach().clone()
    result = optimise(state, batch, objective=standins.TinyMixture(), config=config)
    assert not math.isfinite(result.gradient_norm)
    assert result.is_finite  # the scale is still being searched
    assert torch.equal(state.model.encoder.stem.weight, before)
    assert state.scaler.get_scale() == 2.0**39


def test_biases_and_norms_are_not_decayed(standins: SimpleNamespace) -> None:
    model = standins.make_model()
    decayed, free = build_optimiser(all_alike(model), OptimiserConfig(weight_decay=0.3)).param_groups
    assert decayed["weight_decay"] == 0.3
    assert free["weight_decay"] == 0
    assert {id(p) for p in free["params"]} == {
        id(p) for name, p in model.named_parameters() if name.endswith("bias") or ".norm." in name
    }


def test_tensors_are_found_in_nested_predictions() -> None:
    class Pair(NamedTuple):
        logits: Tensor
        extra: Tensor | None = None

    one, two = torch.ones(1), torch.full((1,), 2.0)
    nested = {"a": Pair(one), "b": [one, (one, "text")]}
    assert map_tensors(lambda value: 2 * value, nested) == {"a": Pair(two), "b": [two, (two, "text")]}
