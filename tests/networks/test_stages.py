"""Stages follow crop and spacing as nnU-Net plans them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.networks import stages
from medssl.networks.stages import FEWEST_VOXELS, plan_stages

# What nnU-Net 2.8.1's get_pool_and_conv_props gives with its floor of four voxels:
# crop, spacing, strides and kernels along the three axes, one group of digits a stage.
RECORDED = [
    ((128, 128, 128), (1, 1, 1), "111 222 222 222 222 222", "333 333 333 333 333 333"),
    ((160, 160, 32), (0.8, 0.8, 5), "111 221 221 222 222 222", "331 331 333 333 333 333"),
    ((16, 16, 4), (1, 1, 10), "111 221 221", "331 331 333"),
    ((128, 128, 8), (1, 1, 1), "111 222 221 221 221 221", "333 333 333 333 333 333"),
    ((40, 56, 40), (1, 1, 1), "111 222 222 222", "333 333 333 333"),
    ((20, 96, 96), (3, 0.7, 0.7), "111 122 122 222 222", "133 133 333 333 333"),
    ((64, 20, 160), (5, 5, 0.5), "111 112 112 112 222 222 211", "113 113 113 333 333 333 333"),
]


def digits(groups: str) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(digit) for digit in group) for group in groups.split())


@pytest.mark.parametrize(("crop_size", "spacing_mm", "strides", "kernels"), RECORDED)
def test_plans_what_nnunet_plans(
    crop_size: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    strides: str,
    kernels: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stages, "FEWEST_VOXELS", 4)
    plan = plan_stages(crop_size, spacing_mm, most_stages=99)
    assert plan.strides == digits(strides)
    assert plan.kernel_sizes == digits(kernels)


@pytest.mark.parametrize(("side", "count"), [(64, 6), (63, 6), (32, 5), (24, 4), (16, 4), (8, 3), (3, 1)])
def test_cubes_are_halved_until_two_voxels_are_left(side: int, count: int) -> None:
    assert len(plan_stages((side,) * 3, (1.0,) * 3, most_stages=99).strides) == count


@given(
    crop_size=st.tuples(*[st.integers(2, 200)] * 3),
    spacing_mm=st.tuples(*[st.floats(0.3, 8)] * 3),
    most_stages=st.integers(1, 7),
)
def test_no_plan_runs_out_of_voxels_or_stages(
    crop_size: tuple[int, ...], spacing_mm: tuple[float, ...], most_stages: int
) -> None:
    plan = plan_stages(crop_size, spacing_mm, most_stages=most_stages)
    size = list(crop_size)
    for stride in plan.strides:
        assert set(stride) <= {1, 2}
        size = [-(-voxels // step) for voxels, step in zip(size, stride, strict=True)]
    assert min(size) >= FEWEST_VOXELS
    assert len(plan.strides) == len(plan.kernel_sizes) <= most_stages
    assert plan.strides[0] == (1, 1, 1)
    assert all(stride != (1, 1, 1) for stride in plan.strides[1:])
