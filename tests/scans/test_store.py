import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medssl.config.schema import DataConfig
from medssl.errors import MedsslError
from medssl.scans.record import IntensityRecipe, ScanHeader, ScanRecord
from medssl.scans.store import ScanStore, all_finite, open_voxels, recipe_key, widen

RECORD = ScanRecord(Path("/scans/a.nii.gz"), "a", "sub-a")
AFFINE = ((-1.0, 0.0, 0.0, 9.5), (0.0, 1.0, 0.0, 0.25), (0.0, 0.0, 3.0, -7.0), (0.0, 0.0, 0.0, 1.0))
ABOUT = {
    "spacing_mm": (0.7, 0.7, 1.25),
    "recipe": IntensityRecipe("mr", 12.5, 3487.0),
    "source": ScanHeader((10, 20, 30), (1.0, 1.0, 3.0), "LAS", "int16", AFFINE),
    "foreground": ((1, 9), (0, 20), (3, 30)),
}
HALF_PRECISION = 2.0**-11

WRITE_WITHOUT_END = """
import itertools, sys
from pathlib import Path
import numpy as np
from medssl.scans.record import IntensityRecipe, ScanHeader, ScanRecord
from medssl.scans.store import ScanStore

volume = np.random.default_rng(0).random((40, 40, 40))
recipe, header = IntensityRecipe("mr", 0, 1), ScanHeader((1, 1, 1), (1, 1, 1), "RAS", "int16", ())
for number in itertools.count():
    about = dict(spacing_mm=(1, 1, 1), recipe=recipe, source=header, foreground=((0, 1),) * 3)
    store = ScanStore(Path(sys.argv[1]))
    store.write(ScanRecord(Path(), "", ""), volume, key="key", content_hash=str(number), **about)
"""


def random_volume(shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.fixture
def store(tmp_path):
    return ScanStore(tmp_path / "store")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.tuples(*[st.integers(1, 80)] * 3), seed=st.integers(0, 99))
def test_what_is_read_is_what_was_written_to_half_precision(store, shape, seed):
    volume = random_volume(shape, seed)
    prepared = store.write(RECORD, volume, key="k", content_hash=f"{shape}{seed}", **ABOUT)
    stored = open_voxels(prepared.store_path)[:]
    assert stored.dtype == np.float16
    assert prepared.shape == shape
    np.testing.assert_allclose(stored, volume, atol=HALF_PRECISION / 2)


def test_an_entry_is_found_again_with_all_that_is_known_of_it(store):
    written = store.write(RECORD, random_volume((9, 8, 7)), key="k", content_hash="c", **ABOUT)
    assert written.spacing_mm == ABOUT["spacing_mm"]
    assert (written.recipe, written.source) == (ABOUT["recipe"], ABOUT["source"])
    assert written.foreground == ABOUT["foreground"]
    assert ScanStore(store.folder).find(RECORD, key="k", content_hash="c") == written


def test_other_content_and_other_recipes_are_not_found(store):
    store.write(RECORD, random_volume((9, 8, 7)), key="k", content_hash="c", **ABOUT)
    assert store.find(RECORD, key="k", content_hash="d") is None
    assert store.find(RECORD, key="l", content_hash="c") is None


def test_an_entry_counts_only_when_both_files_are_whole(store):
    path = store.write(RECORD, random_volume((9, 8, 7)), key="k", content_hash="c", **ABOUT).store_path
    sidecar = path.with_suffix(".json")
    for damaged in (path, sidecar):
        content = damaged.read_bytes()
        damaged.write_bytes(content[:-5])
        assert store.find(RECORD, key="k", content_hash="c") is None
        damaged.unlink()
        assert store.find(RECORD, key="k", content_hash="c") is None
        damaged.write_bytes(content)
    assert store.find(RECORD, key="k", content_hash="c") is not None


def test_only_the_chunks_that_are_asked_for_are_read(store):
    volume = random_volume((128, 64, 64))
    path = store.write(RECORD, volume, key="k", content_hash="c", compressed=True, **ABOUT).store_path
    content = bytearray(path.read_bytes())
    two_thirds = len(content) * 2 // 3
    content[two_thirds : two_thirds + 1000] = bytes(1000)
    path.write_bytes(content)
    np.testing.assert_allclose(open_voxels(path)[:64], volume[:64], atol=HALF_PRECISION)
    with pytest.raises((RuntimeError, AssertionError)):
        np.testing.assert_allclose(open_voxels(path)[64:], volume[64:], atol=HALF_PRECISION)


def test_only_what_shrinks_is_compressed(store):
    noise = random_volume((40, 40, 40))
    mostly_air = np.pad(noise, 10)
    write = partial(store.write, RECORD, key="k", **ABOUT)
    assert write(noise, content_hash="noise").store_path.suffix == ".npy"
    assert write(mostly_air, content_hash="air").store_path.suffix == ".b2nd"
    assert write(noise, content_hash="told", compressed=True).store_path.suffix == ".b2nd"
    assert write(mostly_air, content_hash="told not", compressed=False).store_path.suffix == ".npy"


