import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from medssl.errors import ScanError
from medssl.scans.dicom.series import series_in
from medssl.scans.find import find_scans
from medssl.scans.read import read_header, read_volume
from medssl.scans.sources import source_hash, source_signature
from tests.scans.dicom.conftest import OBLIQUE, WriteSeries, compress

DICOM = Path(__file__).parents[4] / "shared" / "data" / "dicom"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def only_reason(folder: Path) -> str:
    """Return the reason why the only series of a folder is refused."""
    (series,) = series_in(folder)
    assert series.reason is not None
    return series.reason


def assert_equals_itk(files: list[Path]) -> None:
    """Compare voxels at the same places in the body with those that SimpleITK reads.

    Args:
        files: Of a series.
    """
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(files[0].parent))
    image = SimpleITK.ReadImage(names, SimpleITK.sitkFloat32)
    volume, affine = read_volume(files[0])
    corners = np.array(np.meshgrid(*[(0, length - 1) for length in volume.shape])).reshape(3, -1).T
    for index in corners:
        point_lps = LPS_TO_RAS @ (affine @ [*index, 1])[:3]
        theirs = image.TransformPhysicalPointToContinuousIndex(point_lps.tolist())
        np.testing.assert_allclose(theirs, np.rint(theirs), atol=1e-3)
        assert volume[tuple(index)] == pytest.approx(image[tuple(round(each) for each in theirs)])
    assert volume.size == np.prod(image.GetSize())
    assert np.sort(volume, axis=None) == pytest.approx(
        np.sort(SimpleITK.GetArrayFromImage(image), axis=None), rel=1e-6
    )


class TestAgainstSimpleItk:
    @pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), OBLIQUE])
    def test_geometry_and_voxels(self, write_series: WriteSeries, orientation: tuple[float, ...]) -> None:
        assert_equals_itk(write_series(orientation=orientation))

    @pytest.mark.parametrize(
        "folder",
        ["ct_17_slices", "mr_hippocampus_crop", "problems/anatomical/001",
         "problems/anatomical/002_non_isotropic", "problems/compressed_jpegls/001"],
    )  # fmt: skip
    def test_real_series(self, folder: str) -> None:
        if not DICOM.exists():
            pytest.skip("the real DICOM series are not on this machine")
        assert_equals_itk(sorted((DICOM / folder).iterdir()))


class TestVolume:
    def test_each_slice_has_its_own_intercept(
        self, write_series: WriteSeries, stored: NDArray[np.int16]
    ) -> None:
        volume, affine = read_volume(write_series()[0])
        expected = stored.transpose(2, 1, 0) * 2.0 - 1000 + 10 * np.arange(len(stored))
        np.testing.assert_array_equal(volume, expected[::-1, ::-1])
        assert np.allclose(np.diag(affine), [0.7, 0.8, 2.5, 1])

    def test_the_header_tells_the_modality(self, write_series: WriteSeries) -> None:
        header = read_header(write_series()[0])
        assert (header.modality, header.dtype, header.orientation) == ("ct", "int16", "LPS")

    def test_frames_of_an_enhanced_image_are_slices(
        self, enhanced: FileDataset, tmp_path: Path, stored: NDArray[np.int16]
    ) -> None:
        enhanced.save_as(tmp_path / "enhanced.dcm")
        volume, affine = read_volume(tmp_path / "enhanced.dcm")
        np.testing.assert_array_equal(volume, (stored.transpose(2, 1, 0) * 2.0 - 1000)[::-1, ::-1])
        assert np.allclose(np.diag(affine), [0.7, 0.8, 2.5, 1])

    def test_any_file_stands_for_its_series(self, write_series: WriteSeries) -> None:
        first, *_, last = write_series()
        np.testing.assert_array_equal(read_volume(first)[0], read_volume(last)[0])
        np.testing.assert_array_equal(read_volume(first)[0], read_volume(first.parent)[0])

    def test_copies_of_a_file_count_once(self, write_series: WriteSeries) -> None:
        files = write_series()
        (files[0].parent / "copy.dcm").write_bytes(files[3].read_bytes())
        assert read_header(files[0]).shape[2] == 8

    def test_a_file_cut_short_is_refused(self, write_series: WriteSeries) -> None:
        files = write_series()
        files[2].write_bytes(files[2].read_bytes()[:-40])
        with pytest.raises(ScanError, match=r"voxels of IM\d+\.dcm are damaged"):
            read_volume(files[0])


