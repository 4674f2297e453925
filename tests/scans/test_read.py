import gzip
import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medssl.errors import ScanError
from medssl.scans.geometry import along_ras
from medssl.scans.read import read_header, read_volume

WriteScan = Callable[..., Path]

ORIENTATIONS = [
    "".join(letters)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for letters in itertools.product(*axes)
]


def set_field(**fields: Any) -> Callable[[nib.Nifti1Header], None]:
    def edit(header: nib.Nifti1Header) -> None:
        for name, value in fields.items():
            header[name] = value

    return edit


class TestOrientation:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_all_48_become_the_same_volume(
        self, write_scan: WriteScan, smooth_volume: NDArray[np.float32], orientation: str
    ) -> None:
        ras_affine = np.diag([1.0, 2.0, 3.0, 1.0])
        ras_affine[:3, 3] = (-7, 5, 3)
        ras = nib.Nifti1Image(smooth_volume, ras_affine)
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(orientation)
        )
        stored = ras.as_reoriented(turn)
        path = write_scan(volume=np.asarray(stored.dataobj), affine=stored.affine)

        header = read_header(path)
        volume, affine = read_volume(path)

        assert header.orientation == orientation
        assert along_ras(header) == ((12, 14, 16), (1.0, 2.0, 3.0))
        np.testing.assert_array_equal(volume, smooth_volume)
        np.testing.assert_allclose(affine, ras_affine)

    def test_there_are_48(self) -> None:
        assert len(set(ORIENTATIONS)) == 48

    def test_an_oblique_scan_is_turned_to_the_nearest_axes(self, write_scan: WriteScan) -> None:
        angle = np.radians(20)
        affine = np.eye(4)
        affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        path = write_scan(affine=affine @ np.diag([-1, 1, 1, 1]))
        assert read_header(path).orientation == "LAS"
        np.testing.assert_allclose(read_volume(path)[1][:3, :3], affine[:3, :3], atol=1e-6)

    def test_the_real_brain_in_eight_orders(self, shared_data: Path) -> None:
        paths = sorted((shared_data / "messy" / "orientations").glob("*.nii.gz"))
        volumes = [read_volume(path)[0] for path in paths]
        assert len(volumes) == 8
        for volume in volumes[1:]:
            np.testing.assert_allclose(volume, volumes[0], rtol=1e-5)


class TestIntensities:
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "f4", "f8", "i8"])
    def test_every_type_and_byte_order(
        self, write_scan: WriteScan, smooth_volume: NDArray[np.float32], kind: str, order: str
    ) -> None:
        values = smooth_volume // 8
        path = write_scan(volume=values, dtype=np.dtype(order + kind))
        volume, _ = read_volume(path)
        assert volume.dtype == np.float32
        assert volume.flags.c_contiguous
        assert read_header(path).dtype == np.dtype(kind).name
        np.testing.assert_array_equal(volume, values)

    @pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
    def test_slope_and_intercept_are_applied(
        self, write_scan: WriteScan, smooth_volume: NDArray[np.float32], suffix: str
    ) -> None:
        path = write_scan(f"scan{suffix}", edit=set_field(scl_slope=0.5, scl_inter=-1024))
        np.testing.assert_array_equal(read_volume(path)[0], smooth_volume * 0.5 - 1024)

    @pytest.mark.parametrize("slope", [0, np.nan, np.inf])
    def test_a_slope_without_meaning_changes_nothing(
        self, write_scan: WriteScan, smooth_volume: NDArray[np.float32], slope: float
    ) -> None:
        path = write_scan(edit=set_field(scl_slope=slope, scl_inter=3))
        np.testing.assert_array_equal(read_volume(path)[0], smooth_volume)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_few_non_finite_voxels_become_the_minimum(
        self, write_scan: WriteScan, smooth_volume: NDArray[np.float32], value: float
    ) -> None:
        holed = smooth_volume + 5
        holed[0, :, :8] = value
        volume, _ = read_volume(write_scan(volume=holed, dtype=np.float32))
        assert np.all(volume[0, :, :8] == holed[np.isfinite(holed)].min())
        np.testing.assert_array_equal(volume[1:], holed[1:])

    def test_many_non_finite_voxels_stay(
        self, write_scan: WriteScan, smooth_volume: NDArray[np.float32]
    ) -> None:
        smooth_volume[:2] = np.nan
        volume, _ = read_volume(write_scan(volume=smooth_volume, dtype=np.float32))
        assert np.isnan(volume[:2]).all()

    def test_numbers_too_large_to_be_intensities_count_as_missing(
        self, write_scan: WriteScan, smooth_volume: NDArray[np.float32]
    ) -> None:
        huge = smooth_volume.astype(np.float64) + 1
        huge[3, 3, 3] = 1e300
        huge[4, 4, 4] = np.finfo(np.float32).max
        volume, _ = read_volume(write_scan(volume=huge, dtype=np.float64))
        assert volume[3, 3, 3] == volume[4, 4, 4] == huge.min()

    @pytest.mark.parametrize(
        "name", ["anatomical.nii", "resampled_anat_moved.nii", "reoriented_anat_moved.nii"]
    )
    def test_same_as_nibabel(self, name: str) -> None:
        path = Path(nib.__file__).parent / "tests" / "data" / name
        reference = nib.as_closest_canonical(nib.load(path))
        volume, affine = read_volume(path)
        np.testing.assert_allclose(volume, reference.get_fdata(), rtol=1e-6)
        np.testing.assert_allclose(affine, reference.affine)


