from itertools import product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.pretext.turns import TURNS, Turn, allowed_turns, apply_turn, describe_turn

VOLUME = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
CUBE = np.arange(27, dtype=np.float32).reshape(1, 3, 3, 3)
IDENTITY = Turn((0, 1, 2), (1, 1, 1))

any_turn = st.sampled_from(TURNS)


def test_there_are_24_proper_rotations_with_the_identity_first():
    assert len(set(TURNS)) == 24
    assert TURNS[0] == IDENTITY
    assert all(round(np.linalg.det(turn.matrix())) == 1 for turn in TURNS)


@settings(deadline=None, max_examples=60)
@given(any_turn, any_turn, any_turn)
def test_turns_form_a_group(first, second, third):
    assert first.then(second) in TURNS
    assert first.then(second).then(third) == first.then(second.then(third))
    assert first.then(IDENTITY) == IDENTITY.then(first) == first
    assert first.then(first.inverse()) == first.inverse().then(first) == IDENTITY


@settings(deadline=None, max_examples=60)
@given(any_turn, any_turn)
def test_applying_two_turns_is_applying_their_composition(first, second):
    in_two_steps = apply_turn(apply_turn(VOLUME, first), second)
    np.testing.assert_array_equal(in_two_steps, apply_turn(VOLUME, first.then(second)))


@settings(deadline=None, max_examples=60)
@given(any_turn)
def test_the_inverse_brings_every_voxel_back(turn):
    np.testing.assert_array_equal(apply_turn(apply_turn(VOLUME, turn), turn.inverse()), VOLUME)


def test_the_turns_are_those_that_rot90_generates():
    reached = {CUBE.tobytes()}
    waiting = [CUBE]
    while waiting:
        volume = waiting.pop()
        for axes in ((1, 2), (1, 3), (2, 3)):
            turned = np.ascontiguousarray(np.rot90(volume, axes=axes))
            if turned.tobytes() not in reached:
                reached.add(turned.tobytes())
                waiting.append(turned)
    assert reached == {apply_turn(CUBE, turn).tobytes() for turn in TURNS}


@pytest.mark.parametrize("turn", TURNS, ids=Turn.orientation)
def test_turn_and_orientation_agree_with_nibabel(turn):
    ras, turned = (nib.orientations.axcodes2ornt(codes) for codes in ("RAS", turn.orientation()))
    expected = nib.orientations.apply_orientation(VOLUME[0], nib.orientations.ornt_transform(ras, turned))
    np.testing.assert_array_equal(apply_turn(VOLUME, turn)[0], expected)


@pytest.mark.parametrize("turn", TURNS, ids=Turn.orientation)
def test_the_matrix_says_where_each_voxel_goes(turn):
    turned = apply_turn(CUBE, turn)
    for position in product((-1, 0, 1), repeat=3):
        to = turn.matrix() @ position
        assert turned[0][tuple(to + 1)] == CUBE[0][tuple(np.array(position) + 1)]


@settings(deadline=None, max_examples=60)
@given(any_turn)
def test_the_result_is_contiguous_and_a_copy(turn):
    volume = VOLUME.copy()
    turned = apply_turn(volume, turn)
    assert turned.flags.c_contiguous
    assert not np.shares_memory(turned, volume)


@pytest.mark.parametrize(
    ("crop_size", "spacing_mm", "count"),
    [
        ((32, 32, 32), (1.0, 1.0, 1.0), 24),
        ((32, 32, 32), (1.0, 1.04, 1.0), 24),
        ((32, 32, 32), (1.0, 1.06, 1.0), 8),
        ((32, 32, 32), (0.5, 0.5, 3.0), 8),
        ((32, 32, 32), (0.5, 1.0, 3.0), 4),
        ((32, 32, 16), (1.0, 1.0, 1.0), 8),
        ((16, 32, 32), (3.0, 1.0, 1.0), 8),
        ((32, 32, 16), (1.0, 2.0, 1.0), 4),
        ((32, 24, 16), (1.0, 1.0, 1.0), 4),
        ((32, 32, 32), (1.0, 1.04, 1.085), 8),
    ],
)
def test_how_many_turns_keep_the_geometry(crop_size, spacing_mm, count):
    turns = allowed_turns(crop_size, spacing_mm)
    assert len(turns) == count
    assert turns[0] == IDENTITY


sides = st.tuples(*[st.sampled_from([2, 3])] * 3)
spacings = st.tuples(*[st.sampled_from([1.0, 1.03, 1.06, 2.0])] * 3)


@settings(deadline=None, max_examples=60)
@given(sides, spacings)
def test_allowed_turns_are_a_group_that_maps_the_grid_onto_itself(crop_size, spacing_mm):
    turns = allowed_turns(crop_size, spacing_mm)
    assert {first.then(second) for first in turns for second in turns} == set(turns)
    for turn in turns:
        assert apply_turn(np.zeros((1, *crop_size)), turn).shape[1:] == crop_size
        np.testing.assert_allclose(np.array(spacing_mm)[list(turn.axes)], spacing_mm, rtol=0.05)


def test_each_turn_has_words_of_its_own():
    assert len({describe_turn(turn) for turn in TURNS}) == 24


@pytest.mark.parametrize(
    ("orientation", "words"),
    [
        ("RAS", "not turned"),
        ("RIA", "90 degrees about the left-right axis, anterior to superior"),
        ("RSP", "90 degrees about the left-right axis, anterior to inferior"),
        ("LPS", "180 degrees about the inferior-superior axis"),
        ("ARI", "180 degrees about the right-anterior diagonal"),
        ("SRA", "120 degrees about the right-anterior-superior diagonal"),
    ],
)
def test_the_words_for_a_turn(orientation, words):
    (turn,) = (turn for turn in TURNS if turn.orientation() == orientation)
    assert describe_turn(turn) == words


def test_a_quarter_turn_moves_what_its_words_say():
    volume = np.zeros((1, 3, 3, 3))
    volume[0, 1, 2, 1] = 1  # a mark on the anterior side
    (turn,) = (turn for turn in TURNS if describe_turn(turn).endswith("anterior to superior"))
    assert apply_turn(volume, turn)[0, 1, 1, 2] == 1
