import gzip

import nibabel as nib
import numpy as np
import pytest

from medssl.errors import ScanError
from medssl.scans.label_map import read_label_map, write_label_map, write_probabilities
from medssl.scans.read import read_header
from medssl.scans.simulate import ORIENTATIONS

GEOMETRY = ("pixdim", "qform_code", "sform_code", "quatern_b", "qoffset_y", "srow_x", "srow_z", "xyzt_units")


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 3, (12, 14, 16))


@pytest.fixture
def header(write_scan):
    return read_header(write_scan())


def turned(volume, orientation, affine):
    """Return voxels and affine of a RAS volume as another axis order stores them."""
    codes = (nib.orientations.axcodes2ornt(axes) for axes in ("RAS", orientation))
    image = nib.Nifti1Image(volume.astype(np.uint8), affine).as_reoriented(
        nib.orientations.ornt_transform(*codes)
    )
    return np.asarray(image.dataobj), image.affine


class TestReading:
    @pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float32", "float64"])
    def test_any_type_that_holds_whole_numbers(self, write_scan, header, labels, dtype):
        read = read_label_map(write_scan("l.nii.gz", volume=labels, dtype=dtype), like=header)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, labels)

    def test_a_label_map_says_so_in_its_header(self, write_scan, header, labels):
        def mark(nifti):
            nifti["intent_code"] = 1002

        path = write_scan("l.nii.gz", volume=labels, dtype=np.uint8, edit=mark)
        np.testing.assert_array_equal(read_label_map(path, like=header), labels)

    @pytest.mark.parametrize("orientation", ["LPS", "SAR", "PIR"])
    def test_another_axis_order_than_the_image_is_no_hindrance(self, write_scan, header, labels, orientation):
        voxels, affine = turned(labels, orientation, np.eye(4))
        path = write_scan("l.nii.gz", volume=voxels, affine=affine, dtype=np.uint8)
        np.testing.assert_array_equal(read_label_map(path, like=header), labels)

    def test_rounding_of_the_header_is_no_hindrance(self, write_scan, header, labels):
        affine = np.eye(4) * 1.0005
        affine[3, 3] = 1
        path = write_scan("l.nii.gz", volume=labels, affine=affine, dtype=np.uint8)
        np.testing.assert_array_equal(read_label_map(path, like=header), labels)

    def test_another_shape(self, write_scan, header, labels):
        path = write_scan("l.nii.gz", volume=labels[:11], dtype=np.uint8)
        with pytest.raises(ScanError, match="has 11 x 14 x 16 voxels and its image 12 x 14 x 16"):
            read_label_map(path, like=header)

    @pytest.mark.parametrize(
        ("affine", "apart"),
        [
            (np.diag([1.0, 1.0, 1.1, 1.0]), "1.5"),
            (nib.affines.from_matvec(np.eye(3), [0, 0.5, 0]), "0.5"),
            (nib.affines.from_matvec(np.diag([-1.0, 1, 1]), [0, 0, 0]), "11.0"),
        ],
    )
    def test_another_place(self, write_scan, header, labels, affine, apart):
        path = write_scan("l.nii.gz", volume=labels, affine=affine, dtype=np.uint8)
        with pytest.raises(ScanError, match=rf"up to {apart} voxels away from its image"):
            read_label_map(path, like=header)

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (0.4, r"not whole numbers, such as 0\.4"),
            (np.nan, "not whole numbers, such as nan"),
            (np.inf, "not whole numbers, such as inf"),
            (-1, "from -1 to 2"),
            (256, "from 0 to 256"),
        ],
    )
    def test_values_that_are_no_classes(self, write_scan, header, labels, value, reason):
        odd = labels.astype(np.float32)
        odd[3, 4, 5] = value
        with pytest.raises(ScanError, match=reason):
            read_label_map(write_scan("l.nii.gz", volume=odd, dtype=np.float32), like=header)

    def test_a_real_label_map_of_the_type_int64(self, shared_data):
        path = shared_data / "messy" / "t2s_seg-deepseg.nii.gz"
        image = nib.load(path)
        like = read_header(shared_data / "hippocampus" / "imagesTr" / "hippocampus_001.nii.gz")
        with pytest.raises(ScanError, match=r"49 x 54 x 9 voxels"):
            read_label_map(path, like=like)
        own = type(like)(image.shape, (1.0, 1.0, 1.0), "LAS", "int64", tuple(map(tuple, image.affine)))
        expected = np.asarray(nib.as_closest_canonical(image).dataobj)
        np.testing.assert_array_equal(read_label_map(path, like=own), expected)

    def test_real_masks_lie_on_their_scans(self, shared_data):
        for path in sorted((shared_data / "lidc_nodules" / "images").glob("*.nii.gz"))[::200]:
            mask = path.parent.parent / "masks" / path.name
            expected = np.asarray(nib.as_closest_canonical(nib.load(mask)).dataobj)
            np.testing.assert_array_equal(read_label_map(mask, like=read_header(path)), expected)