class TestGeometry:
    def test_nifti_2_and_trailing_axes_of_one(
        self, tmp_path: Path, smooth_volume: NDArray[np.float32]
    ) -> None:
        path = tmp_path / "scan.nii.gz"
        nib.Nifti2Image(smooth_volume[..., None, None], np.eye(4)).to_filename(path)
        assert read_header(path).shape == (12, 14, 16)
        np.testing.assert_array_equal(read_volume(path)[0], smooth_volume)

    @pytest.mark.parametrize(("unit", "factor"), [(0, 1), (1, 1000), (2, 1), (3, 0.001)])
    def test_spacing_is_in_millimetres(self, write_scan: WriteScan, unit: int, factor: float) -> None:
        size = 2 / factor
        path = write_scan(affine=np.diag([size, size, size, 1]), edit=set_field(xyzt_units=unit))
        assert read_header(path).spacing_mm == pytest.approx((2, 2, 2))

    def test_the_qform_counts_where_there_is_no_sform(self, write_scan: WriteScan) -> None:
        def edit(header: nib.Nifti1Header) -> None:
            header.set_qform(np.diag([-2.0, 2, 2, 1]), code=1)
            header["sform_code"] = 0

        assert read_header(write_scan(edit=edit)).orientation == "LAS"

    def test_a_qfac_of_zero_means_one(self, write_scan: WriteScan) -> None:
        def edit(header: nib.Nifti1Header) -> None:
            header["sform_code"] = 0
            header["qform_code"] = 1
            header["pixdim"][0] = 0

        assert read_header(write_scan(edit=edit)).orientation == "RAS"

    def test_a_tenth_of_a_degree_of_shear_is_rounding(self, write_scan: WriteScan) -> None:
        affine = np.eye(4)
        affine[0, 1] = np.tan(np.radians(0.1))
        assert read_header(write_scan(affine=affine)).orientation == "RAS"


def shear() -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[1, 2] = np.tan(np.radians(15))
    return affine


CUBE = np.arange(1728.0).reshape(12, 12, 12)