class TestSeries:
    def test_two_series_in_one_folder_stay_apart(self, write_series: WriteSeries) -> None:
        def of_another_series(_: int, dataset: FileDataset) -> None:
            dataset.SeriesInstanceUID = "9.9"

        write_series(names=[f"a{index}" for index in range(8)])
        files = write_series(names=[f"b{index}" for index in range(8)], edit=of_another_series)
        found = series_in(files[0].parent)
        assert [series.files[0] for series in found] == ["a0", "b0"]
        assert [len(series.slices) for series in found] == [8, 8]

    def test_directions_of_one_series_stay_apart(self, write_series: WriteSeries) -> None:
        write_series(names=[f"a{index}" for index in range(8)])
        files = write_series(names=[f"b{index}" for index in range(8)], orientation=(0, 1, 0, 0, 0, -1))
        assert [len(series.slices) for series in series_in(files[0].parent)] == [8, 8]

    def test_spacings_of_one_series_stay_apart(self, write_series: WriteSeries) -> None:
        def coarse(_: int, dataset: FileDataset) -> None:
            dataset.PixelSpacing = [1.6, 1.4]

        write_series(names=[f"a{index}" for index in range(8)])
        files = write_series(names=[f"b{index}" for index in range(8)], edit=coarse)
        assert [read_header(files[0].parent / name).spacing_mm[0] for name in ("a0", "b0")] == [0.7, 1.4]

    @pytest.mark.parametrize("tag", ["EchoTime", "TemporalPositionIdentifier", "AcquisitionNumber"])
    def test_volumes_at_the_same_place_are_told_apart(self, write_series: WriteSeries, tag: str) -> None:
        def mark(index: int, dataset: FileDataset) -> None:
            setattr(dataset, tag, 1 + index // 8)

        heights_mm = [*range(8), *range(8)]
        names = [f"{index:02}" for index in range(16)]
        files = write_series(heights_mm=heights_mm, names=names, edit=mark)
        found = series_in(files[0].parent)
        assert [series.files for series in found] == [tuple(names[:8]), tuple(names[8:])]

    @pytest.mark.parametrize(
        ("heights_mm", "reason"),
        [
            ([0, 1, 2, 4, 5], "A slice is missing: they lie 1 mm apart, with a gap of 2 mm."),
            ([0, 1, 2, 5, 6], "2 slices are missing: they lie 1 mm apart, with a gap of 3 mm."),
            ([0, 1, 2.3, 3.4, 4], "Its slices lie unevenly, 0.6 to 1.3 mm apart"),
            ([0, 1, 1, 2, 3], "Of its 5 slices, 1 lie at the place of another"),
            ([0, 1], "It has 2 slices, too few for a volume"),
        ],
    )
    def test_a_series_that_is_no_even_volume_is_refused(
        self, write_series: WriteSeries, heights_mm: list[float], reason: str
    ) -> None:
        assert reason in only_reason(write_series(heights_mm=heights_mm)[0].parent)

    def test_rounded_positions_are_no_gap(self, write_series: WriteSeries) -> None:
        files = write_series(heights_mm=[0, 1.25, 2.51, 3.76, 5.01, 6.26])
        assert read_header(files[0]).spacing_mm[2] == pytest.approx(1.252)

    def test_a_tilted_gantry_is_refused(self, write_series: WriteSeries) -> None:
        with pytest.raises(ScanError, match="tilted CT gantry"):
            read_header(write_series(shift=(0, 0.3, 0))[0])

    def test_a_slice_beside_the_others_is_refused(self, write_series: WriteSeries) -> None:
        def move(index: int, dataset: FileDataset) -> None:
            dataset.ImagePositionPatient[0] += 5 * (index == 4)

        assert "do not lie in one line" in only_reason(write_series(edit=move)[0].parent)

    @pytest.mark.parametrize(
        ("tag", "value", "reason"),
        [
            ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], "a localizer"),
            ("ImageType", ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], "a mosaic"),
            ("SamplesPerPixel", 3, "colours"),
            ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.66.4", "label map"),
            ("Rows", None, "holds no image"),
            ("NumberOfFrames", 9, "a film"),
            ("ImagePositionPatient", None, "does not tell where in the body"),
            ("PixelSpacing", None, "the size of its voxels"),
        ],
    )
    def test_what_shows_no_volume_is_refused(
        self, write_series: WriteSeries, tag: str, value: object, reason: str
    ) -> None:
        files = write_series(edit=lambda _, dataset: setattr(dataset, tag, value))
        assert reason in only_reason(files[0].parent)

    def test_missing_decoders_are_named(
        self, write_series: WriteSeries, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class NoDecoder:
            is_available = False

        monkeypatch.setattr("medssl.scans.dicom.slices.get_decoder", lambda _: NoDecoder)
        reason = only_reason(write_series(edit=compress)[0].parent)
        assert "JPEG-LS Lossless" in reason
        assert "pip install 'medssl[dicom]'" in reason

    def test_an_uneven_multi_frame_image_is_refused(self, enhanced: FileDataset, tmp_path: Path) -> None:
        del enhanced.PerFrameFunctionalGroupsSequence[3]
        enhanced.save_as(tmp_path / "enhanced.dcm")
        assert "A slice is missing" in only_reason(tmp_path)


class TestFind:
    def test_series_are_named_by_folder_and_share_their_patient(
        self, write_series: WriteSeries, tmp_path: Path
    ) -> None:
        def of(patient: str) -> object:
            return lambda _, dataset: setattr(dataset, "PatientID", patient)

        write_series("first/ct", edit=of("A"))
        write_series("second/ct", edit=of("B"))
        write_series("third/ct", edit=of("A"))
        found = find_scans(tmp_path)
        assert [scan.scan_id for scan in found.scans] == ["first/ct", "second/ct", "third/ct"]
        first, second, third = (scan.subject_id for scan in found.scans)
        assert first == third != second

    def test_one_identifier_for_all_tells_nothing(self, write_series: WriteSeries, tmp_path: Path) -> None:
        write_series("anna")
        write_series("ben")
        found = find_scans(tmp_path)
        assert [scan.subject_id for scan in found.scans] == ["anna", "ben"]
        assert "same patient identifier" in found.notes[0]

    @pytest.mark.parametrize("names", [[f"{index}" for index in range(8)], [f"1.2.{i}" for i in range(8)]])
    def test_names_without_ending_are_looked_into(
        self, write_series: WriteSeries, tmp_path: Path, names: list[str]
    ) -> None:
        write_series(names=names)
        (tmp_path / "series" / "README").write_text("not an image")
        (tmp_path / "series" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
        assert [scan.scan_id for scan in find_scans(tmp_path).scans] == ["series"]

    def test_an_archive_is_read_without_unpacking(self, write_series: WriteSeries, tmp_path: Path) -> None:
        files = write_series()
        expected, affine = read_volume(files[0])
        with zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, f"export/deep/{file.name}")
                archive.write(file, f"../outside/{file.name}")
                file.unlink()
        before = sorted(tmp_path.rglob("*"))
        (scan,) = find_scans(tmp_path).scans
        assert scan.scan_id == "export.zip/export/deep"
        volume, affine_in_archive = read_volume(scan.path)
        np.testing.assert_array_equal(volume, expected)
        np.testing.assert_array_equal(affine_in_archive, affine)
        assert sorted(tmp_path.rglob("*")) == before
        assert [each.path for each in find_scans(tmp_path / "export.zip").scans] == [scan.path]

    def test_a_damaged_archive_is_skipped(self, tmp_path: Path) -> None:
        (tmp_path / "export.zip").write_bytes(b"PK\3\4 not really")
        (skipped,) = find_scans(tmp_path).skipped
        assert skipped.reason == "The archive is damaged; copy or download it again."


class TestSources:
    def test_hash_and_signature_are_those_of_all_files(self, write_series: WriteSeries) -> None:
        files = write_series()
        hashed, signature = source_hash(files[0]), source_signature(files[0])
        assert hashed == source_hash(files[0].parent)
        content = bytearray(files[5].read_bytes())
        content[-1] ^= 1
        files[5].write_bytes(content)
        assert source_signature(files[0]) != signature
        assert source_hash(files[0]) != hashed


def test_no_tag_of_the_patient_reaches_any_output(write_series: WriteSeries, tmp_path: Path) -> None:
    secrets = {
        "PatientName": "Planted^Name", "PatientID": "PLANTED-ID", "PatientBirthDate": "19010203",
        "PatientAddress": "Planted Street 7", "AccessionNumber": "PLANTEDACC",
        "InstitutionName": "Planted Inn",
        "ReferringPhysicianName": "Planted^Doctor", "StudyID": "PLANTEDSTU", "StudyDate": "19040506",
        "SeriesInstanceUID": "1.2.777.1", "StudyInstanceUID": "1.2.777.2",
        "SeriesDescription": "Planted words",
    }  # fmt: skip

    def plant(index: int, dataset: FileDataset) -> None:
        for tag, value in secrets.items():
            setattr(dataset, tag, value)

    def spoil(index: int, dataset: FileDataset) -> None:
        plant(index, dataset)
        dataset.ImagePositionPatient = None

    for name in ("good", "better"):
        write_series(f"scans/{name}", edit=plant)
    write_series("scans/bad", edit=spoil)
    damaged = write_series("scans/worse", edit=plant)
    damaged[0].write_bytes(damaged[0].read_bytes()[:700])
    out = tmp_path / "run"
    shared = ["--config", "test", "--debug", "--epochs", "1"]
    runs = [
        ["inspect", tmp_path / "scans", "--json"],
        ["pretrain", tmp_path / "scans", "--out", out, *shared, "--set", "data.val_fraction=0.5"],
        ["prepare", tmp_path / "scans", "--store", tmp_path / "medssl-store", "--config", "test"],
    ]
    told = ""
    for words in runs:
        done = subprocess.run(
            [sys.executable, "-m", "medssl", *map(str, words)], capture_output=True, text=True, check=False
        )
        told += done.stdout + done.stderr
    assert (out / "encoder.safetensors").exists(), told
    remembered = {file.name.partition("-")[0] for file in (tmp_path / "medssl-store").glob("*.jsonl")}
    assert {"series", "headers"} <= remembered
    written = b"".join(
        file.read_bytes() for file in sorted(tmp_path.rglob("*")) if _is_output(file, tmp_path)
    )
    for secret in secrets.values():
        assert secret not in told
        assert secret.encode() not in written


def _is_output(file: Path, root: Path) -> bool:
    return file.is_file() and not file.is_relative_to(root / "scans")
