import gzip
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import numpy as np
import pytest

from medssl.config.schema import DataConfig
from medssl.errors import MedsslError, ScanError
from medssl.progress import SilentProgress
from medssl.scans import once, prepare
from medssl.scans.check_headers import check_scans
from medssl.scans.find import find_scans
from medssl.scans.prepare import prepare_scans
from medssl.scans.processes import Died
from medssl.scans.store import ScanStore, open_voxels

HERE = DataConfig(prepare_workers=0)
ONE_MM = (1.0, 1.0, 1.0)


@pytest.fixture
def store(tmp_path):
    return ScanStore(tmp_path / "store")


@pytest.fixture
def scans(tmp_path, write_scan, smooth_volume):
    """Four different scans, a to d."""
    for number, name in enumerate("abcd"):
        write_scan(f"in/{name}.nii.gz", volume=np.roll(smooth_volume, number, axis=0))
    return checked(tmp_path / "in")


@pytest.fixture
def reads(monkeypatch):
    """The names of the files whose voxels were read."""
    names = []

    def read_and_note(path, *, time_point):
        names.append(path.name)
        return read_volume(path, time_point=time_point)

    read_volume = prepare.read_volume
    monkeypatch.setattr(prepare, "read_volume", read_and_note)
    return names


def checked(source):
    scans, _ = check_scans(find_scans(source), progress=SilentProgress())
    return scans


def run(scans, store, *, data=HERE, spacing_mm=ONE_MM, progress=None):
    progress = progress or SilentProgress()
    return prepare_scans(scans, store=store, spacing_mm=spacing_mm, data=data, progress=progress)


def replace_voxels(path, write_scan, volume):
    """Write another scan over one, at a time that the file system can tell apart."""
    write_scan(f"in/{path.name}", volume=volume)
    os.utime(path, ns=(0, 1))


def test_stored_voxels_are_the_normalised_source_in_ras(tmp_path, write_scan, store):
    ramp = np.add.outer(np.add.outer(np.arange(10) * 100, np.arange(12) * 7), np.arange(9) * 3)
    write_scan("in/a.nii.gz", volume=ramp[::-1], affine=np.diag([-1.0, 1.0, 1.0, 1.0]))
    (prepared,), skipped = run(checked(tmp_path / "in"), store)
    assert not skipped
    assert prepared.source.orientation == "LAS"
    lower, upper = prepared.recipe.lower, prepared.recipe.upper
    expected = np.clip((ramp - lower) / (upper - lower), 0, 1)
    assert expected.std() > 0.1
    np.testing.assert_allclose(open_voxels(prepared.store_path)[:], expected, atol=2.0**-11)


def test_scans_are_resampled_to_the_planned_spacing(scans, store):
    prepared, _ = run(scans, store, spacing_mm=(2.0, 1.0, 0.5))
    assert {scan.shape for scan in prepared} == {(6, 14, 32)}
    assert {scan.spacing_mm for scan in prepared} == {(2.0, 1.0, 0.5)}


def test_empty_border_is_cut_off_unless_told_otherwise(tmp_path, write_scan, smooth_volume, store):
    write_scan("in/a.nii.gz", volume=np.pad(smooth_volume + 500, 12))
    (cut,), _ = run(checked(tmp_path / "in"), store)
    (whole,), _ = run(
        checked(tmp_path / "in"), store, data=HERE.model_copy(update={"crop_to_foreground": False})
    )
    assert cut.shape == tuple(length + 6 for length in smooth_volume.shape)
    assert whole.shape == tuple(length + 24 for length in smooth_volume.shape)


def test_results_keep_the_order_and_name_their_scans(scans, store):
    backwards = scans[::-1]
    prepared, skipped = run(backwards, store)
    assert [scan.record for scan in prepared] == [scan.record for scan in backwards]
    assert not skipped


def test_a_second_run_prepares_nothing(scans, store, reads):
    first = run(scans, store)
    assert len(reads) == 4
    assert run(scans, store) == first
    assert len(reads) == 4


def test_a_run_without_the_list_of_hashes_still_finds_what_is_stored(scans, store, reads):
    first = run(scans, store)
    (store.folder / "source_hashes.jsonl").unlink()
    assert run(scans, store) == first
    assert len(reads) == 4


def test_an_interrupted_run_goes_on_where_it_stopped(scans, store, monkeypatch, reads):
    def stop_at_c(path, *, time_point):
        if path.name == "c.nii.gz":
            raise KeyboardInterrupt
        return read_and_note(path, time_point=time_point)

    read_and_note = prepare.read_volume
    monkeypatch.setattr(prepare, "read_volume", stop_at_c)
    with pytest.raises(KeyboardInterrupt):
        run(scans, store)
    monkeypatch.setattr(prepare, "read_volume", read_and_note)
    prepared, _ = run(scans, store)
    assert len(prepared) == 4
    assert reads == ["a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz"]