@pytest.mark.parametrize("compressed", [True, False])
def test_both_layouts_hold_the_same_voxels(store, compressed):
    volume = random_volume((70, 33, 20))
    written = store.write(RECORD, volume, key="k", content_hash="c", compressed=compressed, **ABOUT)
    box = (slice(3, 67), slice(1, 30), slice(5, 6))
    np.testing.assert_array_equal(open_voxels(written.store_path)[box], volume.astype(np.float16)[box])
    assert store.find(RECORD, key="k", content_hash="c") == written


def test_widening_keeps_every_value_that_float16_can_have():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    stored = halves[(halves >= 0) & (halves <= 1)]
    for voxels in (halves, stored, stored[::3], stored[:0]):
        np.testing.assert_array_equal(widen(voxels), voxels.astype(np.float32))


def test_voxels_are_finite_unless_one_is_not():
    voxels = np.array([0, 1, 0.5, -2], dtype=np.float16)
    assert all_finite(voxels)
    assert all_finite(voxels[:0])
    for odd in (np.nan, np.inf, -np.inf, -np.nan):
        for dtype in (np.float16, np.float32):
            assert not all_finite(np.array([*voxels, odd], dtype=dtype))


def test_threads_can_share_an_open_scan(store):
    volume = random_volume((70, 70, 70))
    path = store.write(RECORD, volume, key="k", content_hash="c", **ABOUT).store_path
    voxels = volume.astype(np.float16)

    def read(seed):
        starts = np.random.default_rng(seed).integers(0, 40, size=(60, 3))
        boxes = [tuple(slice(first, first + 30) for first in start) for start in starts]
        return all(np.array_equal(open_voxels(path)[box], voxels[box]) for box in boxes)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read, range(6)))


def test_the_same_entry_can_be_written_many_times_at_once(store):
    volume = random_volume((40, 40, 40))
    with ThreadPoolExecutor(8) as pool:
        write = partial(store.write, key="k", content_hash="c", **ABOUT)
        written = list(pool.map(write, [RECORD] * 40, [volume] * 40))
    assert set(written) == {store.find(RECORD, key="k", content_hash="c")}
    np.testing.assert_allclose(open_voxels(written[0].store_path)[:], volume, atol=HALF_PRECISION)
    assert sorted(path.suffix for path in (store.folder / "k").iterdir()) == [".json", ".npy"]


def test_a_kill_leaves_no_half_entry(tmp_path):
    entries = tmp_path / "key"
    with subprocess.Popen([sys.executable, "-c", WRITE_WITHOUT_END, str(tmp_path)]) as writer:
        while len(list(entries.glob("*.json"))) < 5:
            assert writer.poll() is None
            time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
    expected = np.random.default_rng(0).random((40, 40, 40)).astype(np.float16)
    for sidecar in entries.glob("[!.]*.json"):
        found = ScanStore(tmp_path).find(RECORD, key="key", content_hash=sidecar.stem)
        assert found is not None
        np.testing.assert_array_equal(open_voxels(found.store_path)[:], expected)


def test_a_full_disk_is_told_with_the_folder_and_leaves_nothing_behind(store, monkeypatch):
    def fail(path, content):
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(MedsslError, match=rf"{store.folder}.*no space left on device"):
        store.write(RECORD, random_volume((9, 8, 7)), key="k", content_hash="c", **ABOUT)
    assert not list((store.folder / "k").iterdir())


def test_the_sidecar_holds_no_name_of_the_source(store):
    path = store.write(RECORD, random_volume((9, 8, 7)), key="k", content_hash="c", **ABOUT).store_path
    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert str(RECORD.path) not in json.dumps(sidecar)
    assert RECORD.subject_id not in json.dumps(sidecar)


@pytest.mark.parametrize(
    "changed",
    [
        {"modality": "ct"},
        {"ct_window_hu": (-160, 240)},
        {"percentiles": (1, 99)},
        {"crop_to_foreground": False},
    ],
)
def test_settings_that_change_voxels_change_the_key(changed):
    assert recipe_key((1, 1, 1), DataConfig(**changed)) != recipe_key((1, 1, 1), DataConfig())


def test_the_planned_spacing_changes_the_key_and_how_it_was_set_does_not():
    assert recipe_key((1, 1, 2), DataConfig()) != recipe_key((1, 1, 1), DataConfig())
    assert recipe_key((1.0, 1.0, 1.0), DataConfig(spacing_mm=(1, 1, 1))) == recipe_key(
        (1, 1, 1), DataConfig()
    )


@pytest.mark.parametrize("same", [{"val_fraction": 0.5}, {"prepare_workers": 3}])
def test_settings_that_leave_voxels_alone_keep_the_key(same):
    assert recipe_key((1, 1, 1), DataConfig(**same)) == recipe_key((1, 1, 1), DataConfig())
