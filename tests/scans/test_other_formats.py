import contextlib
import gzip
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from medssl.errors import ScanError
from medssl.scans.read import read_header, read_volume
from medssl.scans.sources import source_hash, source_signature

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*\\.mgh:ResourceWarning",  # nibabel leaves closing it to the garbage collector
    "ignore:.*\\.mgh:pytest.PytestUnraisableExceptionWarning",
)

AFFINE = np.array([[0.0, 0, 3, -9], [-1.5, 0, 0, 40], [0, 2, 0, 5], [0, 0, 0, 1]])
"""Of stored axes that point to P, S and R."""


def write_nibabel(path: Path, voxels: NDArray[np.float32]) -> None:
    image_class = {".mgz": nib.MGHImage, ".mgh": nib.MGHImage, ".img": nib.Nifti1Pair}[path.suffix]
    nib.save(image_class(voxels, AFFINE), path)


def write_itk(path: Path, voxels: NDArray[np.float32]) -> None:
    image = SimpleITK.GetImageFromArray(voxels.T)
    lps = np.diag([-1.0, -1, 1, 1]) @ AFFINE
    spacing_mm = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing_mm.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing_mm).ravel().tolist())
    SimpleITK.WriteImage(image, str(path))


@pytest.mark.parametrize("suffix", [".mgz", ".mgh", ".img", ".nrrd", ".nhdr", ".mha", ".mhd"])
def test_the_same_volume_in_every_format(
    tmp_path: Path, smooth_volume: NDArray[np.float32], suffix: str
) -> None:
    nib.save(nib.Nifti1Image(smooth_volume, AFFINE), tmp_path / "scan.nii")
    path = tmp_path / f"scan{suffix}"
    (write_nibabel if suffix in (".mgz", ".mgh", ".img") else write_itk)(path, smooth_volume)
    assert read_header(path).orientation == "PSR"
    volume, affine = read_volume(path)
    expected, affine_expected = read_volume(tmp_path / "scan.nii")
    np.testing.assert_array_equal(volume, expected)
    np.testing.assert_allclose(affine, affine_expected, atol=1e-5)


def test_a_freesurfer_brain_is_read_as_nibabel_reads_it(shared_data: Path) -> None:
    path = shared_data / "messy" / "norm.mgz"
    volume, affine = read_volume(path)
    closest = nib.as_closest_canonical(nib.load(path))
    np.testing.assert_array_equal(volume, np.asarray(closest.dataobj, np.float32))
    np.testing.assert_allclose(affine, closest.affine)


@pytest.mark.parametrize("name", ["mha.mha", "brain1_image.nrrd"])
def test_real_itk_files_are_read_as_simpleitk_reads_them(shared_data: Path, name: str) -> None:
    path = shared_data / "messy" / name
    image = SimpleITK.ReadImage(str(path))
    volume, affine = read_volume(path)
    centre = [length // 2 for length in volume.shape]
    point = np.diag([-1.0, -1, 1]) @ (affine @ [*centre, 1])[:3]
    assert volume[tuple(centre)] == image[image.TransformPhysicalPointToIndex(point.tolist())]
    assert volume.size == np.prod(image.GetSize())


def test_analyze_does_not_tell_left_from_right(tmp_path: Path, smooth_volume: NDArray[np.float32]) -> None:
    nib.save(nib.AnalyzeImage(smooth_volume, None), tmp_path / "scan.img")
    with pytest.raises(ScanError, match="does not tell left from right"):
        read_header(tmp_path / "scan.img")


def test_a_pair_without_orientation_codes_is_refused(
    tmp_path: Path, smooth_volume: NDArray[np.float32]
) -> None:
    image = nib.Nifti1Pair(smooth_volume, AFFINE)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nib.save(image, tmp_path / "scan.img")
    with pytest.raises(ScanError, match="does not tell left from right"):
        read_header(tmp_path / "scan.img")


@pytest.mark.parametrize(
    "suffix", [".mgz", ".mnc", ".img", ".img.gz", ".head", ".nrrd", ".nhdr", ".mha", ".mhd"]
)
@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 400, b"NRRD0004\ntype: short\n", b"\x1f\x8b\x08"])
def test_a_file_that_is_not_what_its_name_says_has_a_reason(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(content)
    with pytest.raises(ScanError) as error:
        read_volume(path)
    assert str(tmp_path) not in str(error.value)


def test_a_file_cut_short_has_a_reason(tmp_path: Path, smooth_volume: NDArray[np.float32]) -> None:
    for suffix in (".mgh", ".img", ".mha", ".nrrd"):
        path = tmp_path / f"scan{suffix}"
        (write_nibabel if suffix in (".mgh", ".img") else write_itk)(path, smooth_volume)
        path.write_bytes(path.read_bytes()[: -smooth_volume.nbytes // 2])
        with pytest.raises(ScanError, match="damaged"):
            read_volume(path)


def test_vectors_are_refused(tmp_path: Path) -> None:
    vectors = SimpleITK.GetImageFromArray(np.zeros((9, 9, 9, 3), np.float32), isVector=True)
    SimpleITK.WriteImage(vectors, str(tmp_path / "field.mha"))
    with pytest.raises(ScanError, match="colours"):
        read_header(tmp_path / "field.mha")


def test_without_simpleitk_the_reason_says_how_to_get_it(
    tmp_path: Path, smooth_volume: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_itk(tmp_path / "scan.nrrd", smooth_volume)
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ScanError, match=r"need SimpleITK: pip install 'medssl\[itk\]'"):
        read_header(tmp_path / "scan.nrrd")


def test_nothing_is_printed_about_damaged_headers(
    tmp_path: Path, smooth_volume: NDArray[np.float32], capfd: pytest.CaptureFixture[str]
) -> None:
    write_nibabel(tmp_path / "scan.img", smooth_volume)
    header = bytearray((tmp_path / "scan.hdr").read_bytes())
    header[254:256] = b"\x00\x80"  # the sform code
    (tmp_path / "scan.hdr").write_bytes(header)
    (tmp_path / "scan.mha").write_bytes(b"ObjectType = Image\nNDims = 3\n")
    for name in ("scan.img", "scan.mha"):
        with contextlib.suppress(ScanError):
            read_volume(tmp_path / name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
def test_a_header_that_promises_too_much_takes_no_memory(
    tmp_path: Path, smooth_volume: NDArray[np.float32], suffix: str
) -> None:
    path = tmp_path / f"scan{suffix}"
    write_nibabel(path, smooth_volume)
    opener = gzip.open if suffix == ".mgz" else open
    with opener(path, "rb") as file:
        content = bytearray(file.read())
    content[4:16] = np.array([2000, 2000, 2000], ">i4").tobytes()
    with opener(path, "wb") as file:
        file.write(content)
    with pytest.raises(ScanError, match="too short"):
        read_header(path)


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr", ".img"])
def test_scans_in_two_files_are_told_apart_by_both(
    tmp_path: Path, smooth_volume: NDArray[np.float32], suffix: str
) -> None:
    write = write_nibabel if suffix == ".img" else write_itk
    paths = [tmp_path / name / f"scan{suffix}" for name in ("a", "b", "c")]
    for path, voxels in zip(paths, (smooth_volume, smooth_volume, smooth_volume[::-1]), strict=True):
        path.parent.mkdir()
        write(path, voxels)
    first, same, other = map(source_hash, paths)
    assert first == same != other
    before = source_signature(paths[0])
    write(paths[0], smooth_volume[::-1])
    assert source_signature(paths[0]) != before
    assert source_hash(paths[0]) == other
