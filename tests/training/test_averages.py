import math

import pytest
import torch

from medssl.training.averages import Averages


def test_it_is_the_mean_over_samples_not_over_batches() -> None:
    averages = Averages()
    averages.add({"loss": torch.tensor([1.0, 2.0, 3.0])})
    averages.add({"loss": torch.tensor([10.0])})
    assert averages.compute() == {"loss": 4.0}


def test_nan_does_not_count() -> None:
    averages = Averages()
    averages.add({"accuracy": torch.tensor([1.0, math.nan, 0.0, 0.0]), "never": torch.tensor([math.nan])})
    result = averages.compute()
    assert result["accuracy"] == pytest.approx(1 / 3)
    assert math.isnan(result["never"])


def test_a_saved_half_goes_on_exactly() -> None:
    torch.manual_seed(0)
    halves = torch.rand(2, 50)
    straight, resumed = Averages(), Averages()
    for half in halves:
        straight.add({"loss": half})
    before = Averages()
    before.add({"loss": halves[0]})
    resumed.load_state_dict(before.state_dict())
    resumed.add({"loss": halves[1]})
    assert resumed.compute() == straight.compute()
    resumed.reset()
    assert resumed.compute() == {}
