import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medssl.training.schedule import apply_schedule, learning_rate_factor


@given(st.integers(1, 500), st.floats(0, 0.9))
def test_it_rises_then_falls_and_is_never_zero(total: int, warmup: float) -> None:
    factors = [learning_rate_factor(step, total_steps=total, warmup_fraction=warmup) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_it_agrees_with_torch_without_warm_up() -> None:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=20)
    for step in range(20):
        ours = learning_rate_factor(step, total_steps=20, warmup_fraction=0)
        assert ours == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        reference.step()


def test_warm_up_is_linear_up_to_the_peak() -> None:
    factors = [learning_rate_factor(step, total_steps=40, warmup_fraction=0.1) for step in range(5)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_all_groups_get_the_rate() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    optimiser = torch.optim.SGD(groups, lr=1.0)
    apply_schedule(optimiser, 0.25, step=0)
    assert [group["lr"] for group in optimiser.param_groups] == [0.25, 0.25]


def test_a_group_has_its_own_rate_and_thaws_when_its_time_has_come() -> None:
    frozen, free = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    groups = [{"params": [frozen], "rate": 0.5, "thaw_step": 2}, {"params": [free]}]
    optimiser = torch.optim.SGD(groups, lr=1.0)
    for step, is_thawed in ((0, False), (1, False), (2, True)):
        apply_schedule(optimiser, 0.2, step=step)
        assert frozen.requires_grad == is_thawed
        assert free.requires_grad
    assert [group["lr"] for group in optimiser.param_groups] == [0.1, 0.2]
