from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medssl.config.schema import DataConfig
from medssl.scans.geometry import as_ras, to_ras
from medssl.scans.grid import label_map_on_source, resample_labels
from medssl.scans.prepare_volume import prepare_volume
from medssl.scans.read import read_header, read_volume
from medssl.scans.record import ScanHeader
from medssl.scans.resample import LINEAR_ORDER, resample_to_shape
from medssl.scans.simulate import ORIENTATIONS

shapes = st.tuples(*[st.integers(2, 30)] * 3)


def whole(shape):
    return tuple((0, length) for length in shape)


def header_of(shape, orientation="RAS", spacing_mm=(1.0, 1.0, 1.0)):
    """Header of a file that stores a RAS volume of this shape in another axis order."""
    codes = (nib.orientations.axcodes2ornt(axes) for axes in ("RAS", orientation))
    turn = nib.orientations.ornt_transform(*codes)
    blank = np.zeros(shape, np.uint8)
    stored = nib.apply_orientation(blank, turn)
    affine = np.diag([*spacing_mm, 1.0]) @ nib.orientations.inv_ornt_aff(turn, shape)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return ScanHeader(stored.shape, tuple(spacing), orientation, "uint8", tuple(map(tuple, affine)))


def on_source(probabilities, *, header, foreground, cuts=(), axis=0, kept=None):
    """What `label_map_on_source` makes of a volume that is cut into slabs."""
    volume = np.asarray(probabilities, dtype=np.float32)
    return label_map_on_source(
        iter(np.split(volume, cuts, axis=1 + axis)),
        axis=axis,
        shape=volume.shape[1:],
        header=header,
        foreground=foreground,
        probabilities=kept,
    )


def to_source(volume, *, header, foreground):
    """A volume on its source, as the probability of the second class."""
    kept = np.full((2, *header.shape), np.nan, np.float32)
    on_source([np.zeros_like(volume), volume], header=header, foreground=foreground, kept=kept)
    return kept[1]


def ball(shape, centre, radius):
    grid = np.moveaxis(np.indices(shape), 0, -1)
    return np.linalg.norm((grid - centre) / radius, axis=-1) <= 1


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


