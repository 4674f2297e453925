import numpy as np
import pytest

from medssl.errors import ConfigError
from medssl.pretext.pairs import PairShape, describe_direction, plan_pairs


@pytest.fixture
def plan(make_context):
    def make(shapes, *, crop=48, smallest=(9, 9, 9), gap=4, jitter=4, **choices) -> PairShape:
        context = make_context(
            scan_shapes=tuple(shapes), crop_size=np.broadcast_to(crop, 3).tolist(), smallest_input=smallest
        )
        return plan_pairs(context, gap=gap, jitter=jitter, **choices)

    return make


def test_patches_are_half_a_crop_where_scans_are_large(plan):
    assert plan([(200, 200, 200)], crop=48).patch_size == (24, 24, 24)
    assert plan([(200, 200, 200)], crop=(50, 48, 40)).patch_size == (24, 24, 20)


def test_patches_are_even_and_two_fit_with_gap_and_jitter(plan):
    pair = plan([(33, 46, 30)])
    assert pair.patch_size == (12, 18, 10)
    assert pair.window_size == (32, 44, 28)


def test_gap_and_jitter_grow_with_the_patch(plan):
    pair = plan([(33, 46, 30)], crop=24, gap=None, jitter=None)
    assert (pair.patch_size, pair.gap, pair.jitter) == ((10, 12, 10), (5, 6, 5), (4, 4, 4))
    pair = plan([(200, 200, 200)], crop=48, gap=None, jitter=None)
    assert (pair.patch_size, pair.gap, pair.jitter) == ((24, 24, 24), (12, 12, 12), (8, 8, 8))


def test_nine_scans_of_ten_hold_a_whole_pair(plan):
    large, small = (60, 60, 60), (40, 60, 60)
    assert plan([*[large] * 10, small]).patch_size == (24, 24, 24)
    assert plan([*[large] * 8, small, small]).patch_size == (16, 24, 24)


def test_patches_are_never_too_small_for_the_encoder(plan):
    assert plan([(24, 60, 60)], smallest=(9, 9, 9)).patch_size == (9, 24, 24)


@pytest.mark.parametrize(
    ("shape", "axes", "classes", "patch_size"),
    [
        ((60, 60, 60), (0, 1, 2), 26, (24, 24, 24)),
        ((60, 60, 12), (0, 1), 8, (24, 24, 9)),
        ((60, 20, 15), (0,), 2, (24, 16, 10)),
    ],
)
def test_axes_too_short_for_a_pair_are_left_out(plan, shape, axes, classes, patch_size):
    pair = plan([shape])
    assert pair.axes == axes
    assert len(pair.directions) == classes
    assert pair.patch_size == patch_size
    assert pair.has_room(shape)


def test_along_other_axes_patches_are_as_long_as_a_crop(plan):
    assert plan([(60, 60, 30)], axes=[0]).patch_size == (24, 48, 26)


def test_directions_are_distinct_and_keep_to_the_axes():
    directions = PairShape.of((4, 4, 4), axes=(2, 0)).directions
    assert len(set(directions)) == 8
    assert (0, 0, 0) not in directions
    assert all(direction[1] == 0 for direction in directions)


@pytest.mark.parametrize(
    ("shape", "has_room"),
    [((12, 12, 12), True), ((11, 12, 12), False), ((12, 12, 3), False), ((12, 4, 12), False)],
)
def test_room_is_two_patches_and_the_gap(shape, has_room):
    assert PairShape.of((4, 4, 4), gap=4, jitter=9).has_room(shape) == has_room


def test_an_axis_that_does_not_separate_needs_room_for_one_patch():
    pair = PairShape.of((4, 4, 4), gap=(4, 9, 9), jitter=2, axes=(0,))
    assert pair.has_room((12, 4, 4))
    assert not pair.has_room((12, 4, 3))
    assert pair.window_size == (14, 6, 6)


def test_what_the_user_chose_is_kept(plan):
    pair = plan([(60, 60, 60)], patch_size=(10, 12, 14), gap=1, jitter=0, axes=[2, 1])
    assert pair == PairShape((10, 12, 14), gap=(1, 1, 1), jitter=(0, 0, 0), axes=(1, 2))


@pytest.mark.parametrize(
    ("shapes", "choices", "words"),
    [
        ([(20, 20, 20)], {}, "no room for two patches of 9 x 9 x 9"),
        ([(60, 60, 60)], {"patch_size": (30, 30, 30)}, "no room for two patches of 30 x 30 x 30"),
        ([(60, 60, 12)], {"axes": [2]}, "no room"),
        ([(60, 60, 6)], {}, "no room"),
        ([(60, 60, 60)], {"patch_size": (8, 12, 12)}, "too small for the encoder"),
        ([(60, 60, 60), (20, 20, 20), (20, 20, 20)], {"axes": [0, 1, 2]}, "no room"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(plan, shapes, choices, words):
    with pytest.raises(ConfigError, match=words) as caught:
        plan(shapes, **choices)
    assert "tasks.position" in str(caught.value)


def test_directions_in_words():
    assert describe_direction((1, 0, 0)) == "right"
    assert describe_direction((-1, -1, 1)) == "left-posterior-superior"
    assert describe_direction((0, 1, -1)) == "anterior-inferior"
