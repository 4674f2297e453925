import os
from pathlib import Path

import numpy as np
import pytest

from medssl.scans.sources import source_signature

itk = pytest.importorskip("SimpleITK", reason="the extra itk is not installed")


@pytest.mark.parametrize(("header", "voxels"), [("scan.mhd", "scan.raw"), ("scan.nhdr", "scan.raw")])
@pytest.mark.parametrize("renamed", ["scan.raw", "voxels of the scan"])
def test_a_change_of_the_voxels_is_one_of_the_scan(
    header: str, voxels: str, renamed: str, tmp_path: Path
) -> None:
    itk.WriteImage(itk.GetImageFromArray(np.ones((9, 10, 11), np.int16)), str(tmp_path / header))
    (tmp_path / voxels).rename(tmp_path / renamed)
    text = (tmp_path / header).read_text().replace(voxels, renamed)
    (tmp_path / header).write_text(text)
    before = source_signature(tmp_path / header)
    assert source_signature(tmp_path / header) == before
    os.utime(tmp_path / renamed, ns=(5, 5))
    assert source_signature(tmp_path / header) != before