class TestToSource:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_reading_is_undone_exactly_in_all_48_axis_orders(self, orientation):
        volume = np.random.default_rng(0).random((4, 5, 6), dtype=np.float32)
        header = header_of(volume.shape, orientation)
        stored = to_source(volume, header=header, foreground=whole(volume.shape))
        assert stored.shape == header.shape
        read, _ = to_ras(stored, np.array(header.affine))
        np.testing.assert_array_equal(read, volume)

    def test_a_file_read_is_a_file_given_back(self, write_scan, smooth_volume):
        turn = nib.eulerangles.euler2mat(0.1, 0.2, -0.1)
        oblique = nib.affines.from_matvec(turn @ [[0, -2, 0], [0, 0, 3], [1, 0, 0]], [4, 5, 6])
        path = write_scan(volume=smooth_volume, affine=oblique)
        volume, _ = read_volume(path)
        stored = np.zeros(smooth_volume.shape)
        as_ras(stored, read_header(path))[...] = volume
        np.testing.assert_array_equal(stored, smooth_volume)

    def test_outside_of_the_foreground_all_is_background(self):
        header = header_of((8, 9, 10), "SPL")
        foreground = ((2, 5), (1, 9), (4, 6))
        kept = np.full((2, *header.shape), np.nan, np.float32)
        one_class = np.stack([np.zeros((3, 8, 2)), np.ones((3, 8, 2))])
        on_source(one_class, header=header, foreground=foreground, kept=kept)
        read, _ = to_ras(kept[1], np.array(header.affine))
        expected = np.zeros((8, 9, 10))
        expected[2:5, 1:9, 4:6] = 1
        np.testing.assert_array_equal(read, expected)
        np.testing.assert_array_equal(kept.sum(axis=0), 1)

    @given(n_prepared=st.integers(2, 40), n_source=st.integers(2, 40))
    def test_outer_corners_stay_where_they_are(self, n_prepared, n_source):
        """A ramp that is linear between the corners is so again on the other grid, but for its ends."""
        ramp = (np.arange(n_prepared, dtype=np.float32) + 0.5) / n_prepared
        volume = np.broadcast_to(ramp[:, None, None], (n_prepared, 2, 2))
        header = header_of((n_source, 2, 2))
        found = to_source(volume, header=header, foreground=whole(header.shape))[:, 0, 0]
        expected = (np.arange(n_source) + 0.5) / n_source
        reach = max(
            1 / n_prepared, 2 / n_source
        )  # of borders and of smoothing, which see the end of the ramp
        inner = (expected > reach) & (expected < 1 - reach)
        np.testing.assert_allclose(found[inner], expected[inner], atol=0.02)
        np.testing.assert_allclose(found + found[::-1], 1, atol=1e-5)

    def test_resampling_there_and_back_gives_a_smooth_scan_again(self, write_scan):
        noise = np.random.default_rng(0).normal(size=(30, 40, 12))
        smooth = ndimage.gaussian_filter(noise, (4, 4, 2))
        volume = np.round(1000 * (smooth - smooth.min()) / np.ptp(smooth))
        path = write_scan(volume=volume[::-1], affine=np.diag([-1.0, 1.0, 3.0, 1.0]))
        ras, affine = read_volume(path)
        header = read_header(path)
        prepared = prepare_volume(
            ras, affine, header=header, path=Path("a.nii"), spacing_mm=(1.5, 1.5, 1.5), data=DataConfig()
        )
        assert prepared.voxels.shape != ras.shape
        back = to_source(prepared.voxels, header=header, foreground=prepared.foreground)
        lower, upper = prepared.recipe.lower, prepared.recipe.upper
        expected = np.clip((volume[::-1] - lower) / (upper - lower), 0, 1)
        assert np.corrcoef(back.ravel(), expected.ravel())[0, 1] > 0.99
        assert np.abs(back - expected).mean() < 0.03


class TestLinear:
    @settings(max_examples=25)
    @given(shape_from=shapes, shape_to=shapes)
    def test_nothing_over_or_undershoots(self, shape_from, shape_to):
        volume = np.random.default_rng(0).integers(0, 2, shape_from).astype(np.float32)
        result = resample_to_shape(volume, shape_to, order=LINEAR_ORDER)
        assert result.shape == shape_to
        assert -1e-6 <= result.min() <= result.max() <= 1 + 1e-6

    def test_equals_scipy_zoom(self):
        volume = np.random.default_rng(0).random((10, 7, 9), dtype=np.float32)
        expected = ndimage.zoom(volume, (2, 3, 1.0), order=1, mode="reflect", grid_mode=True)
        np.testing.assert_allclose(resample_to_shape(volume, (20, 21, 9), order=1), expected, atol=1e-6)


