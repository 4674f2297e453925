import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medssl.errors import NoUsableScanError
from medssl.progress import SilentProgress
from medssl.scans import inspect as inspect_module
from medssl.scans.inspect import inspect_folder
from medssl.scans.inspection import Inspection

WriteScan = Callable[..., Path]


def inspect(source: Path, workers: int = 2) -> Inspection:
    return inspect_folder(source, workers=workers, progress=SilentProgress())


@pytest.fixture
def folder(write_scan: WriteScan, smooth_volume: NDArray[np.float32], tmp_path: Path) -> Path:
    """Three different scans, two copies of one in another axis order, and four files that cannot be used."""
    left_first = np.diag([-2.0, 2, 2, 1])
    write_scan("a.nii.gz")
    write_scan("b.nii.gz", volume=smooth_volume[:, :, ::-1] * 3, affine=left_first)
    write_scan("c.nii.gz", volume=smooth_volume[:, :12, :12] - 500, dtype=np.float32)
    write_scan("copies/a_flipped.nii", volume=smooth_volume[::-1], affine=np.diag([-1.0, 1, 1, 1]))
    write_scan("noise.nii", volume=np.random.default_rng(0).integers(0, 999, (12, 12, 12)))
    write_scan("small.nii", volume=smooth_volume[:4, :4, :4])
    (tmp_path / "text.nii.gz").write_text("hello")
    (tmp_path / "x.nrrd").touch()
    return tmp_path


def test_everything_is_counted_and_measured(folder: Path) -> None:
    inspection = inspect(folder)
    assert inspection.layout == "plain"
    assert [scan.record.scan_id for scan in inspection.scans] == ["a", "b", "c", "copies/a_flipped"]
    assert inspection.subjects == 4
    assert inspection.dtypes == {"int16": 3, "float32": 1}
    assert inspection.orientations == {"LAS": 2, "RAS": 2}
    assert inspection.modalities == {"mr": 3, "other": 1}
    assert inspection.shapes is not None
    assert (inspection.shapes.min, inspection.shapes.median) == ([12, 12, 12], [12, 14, 16])
    assert inspection.spacings_mm is not None
    assert (inspection.spacings_mm.median, inspection.spacings_mm.max) == ([1, 1, 1], [2, 2, 2])
    minima = inspection.intensities["minimum"]
    assert minima is not None
    assert minima.max == [0]
    assert inspection.scans[1].intensities.maximum == 3000
    assert inspection.duplicates == [[folder / "a.nii.gz", folder / "copies" / "a_flipped.nii"]]


def test_every_file_that_cannot_be_used_has_a_reason(folder: Path) -> None:
    reasons = {scan.path.name: scan.reason for scan in inspect(folder).skipped}
    assert list(reasons) == ["noise.nii", "small.nii", "text.nii.gz", "x.nrrd"]
    assert "noise" in reasons["noise.nii"]
    assert "too small" in reasons["small.nii"]
    assert "not NIfTI" in reasons["text.nii.gz"]
    assert "damaged" in reasons["x.nrrd"]


def test_json_is_plain_stable_and_free_of_the_workers(folder: Path) -> None:
    as_dict = inspect(folder, workers=1).as_dict()
    assert json.dumps(as_dict) == json.dumps(inspect(folder, workers=4).as_dict())
    assert json.loads(json.dumps(as_dict, allow_nan=False)) == as_dict
    assert as_dict["counts"] == {"scans": 4, "subjects": 4, "skipped": 4}
    assert as_dict["duplicates"] == [["a.nii.gz", "copies/a_flipped.nii"]]
    assert as_dict["scans"][1]["path"] == "b.nii.gz"
    assert as_dict["scans"][1]["spacing_mm"] == [2, 2, 2]


def test_keys_do_not_depend_on_what_is_found(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    unusable = tmp_path_factory.mktemp("unusable")
    shutil.copy(folder / "text.nii.gz", unusable)
    empty = inspect(unusable).as_dict()
    assert list(empty) == list(inspect(folder).as_dict())
    assert empty["shape_ras"] is None
    assert len(empty["skipped"]) == 1


def test_a_scan_that_does_not_fit_into_memory_is_skipped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = inspect_module.read_volume

    def exhausting(path: Path, **options: str | None) -> tuple[np.ndarray, np.ndarray]:
        if path.name == "b.nii.gz":
            raise MemoryError
        return read(path, **options)

    monkeypatch.setattr(inspect_module, "read_volume", exhausting)
    inspection = inspect(folder)
    assert len(inspection.scans) == 3
    assert "memory" in next(scan.reason for scan in inspection.skipped if scan.path.name == "b.nii.gz")


def test_one_file_is_shown_by_its_name(folder: Path) -> None:
    inspection = inspect(folder / "a.nii.gz")
    assert inspection.layout == "file"
    assert [scan["path"] for scan in inspection.as_dict()["scans"]] == ["a.nii.gz"]


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoUsableScanError):
        inspect(tmp_path)


def test_what_a_hospital_folder_holds(shared_data: Path) -> None:
    inspection = inspect(shared_data / "messy")
    assert len(inspection.scans) == 20
    assert inspection.modalities == {"mr": 17, "other": 2, "ct": 1}
    assert [len(group) for group in inspection.duplicates] == [8]
    words = {
        "V1.nii.gz": "4-D",
        "complex.nii.gz": "complex",
        "ct_perfusion.nii.gz": "RGB",
        "example4d.nii.gz": "4-D",
        "example_nifti2.nii.gz": "4-D",
        "functional.nii": "4-D",
        "low_res.nii.gz": "too small",
        "minimal.nii.gz": "no orientation",
        "mtr.nii.gz": "7.9% of its voxels are NaN",
        "noise_float64_32cube.nii.gz": "noise",
        "pval.LH.nii.gz": "surface",
        "shear.nii.gz": "18.5 degrees",
        "t2s_seg-deepseg.nii.gz": "label map",
        "warp_t22mt1.nii.gz": "5-D",
    }
    skipped = {scan.path.name: scan.reason for scan in inspection.skipped}
    assert skipped.keys() == words.keys()
    for name, word in words.items():
        assert word in skipped[name]


def test_no_torch_is_imported(folder: Path) -> None:
    code = f"""
import sys
from pathlib import Path
import medssl.cli.inspect
from medssl.scans.inspect import inspect_folder
from medssl.progress import SilentProgress
inspect_folder(Path({str(folder)!r}), workers=1, progress=SilentProgress())
print(sorted({{"torch", "monai", "ignite", "tensorboard"}} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
