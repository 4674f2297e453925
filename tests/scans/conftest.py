"""Small image files to find and read."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

WriteScan = Callable[..., Path]


@pytest.fixture
def smooth_volume() -> NDArray[np.float32]:
    """A volume (12, 14, 16) of whole numbers that could be a scan: smooth, with many values."""
    noise = np.random.default_rng(0).normal(size=(12, 14, 16))
    smooth = ndimage.gaussian_filter(noise, 2)
    return np.round(1000 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


@pytest.fixture
def write_scan(tmp_path: Path, smooth_volume: NDArray[np.float32]) -> WriteScan:
    """Return a function that writes a NIfTI file below the temporary folder."""

    def write(
        name: str = "scan.nii.gz",
        *,
        volume: NDArray | None = None,
        affine: NDArray | None = None,
        dtype: type | str = np.int16,
        edit: Callable[[nib.Nifti1Header], None] | None = None,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        voxels = smooth_volume if volume is None else volume
        stored = voxels.astype(dtype)
        image = nib.Nifti1Image(stored, np.eye(4) if affine is None else affine, dtype=stored.dtype)
        image.to_filename(path)
        if edit is not None:
            _edit_header(path, edit)
        return path

    return write


def _edit_header(path: Path, edit: Callable[[nib.Nifti1Header], None]) -> None:
    """Change header fields in place, without the repairs that nibabel makes when it writes."""
    opener = nib.openers.Opener
    with opener(path, "rb") as file:
        content = file.read()
    header = nib.Nifti1Header(content[:348], check=False)
    edit(header)
    with opener(path, "wb") as file:
        file.write(header.binaryblock + content[348:])
