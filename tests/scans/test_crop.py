from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medssl.scans.crop import read_box, read_window
from medssl.scans.record import IntensityRecipe, ScanHeader, ScanRecord
from medssl.scans.store import ScanStore, open_voxels


@pytest.fixture
def put(tmp_path):
    """Return a function that puts a volume into a store."""

    def put_volume(volume):
        return ScanStore(tmp_path).write(
            ScanRecord(Path("/a.nii"), "a", "sub-a"),
            volume,
            key="k",
            content_hash="c",
            spacing_mm=(1.0, 1.0, 1.0),
            recipe=IntensityRecipe("mr", 0.0, 1.0),
            source=ScanHeader(volume.shape, (1.0, 1.0, 1.0), "RAS", "int16", ()),
            foreground=tuple((0, length) for length in volume.shape),
        )

    return put_volume


@pytest.fixture
def scan(put):
    return put(np.random.default_rng(0).random((40, 50, 35)))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.tuples(*[st.integers(1, 60)] * 3), seed=st.integers(0, 2**32))
def test_a_window_is_a_slice_of_the_stored_scan(scan, size, seed):
    window = read_window(scan, size, np.random.default_rng(seed))
    assert window.voxels.shape == (1, *np.minimum(size, scan.shape))
    assert window.voxels.dtype == np.float16
    box = tuple(slice(first, first + side) for first, side in zip(window.start, size, strict=True))
    np.testing.assert_array_equal(window.voxels[0], open_voxels(scan.store_path)[:][box])


def test_a_box_is_clipped_to_the_scan(scan):
    voxels = read_box(scan, (30, 0, 5), (20, 10, 4))
    np.testing.assert_array_equal(voxels[0], open_voxels(scan.store_path)[:][30:40, :10, 5:9])
    assert voxels.dtype == np.float32


def test_the_generator_alone_decides_the_place(scan):
    starts = [read_window(scan, (8, 8, 8), np.random.default_rng(seed)).start for seed in (1, 1, 2)]
    assert starts[0] == starts[1] != starts[2]


def test_every_place_is_drawn_and_all_about_equally_often(put):
    scan = put(np.ones((10, 12, 9)))
    rng = np.random.default_rng(0)
    starts = np.array([read_window(scan, (8, 8, 8), rng).start for _ in range(900)])
    for axis, places in enumerate((3, 5, 2)):
        counts = np.bincount(starts[:, axis], minlength=places)
        assert len(counts) == places
        assert np.all(np.abs(counts / 900 - 1 / places) < 0.06)


def test_nearly_empty_windows_are_drawn_again(put):
    volume = np.full((80, 16, 16), 0.01)
    volume[:40] = 0.5
    scan = put(volume)
    rng = np.random.default_rng(0)
    empty = [read_window(scan, (16, 16, 16), rng).voxels.max() < 0.1 for _ in range(300)]
    assert np.mean(empty) < 0.05  # 0.4 of all places are empty, and 0.4 ** 5 is 0.01


def test_an_empty_scan_is_read_all_the_same(put):
    window = read_window(put(np.zeros((20, 20, 20))), (8, 8, 8), np.random.default_rng(0))
    assert window.voxels.shape == (1, 8, 8, 8)
