from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medssl.scans.covering import covering_crops
from medssl.scans.record import IntensityRecipe, ScanHeader, ScanRecord
from medssl.scans.store import ScanStore

SHAPE = (11, 17, 5)


@pytest.fixture
def channels(tmp_path):
    """Two channels of different intensity."""
    store = ScanStore(tmp_path)
    return [
        store.write(
            ScanRecord(Path(f"/{channel}.nii"), "a", "sub-a"),
            np.random.default_rng(channel).random(SHAPE) / (1 + channel),
            key="k",
            content_hash=f"c{channel}",
            spacing_mm=(1.0, 1.0, 1.0),
            recipe=IntensityRecipe("mr", 0.0, 1.0),
            source=ScanHeader(SHAPE, (1.0, 1.0, 1.0), "RAS", "int16", ()),
            foreground=tuple((0, length) for length in SHAPE),
        )
        for channel in range(2)
    ]


def whole(channels):
    [crop] = covering_crops(channels, SHAPE, fill="edge")
    return crop.voxels


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.tuples(*[st.integers(1, 20)] * 3), fill=st.sampled_from(["mean", "edge"]))
def test_each_voxel_is_seen_by_few_crops_each_a_part_of_the_scan(channels, size, fill):
    seen = np.zeros(SHAPE, dtype=int)
    count = 0
    for crop in covering_crops(channels, size, fill=fill):
        assert (crop.voxels.shape, crop.voxels.dtype) == ((2, *size), np.float32)
        np.testing.assert_array_equal(crop.voxels[:, *crop.inside], whole(channels)[:, *crop.box])
        seen[crop.box] += 1
        count += 1
    assert seen.min() == 1
    assert count == np.prod([-(-length // side) for length, side in zip(SHAPE, size, strict=True)])


def test_content_lies_in_the_middle(channels):
    [crop] = covering_crops(channels, (14, 17, 9), fill="mean")
    assert [(part.start, part.stop) for part in crop.inside] == [(1, 12), (0, 17), (2, 7)]


def test_padding_is_the_mean_of_its_channel_or_the_nearest_voxel(channels):
    [mean] = covering_crops(channels, (13, 17, 5), fill="mean")
    [edge] = covering_crops(channels, (13, 17, 5), fill="edge")
    for channel, volume in enumerate(whole(channels)):
        np.testing.assert_allclose(mean.voxels[channel, [0, -1]], volume.mean(), rtol=1e-6)
        np.testing.assert_array_equal(edge.voxels[channel, 0], volume[0])
        np.testing.assert_array_equal(edge.voxels[channel, -1], volume[-1])