class TestWriting:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_what_is_written_lies_where_the_input_does(self, write_scan, tmp_path, labels, orientation):
        oblique = nib.affines.from_matvec(
            nib.eulerangles.euler2mat(0.1, 0.2, -0.1) @ np.diag([1, 2, 3]), [5, -3, 9]
        )
        voxels, affine = turned(labels, orientation, oblique)
        like = write_scan(volume=voxels, affine=affine)
        write_label_map(tmp_path / "out.nii.gz", voxels, like=like)
        written, source = nib.load(tmp_path / "out.nii.gz"), nib.load(like)
        np.testing.assert_array_equal(written.affine, source.affine)
        np.testing.assert_array_equal(written.dataobj, voxels)
        assert written.get_data_dtype() == np.uint8

    def test_geometry_is_copied_bit_for_bit_and_nothing_else(self, write_scan, tmp_path, labels):
        def fill(nifti):
            nifti["qform_code"], nifti["sform_code"], nifti["xyzt_units"] = 1, 4, 10
            nifti["quatern_b"], nifti["qoffset_y"] = 0.125, -7.5
            nifti["srow_x"], nifti["srow_z"] = (0, 0, 2.5, 3), (1, 0.01, 0, 1)
            nifti["pixdim"][:4] = (-1, 0.5, 1.5, 2)
            nifti["descrip"], nifti["aux_file"], nifti["db_name"] = b"Jane Doe", b"jane", b"doe"
            nifti["intent_code"], nifti["intent_name"], nifti["cal_max"] = 5, b"z score", 99
            nifti["scl_slope"], nifti["scl_inter"] = 3, 7

        like = write_scan(edit=fill)
        write_label_map(tmp_path / "out.nii.gz", labels.astype(np.uint8), like=like)
        content = gzip.decompress((tmp_path / "out.nii.gz").read_bytes())
        written = nib.Nifti1Header(content[:348], check=False)
        source = nib.Nifti1Header(gzip.decompress(like.read_bytes())[:348], check=False)
        for field in GEOMETRY:
            np.testing.assert_array_equal(written[field], source[field], err_msg=field)
        assert (written["scl_slope"], written["scl_inter"], written["intent_code"]) == (1, 0, 0)
        assert b"oe" not in content[:352]
        assert b"score" not in content[:352]

    @pytest.mark.parametrize("name", ["big.nii", "two.nii.gz"])
    def test_byte_order_and_version_of_the_input_are_kept(self, tmp_path, labels, name):
        header = nib.Nifti1Header(endianness=">") if name == "big.nii" else None
        kind = nib.Nifti1Image if header else nib.Nifti2Image
        kind(labels.astype(np.int16), np.diag([1, 2, 3, 1]), header, dtype=np.int16).to_filename(
            tmp_path / name
        )
        write_label_map(tmp_path / f"out_{name}", labels.astype(np.uint8), like=tmp_path / name)
        written = nib.load(tmp_path / f"out_{name}")
        assert type(written) is kind
        assert written.header.endianness == nib.load(tmp_path / name).header.endianness
        np.testing.assert_array_equal(written.dataobj, labels)

    def test_a_trailing_axis_of_the_input_is_dropped(self, write_scan, tmp_path, labels):
        like = write_scan(volume=labels[..., None])
        write_label_map(tmp_path / "out.nii.gz", labels.astype(np.uint8), like=like)
        assert nib.load(tmp_path / "out.nii.gz").shape == labels.shape

    def test_probabilities_have_the_classes_last(self, write_scan, tmp_path):
        probabilities = np.random.default_rng(0).random((3, 12, 14, 16)).astype(np.float16)
        write_probabilities(tmp_path / "p.nii.gz", probabilities, like=write_scan())
        written = nib.load(tmp_path / "p.nii.gz")
        assert written.get_data_dtype() == np.float32
        np.testing.assert_array_equal(np.moveaxis(np.asarray(written.dataobj), -1, 0), probabilities)

    def test_a_failure_leaves_no_file(self, write_scan, tmp_path, labels):
        like = write_scan("in/scan.nii.gz")
        like.write_bytes(b"")
        with pytest.raises(ScanError, match="empty"):
            write_label_map(tmp_path / "out.nii.gz", labels.astype(np.uint8), like=like)
        assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_label_map_lands_on_the_grid_of_any_format(tmp_path, smooth_volume):
    affine = np.array([[0.0, 0, 3, -9], [-1.5, 0, 0, 40], [0, 2, 0, 5], [0, 0, 0, 1]])
    nib.save(nib.MGHImage(smooth_volume, affine), tmp_path / "scan.mgz")
    labels = (smooth_volume > 500).astype(np.uint8)
    write_label_map(tmp_path / "labels.nii.gz", labels, like=tmp_path / "scan.mgz")
    written = nib.load(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels)
    np.testing.assert_allclose(written.affine, affine, atol=1e-4)
    read = read_label_map(tmp_path / "labels.nii.gz", like=read_header(tmp_path / "scan.mgz"))
    assert read.sum() == labels.sum()
