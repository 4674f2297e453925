from itertools import product

import numpy as np
import pytest

from medssl.pretext.crop import CropOrPadd
from medssl.pretext.cues import block_means, border_continuity, gradient_energies, padding_geometry
from medssl.pretext.probe import linear_probe
from medssl.pretext.rotation import RotationPretextd

DIRECTIONS = [direction for direction in product((-1, 0, 1), repeat=3) if any(direction)]


def test_padding_geometry_counts_constant_planes_at_both_ends(make_blobs):
    volume = np.zeros((10, 20, 8), dtype=np.float32)
    volume[2:10, 5:19, 0:8] = make_blobs((8, 14, 8))[0]
    np.testing.assert_allclose(padding_geometry(volume), [0.2, 0.3, 0, 0.2, 0.2, 0])


def test_padding_geometry_takes_dark_anatomy_at_a_face_for_what_it_is(make_blobs):
    volume = make_blobs((8, 8, 8))[0]
    volume[0, :7] = 0
    np.testing.assert_array_equal(padding_geometry(volume), 0)


def test_an_empty_volume_is_padded_evenly():
    np.testing.assert_array_equal(padding_geometry(np.zeros((4, 4, 4))), [1, 1, 1, 0, 0, 0])


@pytest.mark.parametrize("shape", [(9, 9, 9), (10, 7, 5)])
def test_block_means_are_those_of_a_slow_loop(make_blobs, shape):
    volume = make_blobs(shape, smoothness=0.5)[0]
    slow = [
        np.mean([volume[x, y, z] for x, y, z in np.ndindex(shape) if is_in_block((x, y, z), block, shape)])
        for block in np.ndindex(3, 3, 3)
    ]
    np.testing.assert_allclose(block_means(volume), slow, rtol=1e-6)


def is_in_block(voxel, block, shape):
    return all(
        size * b // 3 <= v < size * (b + 1) // 3 for v, b, size in zip(voxel, block, shape, strict=True)
    )


def test_gradient_energies_are_shares_of_squared_steps():
    x, y, _ = np.indices((6, 6, 6)).astype(float)
    np.testing.assert_allclose(gradient_energies(3 * x + 4 * y), [9 / 25, 16 / 25, 0])
    np.testing.assert_array_equal(gradient_energies(np.ones((4, 4, 4))), 0)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_borders_that_the_patches_share_match_best(direction):
    scan = np.random.default_rng(0).normal(size=(10, 10, 10))
    first = tuple(slice(3, 7) for _ in direction)
    second = tuple(slice(3 + 3 * step, 7 + 3 * step) for step in direction)  # one layer in common
    cues = border_continuity(scan[first], scan[second])
    assert cues[:26].min() == 0
    assert cues[:26].argmin() == DIRECTIONS.index(direction)
    if np.count_nonzero(direction) == 1:
        faces = [d for d in DIRECTIONS if np.count_nonzero(d) == 1]
        assert cues[26:].argmax() == faces.index(direction)
        assert cues[26:].max() == pytest.approx(1)


def test_constant_patches_correlate_with_nothing():
    cues = border_continuity(np.zeros((4, 4, 4)), np.ones((4, 4, 4)))
    np.testing.assert_array_equal(cues, [1] * 26 + [0] * 6)


@pytest.fixture
def padding_probe(make_blobs):
    """Accuracy of telling the turn of a padded crop from padding geometry alone; chance is 1/24."""

    def probe(pad, *, count=700):
        rng = np.random.default_rng(0)
        rotate = RotationPretextd("image").set_random_state(seed=0)
        blobs = make_blobs((24, 24, 24))
        features, answers = [], []
        for _ in range(count):
            x, y, z = rng.integers((10, 14, 18), (14, 18, 22))
            sample = rotate({"image": pad(blobs[:, :x, :y, :z])})
            features.append(padding_geometry(sample["image"][0]))
            answers.append(sample["rotation_target"])
        x, y = np.array(features), np.array(answers)
        return linear_probe(x[: count // 2], y[: count // 2], x[count // 2 :], y[count // 2 :])

    return probe


def test_zero_padding_gives_the_turn_away(padding_probe):
    def pad(volume):
        return np.pad(volume, [(0, 0), *((0, 24 - size) for size in volume.shape[1:])])

    assert padding_probe(pad) > 0.3


def test_the_padding_of_short_scans_tells_nothing_of_the_turn(padding_probe):
    crop = CropOrPadd("image", (24, 24, 24)).set_random_state(seed=0)
    assert padding_probe(lambda volume: crop({"image": volume})["image"]) < 0.1


def test_crops_from_inside_a_scan_have_no_padding_to_tell(padding_probe):
    crop = CropOrPadd("image", (8, 8, 8)).set_random_state(seed=0)
    assert padding_probe(lambda volume: crop({"image": volume})["image"]) < 0.1
