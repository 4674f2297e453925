import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
from scipy import ndimage
from typer.testing import CliRunner

from medssl.cli import inspect as inspect_module
from medssl.cli.inspect import inspect
from medssl.errors import ConfigError, NoUsableScanError
from medssl.scans.inspection import Inspection
from medssl.scans.record import SkippedScan

Invoke = Callable[..., tuple[str, str]]

app = typer.Typer()
app.command()(inspect)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two copies of one scan, a label map and a text file, in a folder whose name is markup to rich."""
    folder = tmp_path / "[bold]scans"
    folder.mkdir()
    noise = np.random.default_rng(0).normal(size=(12, 14, 16))
    scan = nib.Nifti1Image((1000 * ndimage.gaussian_filter(noise, 2)).astype(np.int16), np.eye(4))
    for name in ("first.nii.gz", "again.nii", "first_seg.nii.gz"):
        scan.to_filename(folder / name)
    (folder / "letter.nii.gz").write_text("Dear colleague")
    return folder


@pytest.fixture
def invoke() -> Invoke:
    """Return a function that runs the command and gives standard output and standard error."""

    def run(*arguments: str | Path) -> tuple[str, str]:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception:
            raise result.exception
        return result.stdout, result.stderr

    return run


def test_a_newcomer_reads_what_is_there(invoke: Invoke, folder: Path) -> None:
    output, _ = invoke(folder)
    words = " ".join(output.split())
    assert "plain" in words
    assert "2 of 4 image files can be used" in words
    assert "int16 2" in words
    assert "RAS 2" in words
    assert "12 x 14 x 16" in words
    assert "1 again.nii 1 first.nii.gz" in words
    assert "first_seg.nii.gz Its name says that it is a label map." in words
    assert "letter.nii.gz The content is not NIfTI, although the name says so." in words


def test_names_are_no_markup(invoke: Invoke, folder: Path) -> None:
    (folder / "again.nii").rename(folder / "[red]again.nii")
    (folder / "letter.nii.gz").rename(folder / "[red]letter.nii.gz")
    output, _ = invoke(folder)
    assert "[bold]scans" in "".join(output.split())
    assert "[red]again.nii" in output
    assert "[red]letter.nii.gz" in output


def test_json_alone_stands_on_standard_output(invoke: Invoke, folder: Path) -> None:
    output, progress = invoke(folder, "--json", "--workers", "1")
    content = json.loads(output)
    assert content["counts"] == {"scans": 2, "subjects": 2, "skipped": 2}
    assert content["skipped"][0] == {
        "path": "first_seg.nii.gz", "reason": "Its name says that it is a label map.",
    }  # fmt: skip
    assert "Reading scans" in progress


def test_reasons_are_shown_before_no_scan_ends_in_an_error(folder: Path) -> None:
    (folder / "first.nii.gz").unlink()
    (folder / "again.nii").unlink()
    result = CliRunner().invoke(app, [str(folder)])
    assert "not NIfTI" in result.stdout
    assert isinstance(result.exception, NoUsableScanError)
    assert "None of the 2 image files" in str(result.exception)


@pytest.mark.parametrize(("files", "lines"), [(3, 4), (4, 2)])
def test_many_files_with_one_reason_share_a_line(tmp_path: Path, files: int, lines: int) -> None:
    skipped = [SkippedScan(tmp_path / f"masks/{number}.nii", "A mask.") for number in range(files)]
    skipped.append(SkippedScan(tmp_path / "masks/odd.nii", "Empty."))
    inspection = Inspection(tmp_path, "plain", (), tuple(skipped), ())
    shown = list(inspect_module._skipped_lines(inspection))
    assert len(shown) == lines
    assert shown[-1] == ("masks/odd.nii", "Empty.")
    if files == 4:
        assert shown[0] == ("masks/ (4 files)", "A mask.")


def test_names_that_are_no_utf8_can_be_printed(invoke: Invoke, folder: Path) -> None:
    broken = b"caf\xe9.nii.gz".decode("utf-8", errors="surrogateescape")
    (folder / broken).write_text("no scan")
    assert "caf?.nii.gz" in invoke(folder)[0]
    assert json.loads(invoke(folder, "--json")[0])["skipped"][0]["path"] == broken


@pytest.mark.parametrize(
    ("time_points", "ids"), [("skip", []), ("first", ["4d"]), ("mean", ["4d"]), ("all", ["4d@0", "4d@1"])]
)
def test_a_4d_scan_counts_as_it_would_in_training(
    invoke: Invoke, tmp_path: Path, time_points: str, ids: list[str]
) -> None:
    noise = np.random.default_rng(0).normal(size=(12, 14, 16, 2)) * [1, 2]
    series = (1000 * ndimage.gaussian_filter(noise, (2, 2, 2, 0))).astype(np.int16)
    for name, voxels in (("3d", series[..., 0]), ("4d", series)):
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(tmp_path / f"{name}.nii.gz")
    output, _ = invoke(tmp_path, "--json", "--set", f"data.time_points={time_points}")
    scans = {scan["scan_id"]: scan["intensities"]["maximum"] for scan in json.loads(output)["scans"]}
    assert list(scans) == ["3d", *ids]
    if time_points == "all":
        assert scans["4d@0"] == scans["3d"] < scans["4d@1"]


def test_a_setting_that_does_not_exist_is_refused(invoke: Invoke, folder: Path) -> None:
    with pytest.raises(ConfigError, match="time_points"):
        invoke(folder, "--set", "data.time_point=mean")
