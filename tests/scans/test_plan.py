import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.config.schema import DataConfig
from medssl.scans.plan import plan_crop_size, plan_spacing, planned_shape
from medssl.scans.record import ScanHeader

AUTO = DataConfig()
HIPPOCAMPUS = list(itertools.product((31, 35, 43), (40, 50, 59), (24, 36, 47)))


def header(spacing_mm, shape=(40, 40, 40), orientation="RAS"):
    return ScanHeader(shape, spacing_mm, orientation, "int16", tuple(map(tuple, np.eye(4).tolist())))


def test_explicit_spacing_wins():
    assert plan_spacing([header((1, 1, 1))], DataConfig(spacing_mm=(2, 3, 4))) == (2, 3, 4)


def test_median_spacing_is_planned():
    headers = [header((value, value, 3 * value)) for value in (0.5, 0.8, 0.9, 1.0, 7.0)]
    assert plan_spacing(headers, AUTO) == (0.9, 0.9, 2.7)


def test_stored_axes_are_brought_to_ras():
    headers = [header((5.0, 1.0, 2.0), orientation="SAL"), header((1.0, 5.0, 2.0), orientation="ASR")]
    assert plan_spacing(headers, AUTO) == (2.0, 1.0, 5.0)


def test_similar_spacings_become_one_isotropic_value_of_the_same_volume():
    assert plan_spacing([header((0.8, 0.8, 1.1))], AUTO) == pytest.approx((0.89,) * 3)


def test_coarse_axis_takes_its_tenth_percentile_as_in_nnunet():
    thickness_mm = np.linspace(3, 9, 11)
    headers = [header((0.7, 0.7, value), shape=(400, 400, 40)) for value in thickness_mm]
    assert plan_spacing(headers, AUTO) == (0.7, 0.7, 3.6)


def test_coarse_axis_with_many_voxels_keeps_its_median():
    headers = [header((0.7, 0.7, value), shape=(400, 400, 300)) for value in np.linspace(3, 9, 11)]
    assert plan_spacing(headers, AUTO) == (0.7, 0.7, 6.0)


def test_coarse_axis_never_becomes_finer_than_the_others():
    thickness_mm = [0.1, 0.1, 6, 6, 6, 6, 6]
    headers = [header((0.7, 0.7, value), shape=(400, 400, 40)) for value in thickness_mm]
    assert plan_spacing(headers, AUTO) == (0.7, 0.7, 0.7)


def test_one_more_scan_does_not_change_the_plan():
    headers = [header((1 + 1e-5 * i,) * 3) for i in range(20)]
    assert plan_spacing(headers, AUTO) == plan_spacing([*headers, header((1.00007, 1, 1))], AUTO)


def test_planned_shape_is_along_ras_and_never_empty():
    assert planned_shape(header((3.0, 1.0, 0.5), (10, 40, 50), "SAL"), (1.0, 2.0, 1.5)) == (25, 20, 20)
    assert planned_shape(header((1.0, 1.0, 1.0), (1, 2, 2)), (4.0, 4.0, 4.0)) == (1, 1, 1)


def test_hippocampus_crops_get_a_cube():
    planned = plan_crop_size(HIPPOCAMPUS, spacing_mm=(1, 1, 1), stride=(8, 8, 8), max_voxels=64**3)
    assert planned == (24, 24, 24)


def test_budget_limits_a_cube():
    planned = plan_crop_size([(300, 300, 300)], spacing_mm=(1, 1, 1), stride=(8, 8, 8), max_voxels=64**3)
    assert planned == (64, 64, 64)


def test_anisotropic_crops_have_equal_extent():
    planned = plan_crop_size([(300, 300, 60)], spacing_mm=(1, 1, 4), stride=(8, 8, 4), max_voxels=64**3)
    assert planned == (104, 104, 24)


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (0.7, 0.7, 1.25)])
def test_thin_scans_get_a_flat_crop_of_one_stride(spacing_mm):
    planned = plan_crop_size([(44, 44, 6)], spacing_mm=spacing_mm, stride=(8, 8, 8), max_voxels=64**3)
    assert planned == (40, 40, 8)


def test_one_small_scan_among_many_does_not_shrink_the_crop():
    shapes = [(64, 64, 64)] * 19 + [(10, 10, 10)]
    planned = plan_crop_size(shapes, spacing_mm=(1, 1, 1), stride=(8, 8, 8), max_voxels=64**3)
    assert planned == (64, 64, 64)


@given(
    shapes=st.lists(st.tuples(*[st.integers(2, 400)] * 3), min_size=1, max_size=12),
    spacing_mm=st.one_of(
        st.floats(0.3, 5).map(lambda value: (value,) * 3), st.tuples(*[st.floats(0.3, 5)] * 3)
    ),
    stride=st.tuples(*[st.sampled_from([1, 2, 4, 8, 16, 32])] * 3),
    max_voxels=st.integers(1, 200**3),
)
def test_planned_crops_fit_scans_encoder_and_budget(shapes, spacing_mm, stride, max_voxels):
    size = plan_crop_size(shapes, spacing_mm=spacing_mm, stride=stride, max_voxels=max_voxels)
    is_cube = len(set(size)) == 1
    smallest = (math.lcm(*stride),) * 3 if is_cube else stride
    assert all(side % step == 0 for side, step in zip(size, stride, strict=True))
    assert math.prod(size) <= max_voxels or size in (stride, smallest)
    for axis in range(3):
        held = np.mean([shape[axis] >= size[axis] for shape in shapes])
        assert held >= 0.9 or size[axis] in (stride[axis], smallest[axis])
