import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.pretext.views import View, ViewRange, shared_places, take_view, to_grid

CROP = (8, 10, 6)
STILL = {"rotate_degrees": (0.0, 0.0, 0.0), "scale": 0.0, "gamma": 0.0}
MOVING = {"rotate_degrees": (20.0, 20.0, 20.0), "scale": 0.2, "gamma": 0.5}


def ramps(shape):
    """Return a volume ``(3, X, Y, Z)`` that holds each voxel's index over the longest side."""
    return np.indices(shape).astype(np.float32) / max(shape)


def make_range(spacing_mm=(1.0, 1.0, 1.0), **changes) -> ViewRange:
    return ViewRange(CROP, spacing_mm, **(MOVING | changes))


def test_a_view_that_changes_nothing_is_the_crop_itself():
    volume = np.random.RandomState(0).rand(1, 20, 20, 20).astype(np.float32)
    centre = (np.array([3, 5, 7]) + (np.array(CROP) - 1) / 2).astype(np.float32)
    crop = take_view(volume, View(centre, np.eye(3, dtype=np.float32), 1.0), CROP)
    np.testing.assert_allclose(crop, volume[:, 3:11, 5:15, 7:13], atol=1e-5)


def test_the_exponent_changes_intensities():
    volume = np.full((1, 12, 12, 12), 0.25, dtype=np.float32)
    view = View(np.full(3, 5.5, dtype=np.float32), np.eye(3, dtype=np.float32), 0.5)
    np.testing.assert_allclose(take_view(volume, view, CROP), 0.5, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), extra=st.integers(6, 20))
def test_a_view_shows_what_lies_at_its_places(seed, extra):
    shape = tuple(np.add(CROP, extra).tolist())
    view, _ = make_range(gamma=0.0).draw_pair(shape, np.random.RandomState(seed))
    places = view.places(CROP)
    is_inside = ((places >= 0) & (places <= np.array(shape) - 1)).all(axis=-1)
    shown = np.moveaxis(take_view(ramps(shape), view, CROP), 0, -1) * max(shape)
    np.testing.assert_allclose(shown[is_inside], places[is_inside], atol=1e-3)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(3, 30), st.integers(3, 30), st.integers(3, 30)),
)
def test_points_lie_in_the_volume_and_in_both_views(seed, shape):
    first, second = make_range().draw_pair(shape, np.random.RandomState(seed))
    places = shared_places(first, second, shape, CROP)
    assert len(places) > 0
    assert (places >= -1e-4).all()
    assert (places <= np.array(shape) - 1 + 1e-4).all()
    for view in (first, second):
        indices = view.indices(places, CROP)
        assert (indices >= -1e-3).all()
        assert (indices <= np.array(CROP) - 1 + 1e-3).all()


def test_places_and_indices_undo_each_other():
    view, _ = make_range().draw_pair((30, 30, 30), np.random.RandomState(1))
    indices = view.indices(view.places(CROP), CROP)
    np.testing.assert_allclose(np.moveaxis(indices, -1, 0), np.indices(CROP), atol=1e-4)


def test_turns_keep_lengths_in_mm():
    spacing = np.array([0.5, 1.0, 3.0])
    still = make_range(tuple(spacing.tolist()), scale=0.0)
    view, _ = still.draw_pair((40, 40, 40), np.random.RandomState(2))
    places = view.places(CROP) * spacing
    step = (
        np.linalg.norm(places[1, 0, 0] - places[0, 0, 0]),
        np.linalg.norm(places[0, 0, 1] - places[0, 0, 0]),
    )
    assert step == pytest.approx((0.5, 3.0), rel=1e-4)
    assert not np.allclose(view.matrix, np.eye(3), atol=0.01)


def test_nothing_is_changed_where_nothing_may_be():
    view, other = make_range(**STILL).draw_pair((30, 30, 30), np.random.RandomState(3))
    np.testing.assert_allclose(view.matrix, np.eye(3), atol=1e-6)
    assert view.exponent == other.exponent == 1.0
    assert (np.abs(view.centre - other.centre) <= np.array(CROP) / 4).all()


def test_the_grid_is_that_of_torch():
    np.testing.assert_allclose(to_grid(np.array([[0.0, 9.0, 2.5]]), CROP), [[0.0, 1.0, -1.0]], atol=1e-6)
