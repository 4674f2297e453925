import csv
from pathlib import Path

import pytest

from medssl.errors import UsageError
from medssl.scans.manifest import read_manifest, read_skipped, write_manifest, write_skipped
from medssl.scans.record import IntensityRecipe, PreparedScan, ScanHeader, ScanRecord, SkippedScan

AFFINE = ((-0.7, 0.0, 0.0, 9.5), (0.0, 0.1 + 0.2, 0.0, 0.25), (0.0, 0.0, 3.0, -7.0), (0.0, 0.0, 0.0, 1.0))


def prepared(name, *, session_id=None):
    return PreparedScan(
        record=ScanRecord(Path(f"/scans/{name}.nii.gz"), name, f"sub-{name}", session_id),
        content_hash="0a1b",
        voxels_hash="2c3d",
        store_path=Path("/store/k/0a1b.b2nd"),
        shape=(40, 50, 35),
        spacing_mm=(1.0, 1.0, 1.25),
        recipe=IntensityRecipe("ct", -1000.0, 1 / 3),
        source=ScanHeader((80, 50, 35), (0.5, 1.0, 1.25), "LAS", "int16", AFFINE),
        foreground=((2, 78), (0, 50), (0, 35)),
    )


def test_a_manifest_is_read_back_as_it_was_written(tmp_path):
    scans = [prepared("a"), prepared('odd, "name"', session_id="ses-2")]
    write_manifest(tmp_path / "manifest.csv", scans)
    assert read_manifest(tmp_path / "manifest.csv") == scans


def test_sizes_are_readable(tmp_path):
    write_manifest(tmp_path / "manifest.csv", [prepared("a")])
    with (tmp_path / "manifest.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["shape"], row["spacing_mm"]) == ("40 x 50 x 35", "1.0 x 1.0 x 1.25")
    assert row["foreground"] == "2:78 x 0:50 x 0:35"
    assert (row["subject_id"], row["modality"]) == ("sub-a", "ct")


def test_names_that_are_not_unicode_are_kept(tmp_path):
    scans = [prepared("M\udcfcller")]
    write_manifest(tmp_path / "manifest.csv", scans)
    assert read_manifest(tmp_path / "manifest.csv") == scans


def test_other_tables_are_refused(tmp_path):
    (tmp_path / "other.csv").write_text("image,label\na,b\n")
    with pytest.raises(UsageError, match="not a manifest"):
        read_manifest(tmp_path / "other.csv")


def test_skipped_scans_are_listed_with_reasons(tmp_path):
    skipped = [SkippedScan(Path("/scans/a.nii"), "It is noise, or worse.")]
    write_skipped(tmp_path / "skipped.csv", skipped)
    assert read_skipped(tmp_path / "skipped.csv") == skipped
    expected = 'path,reason\n/scans/a.nii,"It is noise, or worse."\n'
    assert (tmp_path / "skipped.csv").read_text() == expected
