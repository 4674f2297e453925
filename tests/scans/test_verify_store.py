import time

import numpy as np
import pytest

from medssl.config.schema import DataConfig
from medssl.progress import SilentProgress
from medssl.scans.check_headers import check_scans
from medssl.scans.find import find_scans
from medssl.scans.prepare import prepare_scans
from medssl.scans.store import ScanStore, open_voxels
from medssl.scans.verify_store import repair, verified_meanwhile

DATA = DataConfig(prepare_workers=0)


@pytest.fixture
def store(tmp_path):
    return ScanStore(tmp_path / "store")


@pytest.fixture
def scans(tmp_path, write_scan, smooth_volume, store):
    for number, name in enumerate("abc"):
        write_scan(f"in/{name}.nii.gz", volume=np.roll(smooth_volume, number, axis=0))
    checked, _ = check_scans(find_scans(tmp_path / "in"), progress=SilentProgress())
    prepared, _ = prepare_scans(
        checked, store=store, spacing_mm=(1.0, 1.0, 1.0), data=DATA, progress=SilentProgress()
    )
    return prepared


@pytest.fixture
def damage():
    def flip_a_bit(scan):
        damaged = bytearray(scan.store_path.read_bytes())
        damaged[-40] ^= 4
        scan.store_path.write_bytes(damaged)

    return flip_a_bit


def test_a_damaged_scan_is_repaired_also_where_it_is_open(scans, store, damage):
    whole = scans[1].store_path.read_bytes()
    voxels = open_voxels(scans[1].store_path)[:].copy()
    damage(scans[1])
    open_voxels.cache_clear()
    open_voxels(scans[1].store_path)
    told = []
    for scan in scans:
        repair(scan, store=store, data=DATA, tell=told.append)
    assert told == [f"{scans[1].record.path} was damaged in the store and has been prepared anew."]
    assert scans[1].store_path.read_bytes() == whole
    np.testing.assert_array_equal(open_voxels(scans[1].store_path)[:], voxels)


@pytest.mark.parametrize(("change", "reason"), [("remove", "no longer there"), ("replace", "has changed")])
def test_what_cannot_be_repaired_is_told_with_the_reason(
    scans, store, damage, write_scan, smooth_volume, change, reason
):
    damage(scans[0])
    if change == "remove":
        scans[0].record.path.unlink()
    else:
        write_scan("in/a.nii.gz", volume=smooth_volume[::-1] * 2)
    told = []
    repair(scans[0], store=store, data=DATA, tell=told.append)
    assert len(told) == 1
    assert "cannot be prepared anew" in told[0]
    assert reason in told[0]


def test_it_goes_on_in_the_background_until_the_end(scans, store, damage):
    damage(scans[2])
    told = []
    with verified_meanwhile(scans, store=store, data=DATA, tell=told.append):
        until = time.monotonic() + 20
        while not told and time.monotonic() < until:
            time.sleep(0.01)
    assert len(told) == 1
    endless = (scan for _ in range(10**9) for scan in scans)
    with verified_meanwhile(endless, store=store, data=DATA, tell=told.append):
        pass  # ends although there is more to verify