def test_only_what_changed_is_redone(scans, store, reads, write_scan, smooth_volume):
    before, _ = run(scans, store)
    replace_voxels(scans[1].record.path, write_scan, np.flip(smooth_volume, axis=2))
    after, _ = run(scans, store)
    assert reads[4:] == ["b.nii.gz"]
    changed = [old.record.scan_id for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [scans[1].record.scan_id]


def test_another_recipe_is_prepared_beside_the_first(scans, store, reads):
    run(scans, store)
    run(scans, store, spacing_mm=(2.0, 2.0, 2.0))
    assert len(reads) == 8
    run(scans, store)
    assert len(reads) == 8


def test_a_damaged_entry_is_redone(scans, store, reads):
    prepared, _ = run(scans, store)
    prepared[2].store_path.write_bytes(b"")
    assert run(scans, store)[0] == prepared
    assert reads[4:] == ["c.nii.gz"]


@pytest.mark.parametrize("is_verified", [True, False])
def test_a_flipped_bit_is_found_and_the_scan_prepared_anew(scans, store, reads, is_verified):
    data = HERE.model_copy(update={"verify_store": is_verified})
    prepared, _ = run(scans, store, data=data)
    whole = prepared[2].store_path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 4
    prepared[2].store_path.write_bytes(damaged)
    assert run(scans, store, data=data)[0] == prepared
    assert reads[4:] == (["c.nii.gz"] if is_verified else [])
    assert (prepared[2].store_path.read_bytes() == whole) == is_verified


def test_the_same_content_twice_is_skipped_with_the_name_of_the_first(scans, store, tmp_path):
    copy = tmp_path / "in" / "copy.nii.gz"
    copy.write_bytes(scans[0].record.path.read_bytes())
    prepared, skipped = run(checked(tmp_path / "in"), store)
    assert len(prepared) == 4
    assert [(scan.path, scan.reason) for scan in skipped] == [(copy, "It has the same content as a.")]


def test_a_copy_in_another_file_format_is_the_same_content(scans, store, tmp_path):
    copy = tmp_path / "in" / "copy.nii"
    copy.write_bytes(gzip.decompress(scans[0].record.path.read_bytes()))
    _, skipped = run(checked(tmp_path / "in"), store)
    assert [(scan.path, scan.reason) for scan in skipped] == [(copy, "It has the same content as a.")]


def test_a_scan_that_vanished_is_skipped(scans, store):
    scans[0].record.path.unlink()
    prepared, (skipped,) = run(scans, store)
    assert len(prepared) == 3
    assert skipped.path == scans[0].record.path
    assert "no longer there" in skipped.reason


def test_a_scan_with_bad_voxels_is_skipped_with_the_reason(scans, store, tmp_path, write_scan):
    noise = np.random.default_rng(0).integers(0, 1000, (20, 20, 20))
    write_scan("in/noise.nii.gz", volume=noise)
    prepared, (skipped,) = run(checked(tmp_path / "in"), store)
    assert len(prepared) == 4
    assert skipped.path.name == "noise.nii.gz"
    assert "noise" in skipped.reason


def test_a_scan_cut_short_is_skipped(scans, store):
    path = scans[1].record.path
    path.write_bytes(path.read_bytes()[:2000])
    prepared, (skipped,) = run(scans, store)
    assert len(prepared) == 3
    assert skipped.path == path


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ScanError("It is broken."), "It is broken."),
        (MemoryError(), "Preparing it needs more memory than there is."),
        (ZeroDivisionError("oh"), "Preparing it failed (ZeroDivisionError: oh)."),
    ],
)
def test_whatever_goes_wrong_with_one_scan_is_a_reason(scans, store, monkeypatch, error, reason):
    def fail_on_b(path, *, time_point):
        if path.name == "b.nii.gz":
            raise error
        return read_volume(path, time_point=time_point)

    read_volume = prepare.read_volume
    monkeypatch.setattr(prepare, "read_volume", fail_on_b)
    prepared, (skipped,) = run(scans, store)
    assert len(prepared) == 3
    assert (skipped.path.name, skipped.reason) == ("b.nii.gz", reason)


def test_a_scan_that_changes_meanwhile_is_not_stored(scans, store, monkeypatch):
    def read_while_it_grows(path, *, time_point):
        os.utime(path, ns=(0, 1))
        return read_volume(path, time_point=time_point)

    read_volume = prepare.read_volume
    monkeypatch.setattr(prepare, "read_volume", read_while_it_grows)
    prepared, skipped = run(scans[:1], store)
    assert not prepared
    assert "changed while" in skipped[0].reason


def test_a_scan_whose_process_died_is_skipped(scans, store, monkeypatch):
    monkeypatch.setattr(once, "run_jobs", lambda _, jobs, processes: ((job, Died()) for job in jobs))
    prepared, skipped = run(scans, store)
    assert not prepared
    assert all("want of memory" in scan.reason for scan in skipped)


def test_a_store_that_cannot_be_written_ends_the_run(scans, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MedsslError, match="cannot be written to"):
        run(scans, ScanStore(tmp_path / "file" / "store"))


def test_progress_counts_what_was_there_and_names_each_scan(scans, store):
    class Noting(SilentProgress):
        @contextmanager
        def track(self, description, *, total, done=0):
            self.total, self.done, self.names = total, done, []
            yield lambda steps=1, *, detail="": self.names.append(detail)

    run(scans[:1], store)
    progress = Noting()
    run(scans, store, progress=progress)
    assert (progress.total, progress.done, progress.names) == (4, 1, ["b", "c", "d"])


def test_another_process_prepares_the_same(scans, store, tmp_path):
    alone, _ = run(scans, ScanStore(tmp_path / "alone"))
    together, skipped = run(scans, store, data=DataConfig(prepare_workers=1))
    assert not skipped
    for one, other in zip(alone, together, strict=True):
        assert one.record == other.record
        assert one.store_path.read_bytes() == other.store_path.read_bytes()


def test_two_runs_can_share_a_store_at_once(scans, store):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(run, [], store).result()  # both start when all is imported
        other = pool.submit(run, scans, store)
        assert run(scans, store) == other.result()
    files = [path for path in store.folder.rglob("*") if path.is_file()]
    assert len(files) == 2 * len(scans) + 1
