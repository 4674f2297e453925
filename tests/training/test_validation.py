import math
from types import SimpleNamespace

import pytest
import torch

from medssl.training.handlers.validation import PretextMeasure
from medssl.training.settings import StepSettings
from medssl.training.state import start_state


@pytest.mark.parametrize("batch_size", [1, 4, 5])
def test_it_is_the_mean_over_samples_however_they_are_batched(
    standins: SimpleNamespace, batch_size: int
) -> None:
    scans, mixture, rows = standins.make_scans(5), standins.TinyMixture(), []
    state = start_state(
        standins.make_model(dropout=0.5),
        settings=StepSettings("cpu"),
        config=standins.make_config().optimiser,
    )

    def health(embeddings: torch.Tensor) -> dict[str, float]:
        rows.append(embeddings)
        return {"effective_rank": 1.0}

    stream = standins.make_stream(scans, batch_size=batch_size)
    fixed = stream.fixed_batches(scans, crops_per_scan=2)
    result = PretextMeasure(state, mixture, fixed, health)()

    whole = stream.collate([stream.sample(scan, crop) for scan in scans for crop in range(2)])
    model = state.model.eval()
    with torch.inference_mode():
        predictions = model(whole)
        losses = mixture.losses(predictions, whole)
        metrics = mixture.metrics(predictions, whole)
        expected_rows = model.encoder.embed(whole["image"])
    assert result["val/loss"] == pytest.approx(float(mixture.total_loss(losses)), rel=1e-5)
    assert result["val/flip/loss"] == pytest.approx(float(losses["flip"].mean()), rel=1e-5)
    assert result["val/mean/mae"] == pytest.approx(float(metrics["mean/mae"].nanmean()), rel=1e-5)
    assert result["embeddings/effective_rank"] == 1.0
    torch.testing.assert_close(rows[0], expected_rows)


def test_the_moving_average_is_what_is_validated(standins: SimpleNamespace) -> None:
    scans = standins.make_scans(2)
    config = standins.make_config(optimiser={"ema_decay": 0.5})
    state = start_state(standins.make_model(), settings=StepSettings("cpu"), config=config.optimiser)
    with torch.no_grad():
        state.model.heads["flip"].weight.fill_(math.nan)
    fixed = standins.make_stream(scans).fixed_batches(scans, crops_per_scan=2)
    result = PretextMeasure(state, standins.TinyMixture(), fixed, standins.embedding_health)()
    assert math.isfinite(result["val/loss"])


def test_validating_leaves_training_as_it_was(standins: SimpleNamespace) -> None:
    scans = standins.make_scans(2)
    state = start_state(
        standins.make_model(), settings=StepSettings("cpu"), config=standins.make_config().optimiser
    )
    fixed = standins.make_stream(scans).fixed_batches(scans, crops_per_scan=2)
    random_state = torch.get_rng_state()
    PretextMeasure(state, standins.TinyMixture(), fixed, standins.embedding_health)()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert state.model.training