class TestRefusals:
    @pytest.mark.parametrize(
        ("written", "reason"),
        [
            ({"volume": np.zeros((8, 8, 8, 3))}, "It is 4-D (8 x 8 x 8 x 3), a series or a vector field"),
            ({"volume": np.zeros((8, 8, 8, 1, 3))}, "store each volume in its own file."),
            ({"volume": np.zeros((2000, 1, 1))}, "a list of values, such as a surface (2000 x 1 x 1)"),
            ({"volume": np.zeros((64, 64, 1))}, "a flat picture (64 x 64 x 1), not a volume"),
            ({"volume": np.zeros((64, 64))}, "a flat picture (64 x 64), not a volume"),
            ({"volume": np.zeros((7, 5, 3))}, "too small (7 x 5 x 3 = 105 voxels)"),
            ({"dtype": np.complex64}, "complex numbers (complex64)"),
            ({"affine": shear()}, "sheared by 15.0 degrees"),
            ({"affine": np.diag([1, 1, 1000.0, 1])}, "implausible voxel spacing (1 x 1 x 1000 mm)"),
            ({"edit": set_field(sform_code=0, qform_code=0)}, "no orientation"),
            ({"edit": set_field(pixdim=[1, 1, 0, 1, 0, 0, 0, 0])}, "zero or negative"),
            ({"edit": set_field(pixdim=[1, 1, -1, 1, 0, 0, 0, 0])}, "zero or negative"),
            ({"edit": set_field(pixdim=[1, 1, np.nan, 1, 0, 0, 0, 0])}, "zero or negative"),
            ({"edit": set_field(srow_z=[0, 0, 0, 0])}, "implausible voxel spacing"),
            ({"edit": set_field(srow_z=[0, 0, np.nan, 0])}, "not finite"),
            ({"edit": set_field(srow_z=[0, 0, 1e38, 0])}, "implausible voxel spacing"),
            ({"edit": set_field(srow_x=[0, 1, 0, 0])}, "implausible voxel spacing"),
            ({"edit": set_field(srow_x=[0, 1, 0, 0], srow_y=[0, 1, 0, 0])}, "implausible voxel spacing"),
            ({"edit": set_field(sform_code=0, qform_code=1, quatern_b=3)}, "not a rotation"),
            ({"edit": set_field(dim=[0, 0, 0, 0, 0, 0, 0, 0])}, "no valid number of voxels"),
            ({"edit": set_field(dim=[3, 12, -14, 16, 1, 1, 1, 1])}, "no valid number of voxels"),
            ({"edit": set_field(datatype=77)}, "unknown data type (code 77)"),
            ({"edit": set_field(datatype=1)}, "unknown data type (code 1)"),
            ({"edit": set_field(vox_offset=0)}, "where the voxel data begin"),
            ({"edit": set_field(vox_offset=np.nan)}, "where the voxel data begin"),
            ({"edit": set_field(vox_offset=np.inf)}, "where the voxel data begin"),
            ({"edit": set_field(intent_code=1002)}, "marks it as a label map"),
            ({"edit": set_field(intent_code=3)}, "marks it as a statistical map"),
            ({"name": "a.nii", "edit": set_field(dim=[3, 999, 99, 99, 1, 1, 1, 1])}, "too short for"),
            ({"name": "a.nii.gz", "edit": set_field(dim=[3, 9999, 9999, 999, 1, 1, 1, 1])}, "too short for"),
        ],
    )  # fmt: skip
    def test_headers(self, write_scan: WriteScan, written: dict[str, Any], reason: str) -> None:
        path = write_scan(**{"volume": CUBE, **written})
        for read in (read_header, read_volume):
            with pytest.raises(ScanError) as caught:
                read(path)
            assert reason in str(caught.value)

    def test_axes_that_point_the_same_way(self, write_scan: WriteScan) -> None:
        affine = np.eye(4)
        affine[:3, 1] = affine[:3, 0]
        with pytest.raises(ScanError, match=r"sheared by 90\.0 degrees"):
            read_header(write_scan(affine=affine))

    def test_colours(self, tmp_path: Path) -> None:
        colours = np.zeros((12, 12, 12), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        path = tmp_path / "scan.nii.gz"
        nib.Nifti1Image(colours, np.eye(4)).to_filename(path)
        with pytest.raises(ScanError, match="colours"):
            read_header(path)

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    @pytest.mark.parametrize(
        ("content", "reason"),
        [(b"", "empty"), (b"Dear colleague, ", "not NIfTI"), (b"x" * 5000, "not NIfTI")],
    )
    def test_files_that_are_something_else(
        self, tmp_path: Path, name: str, content: bytes, reason: str
    ) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ScanError, match=reason):
            read_header(path)

    def test_truncated_gzip(self, write_scan: WriteScan) -> None:
        path = write_scan()
        path.write_bytes(path.read_bytes()[:-200])
        assert read_header(path).shape == (12, 14, 16)
        with pytest.raises(ScanError, match="end early or are damaged"):
            read_volume(path)

    def test_a_gzip_checksum_that_does_not_match(self, write_scan: WriteScan) -> None:
        path = write_scan()
        content = bytearray(path.read_bytes())
        content[-8] ^= 1
        path.write_bytes(content)
        with pytest.raises(ScanError, match="end early or are damaged"):
            read_volume(path)

    def test_truncated_plain_file(self, write_scan: WriteScan) -> None:
        path = write_scan("a.nii")
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ScanError, match="too short for"):
            read_header(path)

    def test_an_intercept_that_is_no_number(self, write_scan: WriteScan) -> None:
        path = write_scan(edit=set_field(scl_slope=1, scl_inter=np.nan))
        with pytest.raises(ScanError, match="scaling is not a number"):
            read_volume(path)

    def test_a_link_to_nothing(self, tmp_path: Path) -> None:
        link = tmp_path / "a.nii.gz"
        link.symlink_to(tmp_path / "annex" / "missing")
        with pytest.raises(ScanError, match="does not exist"):
            read_header(link)

    def test_a_file_that_may_not_be_read(
        self, write_scan: WriteScan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path, *_: object) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        path = write_scan()
        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(ScanError, match=r"^The file cannot be opened: Permission denied\.$"):
            read_header(path)

    def test_other_suffixes(self, tmp_path: Path) -> None:
        with pytest.raises(ScanError, match="ends in none of"):
            read_header(tmp_path / "a.txt")

    def test_compression_is_told_from_the_content(self, write_scan: WriteScan) -> None:
        path = write_scan()
        plain = path.with_name("plain.nii.gz")
        plain.write_bytes(gzip.decompress(path.read_bytes()))
        np.testing.assert_array_equal(read_volume(plain)[0], read_volume(path)[0])

    def test_nothing_is_logged(
        self, write_scan: WriteScan, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = write_scan(edit=set_field(bitpix=3, qform_code=77, extents=5))
        nib.load(path)
        assert caplog.records, "nibabel repairs this header and says so"
        caplog.clear()
        capfd.readouterr()
        with caplog.at_level(logging.DEBUG):
            read_volume(path)
        assert not caplog.records
        assert capfd.readouterr() == ("", "")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(40, 347), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_damage_to_a_header_ends_in_a_reason_or_a_volume(
    write_scan: WriteScan, changes: list[tuple[int, int]]
) -> None:
    path = write_scan("damaged.nii")
    content = bytearray(path.read_bytes())
    for position, value in changes:
        content[position] = value
    path.write_bytes(content)
    try:
        volume, _ = read_volume(path)
    except ScanError as error:
        message = str(error)
        assert message.endswith(".")
        assert "Error" not in message
    else:
        assert volume.ndim == 3
