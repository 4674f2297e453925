import torch
from hypothesis import given
from hypothesis import strategies as st

from medssl.training.seeds import derive_seed, seed_step

parts = st.lists(st.one_of(st.integers(0, 10**9), st.text(max_size=5)), min_size=1, max_size=4)


@given(parts)
def test_a_seed_fits_an_int64_tensor_and_comes_again(values: list) -> None:
    seed = derive_seed(*values)
    assert torch.tensor([seed], dtype=torch.int64).item() == seed >= 0
    assert derive_seed(*values) == seed


@given(parts, parts)
def test_different_parts_give_different_seeds(first: list, second: list) -> None:
    assert (derive_seed(*first) == derive_seed(*second)) == (repr(first) == repr(second))


def test_seeds_do_not_depend_on_the_process() -> None:
    assert derive_seed("crop", 0, 1) == 6174575857696756032


def test_a_step_draws_the_same_whatever_came_before() -> None:
    seed_step(1, 7, 0)
    first = torch.rand(3)
    torch.rand(5)
    seed_step(1, 7, 0)
    assert torch.equal(torch.rand(3), first)
    seed_step(1, 7, 1)
    assert not torch.equal(torch.rand(3), first)
