"""Simulated cohorts to measure on, prepared as a run would prepare them."""

from pathlib import Path

import nibabel as nib
import numpy as np

from medssl.config.schema import DataConfig
from medssl.progress import SilentProgress
from medssl.scans.record import PreparedScan
from medssl.scans.resample import LINEAR_ORDER, resample_to_shape
from medssl.scans.simulate import simulate_cohort
from medssl.scans.store import ScanStore
from medssl.workflows.cohort import find_candidates, prepare_cohort

Shape = tuple[int, int, int]

SIMULATED_UP_TO = 160
"""Voxels along the longest side up to which brains are simulated; larger ones are enlarged and noised."""

NOISE = 30.0


def make_volumes(folder: Path, *, count: int, shape: Shape) -> list[Path]:
    """Write noisy brains of a given number of voxels, uncompressed and in RAS, so that reading them is cheap.

    Returns:
        The files, whose spacing is 1 mm whatever their extent.
    """
    folder.mkdir(parents=True)
    longest = max(shape)
    small = tuple(max(length * SIMULATED_UP_TO // max(longest, SIMULATED_UP_TO), 16) for length in shape)
    simulated = folder.parent / f"{folder.name}_simulated"
    spacing = [180.0 / side for side in small]
    simulate_cohort(
        simulated,
        count=count,
        size=(small[0], small[1], small[2]),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        progress=SilentProgress(),
    )
    random = np.random.default_rng(0)
    paths = []
    for index, source in enumerate(sorted(simulated.glob("sub-*/anat/*_T1w.nii.gz"))):
        volume = nib.as_closest_canonical(nib.load(source)).get_fdata(dtype=np.float32)
        if volume.shape != shape:
            volume = resample_to_shape(volume * 1000 / volume.max(), shape, order=LINEAR_ORDER)
            volume += NOISE * random.standard_normal(shape, dtype=np.float32)
        path = folder / f"scan{index:03}.nii"
        nib.save(nib.Nifti1Image(volume.astype(np.int16), np.eye(4)), path)
        paths.append(path)
    return paths


def prepare(folder: Path, store: Path, data: DataConfig) -> list[PreparedScan]:
    """Prepare every scan of a folder; none is held out."""
    quiet = SilentProgress()
    candidates = find_candidates(folder, data=data, progress=quiet)
    cohort = prepare_cohort(
        candidates, source=folder, store=ScanStore(store), data=data, seed=0, progress=quiet
    )
    return [*cohort.train, *cohort.val]