class TestLabels:
    def test_the_most_probable_class_wins(self):
        probabilities = np.random.default_rng(0).random((4, 6, 7, 8), dtype=np.float32)
        header = header_of((6, 7, 8), "LIP")
        labels = on_source(probabilities, header=header, foreground=whole((6, 7, 8)))
        assert labels.dtype == np.uint8
        read, _ = to_ras(labels, np.array(header.affine))
        np.testing.assert_array_equal(read, probabilities.argmax(axis=0))

    def test_probabilities_are_interpolated_before_they_are_compared(self):
        probabilities = np.random.default_rng(0).random((3, 6, 7, 8), dtype=np.float32)
        header = header_of((9, 14, 5))
        foreground = ((1, 8), (0, 14), (0, 4))
        labels = on_source(probabilities, header=header, foreground=foreground)
        volumes = [to_source(one, header=header, foreground=foreground) for one in probabilities]
        np.testing.assert_array_equal(labels, np.argmax(volumes, axis=0))

    @settings(max_examples=40)
    @given(data=st.data(), shape_from=shapes, shape_to=shapes, axis=st.integers(0, 2))
    def test_slabs_give_what_the_whole_volume_gives(self, data, shape_from, shape_to, axis):
        cuts = data.draw(st.lists(st.integers(1, shape_from[axis] - 1), unique=True).map(sorted))
        probabilities = np.random.default_rng(0).random((3, *shape_from), dtype=np.float32)
        header, foreground = header_of(shape_to, "PIL"), whole(shape_to)
        expected, kept = np.zeros((2, 3, *header.shape), np.float32)
        on_source(probabilities, header=header, foreground=foreground, kept=expected)
        found = on_source(
            probabilities, header=header, foreground=foreground, cuts=cuts, axis=axis, kept=kept
        )
        np.testing.assert_allclose(kept, expected, atol=1e-6)
        np.testing.assert_array_equal(found, kept.argmax(axis=0))

    def test_outside_of_the_foreground_is_background(self):
        probabilities = [np.zeros((2, 2, 2), np.float32), np.ones((2, 2, 2), np.float32)]
        foreground = ((1, 3), (0, 2), (4, 6))
        labels = on_source(probabilities, header=header_of((4, 4, 6)), foreground=foreground)
        assert labels.sum() == labels[1:3, :2, 4:].sum() == 8

    def test_of_equal_classes_the_first_wins(self):
        probabilities = np.full((3, 2, 2, 2), 0.3, np.float32)
        labels = on_source(probabilities, header=header_of((2, 2, 2)), foreground=whole((2, 2, 2)))
        assert not labels.any()

    def test_labels_that_fit_are_untouched(self):
        labels = np.random.default_rng(0).integers(0, 9, (5, 6, 7)).astype(np.uint8)
        assert resample_labels(labels, (5, 6, 7)) is labels

    @given(shape_from=shapes, shape_to=shapes)
    @settings(max_examples=25)
    def test_no_class_appears_that_was_not_there(self, shape_from, shape_to):
        labels = np.random.default_rng(0).choice([0, 3, 200], shape_from).astype(np.uint8)
        result = resample_labels(labels, shape_to)
        assert result.shape == shape_to
        assert set(np.unique(result)) <= {0, 3, 200}

    @pytest.mark.parametrize("shape_to", [(80, 40, 60), (30, 50, 36), (26, 32, 60)])
    def test_shapes_survive_the_way_there_and_back(self, shape_to):
        labels = np.zeros((40, 50, 24), np.uint8)
        labels[ball(labels.shape, (14, 18, 12), (10, 12, 7))] = 1
        labels[ball(labels.shape, (30, 35, 10), (8, 11, 6))] = 2
        prepared = resample_labels(labels, shape_to)
        probabilities = [prepared == label for label in range(3)]
        back = on_source(probabilities, header=header_of(labels.shape), foreground=whole(labels.shape))
        for label in (1, 2):
            assert dice(back == label, labels == label) > 0.95


def test_one_brain_in_eight_axis_orders_comes_back_to_each(shared_data):
    """What is found on the prepared grid lies, on every file's own grid, at the same place of the body."""
    maps = []
    for path in sorted((shared_data / "messy" / "orientations").glob("*.nii.gz")):
        volume, affine = read_volume(path)
        header = read_header(path)
        prepared = prepare_volume(
            volume, affine, header=header, path=path, spacing_mm=(3.0, 3.0, 3.0), data=DataConfig()
        )
        bright = prepared.voxels > 0.5
        probabilities = [(~bright).astype(np.float32), bright.astype(np.float32)]
        labels = on_source(probabilities, header=header, foreground=prepared.foreground)
        assert labels.shape == header.shape
        maps.append(np.asarray(nib.as_closest_canonical(nib.Nifti1Image(labels, header.affine)).dataobj) > 0)
    assert len(maps) == 8
    assert maps[0].any()
    assert min(dice(one, other) for one, other in product(maps, maps)) > 0.98
