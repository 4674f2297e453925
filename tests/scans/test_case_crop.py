from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medssl.errors import ScanError
from medssl.scans.case_crop import read_case_label, read_case_volume, read_case_window
from medssl.scans.cases import PreparedCase
from medssl.scans.label_store import label_path, write_label
from medssl.scans.labelled import LabelledCase
from medssl.scans.record import IntensityRecipe, ScanHeader, ScanRecord
from medssl.scans.store import ScanStore

SHAPE = (40, 50, 35)


@pytest.fixture
def put(tmp_path):
    """Return a function that puts a case of two channels into a store."""
    store = ScanStore(tmp_path)

    def put_case(labels, shape=SHAPE):
        channels = tuple(
            store.write(
                ScanRecord(Path(f"/{channel}.nii"), "a", "sub-a"),
                np.random.default_rng(channel).random(shape),
                key="k",
                content_hash=f"c{channel}",
                spacing_mm=(1.0, 1.0, 1.0),
                recipe=IntensityRecipe("mr", 0.0, 1.0),
                source=ScanHeader(shape, (1.0, 1.0, 1.0), "RAS", "int16", ()),
                foreground=tuple((0, length) for length in shape),
            )
            for channel in range(2)
        )
        record = LabelledCase("a", "sub-a", (Path("/0.nii"), Path("/1.nii")), None)
        if labels is None:
            return PreparedCase(record, channels)
        path = label_path(store, "k", image_hash="c0", label_hash="l")
        about = write_label(store, path, labels, outside_share=0.0)
        return PreparedCase(record, channels, path, about.class_voxels)

    return put_case


@pytest.fixture
def labels():
    """A large class, and a small one in a corner."""
    volume = np.zeros(SHAPE, np.uint8)
    volume[5:25, 10:30, 8:30] = 1
    volume[38:, 48:, :3] = 2
    return volume


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.tuples(*[st.integers(1, 60)] * 3), seed=st.integers(0, 2**32), share=st.floats(0, 1))
def test_a_window_is_the_same_slice_of_every_channel_and_the_labels(put, labels, size, seed, share):
    case = put(labels)
    window = read_case_window(case, size, np.random.default_rng(seed), foreground_share=share)
    expected_shape = tuple(np.minimum(size, SHAPE))
    assert window.voxels.shape == (2, *expected_shape)
    assert window.label.shape == (1, *expected_shape)
    assert (window.voxels.dtype, window.label.dtype) == (np.float32, np.uint8)
    box = tuple(slice(first, first + side) for first, side in zip(window.start, size, strict=True))
    np.testing.assert_array_equal(window.voxels, read_case_volume(case)[:, *box])
    np.testing.assert_array_equal(window.label[0], labels[box])


def test_every_foreground_window_holds_a_labelled_voxel_of_each_class_in_turn(put, labels):
    case = put(labels)
    rng = np.random.default_rng(0)
    windows = [read_case_window(case, (6, 7, 8), rng, foreground_share=1).label for _ in range(400)]
    assert all(window.any() for window in windows)
    assert np.mean([(window == 2).any() for window in windows]) == pytest.approx(0.5, abs=0.1)


def test_the_share_of_foreground_windows_is_the_wanted_one(put):
    labels = np.zeros(SHAPE, np.uint8)
    labels[20, 20, 20] = 1
    case = put(labels)
    rng = np.random.default_rng(0)
    hits = [read_case_window(case, (4, 4, 4), rng, foreground_share=0.3).label.any() for _ in range(1000)]
    assert np.mean(hits) == pytest.approx(0.3, abs=0.05)


def test_the_voxel_lies_anywhere_in_the_window(put):
    labels = np.zeros(SHAPE, np.uint8)
    labels[20, 2, 34] = 1  # far from one border, near to another, at a third
    case = put(labels)
    rng = np.random.default_rng(0)
    starts = [read_case_window(case, (5, 5, 5), rng, foreground_share=1).start for _ in range(600)]
    x, y, z = (set(axis) for axis in zip(*starts, strict=True))
    assert (x, y, z) == ({16, 17, 18, 19, 20}, {0, 1, 2}, {30})
    counts = np.bincount([start[0] - 16 for start in starts])
    assert np.all(np.abs(counts / 600 - 0.2) < 0.06)


def test_other_windows_lie_anywhere_in_the_scan(put, labels):
    case = put(labels)
    rng = np.random.default_rng(0)
    starts = np.array(
        [read_case_window(case, (38, 49, 35), rng, foreground_share=0).start for _ in range(300)]
    )
    assert [set(axis) for axis in starts.T] == [{0, 1, 2}, {0, 1}, {0}]


def test_the_generator_alone_decides_the_place(put, labels):
    case = put(labels)
    windows = [
        read_case_window(case, (8, 8, 8), np.random.default_rng(seed), foreground_share=0.5)
        for seed in (3, 3, 4)
    ]
    assert windows[0].start == windows[1].start != windows[2].start


@pytest.mark.parametrize("has_labels", [False, True])
def test_a_case_without_labelled_voxels_is_cropped_anywhere(put, has_labels):
    case = put(np.zeros(SHAPE, np.uint8) if has_labels else None)
    window = read_case_window(case, (8, 8, 8), np.random.default_rng(0), foreground_share=1)
    assert window.voxels.shape == (2, 8, 8, 8)
    assert (window.label is not None) == has_labels


def test_a_case_without_a_label_map_has_none_to_read(put, labels):
    np.testing.assert_array_equal(read_case_label(put(labels)), labels)
    with pytest.raises(ScanError, match="no label map"):
        read_case_label(put(None))
