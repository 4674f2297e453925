"""Read every scan of a folder once and say what is there."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl.config.schema import DataConfig
from medssl.errors import ScanError
from medssl.progress import Progress
from medssl.scans.check_headers import check_scans
from medssl.scans.check_voxels import check_voxels, random_voxels
from medssl.scans.find import find_scans
from medssl.scans.hashing import voxel_hash
from medssl.scans.inspection import InspectedScan, Inspection, Intensities
from medssl.scans.modality import guess_modality, plan_intensity
from medssl.scans.read import read_volume
from medssl.scans.record import CheckedScan, SkippedScan


def inspect_folder(
    source: Path, *, workers: int, progress: Progress, data: DataConfig | None = None
) -> Inspection:
    """Read and check each scan as preparing it would, without changing or writing anything.

    Threads share the work: most of it (decompressing, hashing, arithmetic on whole volumes) releases the
    interpreter lock, and they start at once.

    Args:
        source: A file, a folder of any depth or a CSV, see `find_scans`.
        workers: Scans read at the same time; each needs memory for about three float32 copies of its volume.
        progress: Gets a bar for headers and one for voxels.
        data: How the scans would be prepared, and what 4-D and large ones count as; None for the defaults.

    Raises:
        UsageError: If ``source`` does not exist or cannot be read.
        NoUsableScanError: If it holds no image file. Files that cannot be used end up in ``skipped``.
    """
    data = data or DataConfig()
    found = find_scans(source, progress=progress, data=data)
    checked, skipped = check_scans(found, progress=progress, data=data)
    scans = []
    with (
        progress.track("Reading scans", total=len(checked)) as advance,
        ThreadPoolExecutor(workers) as pool,
    ):
        for outcome in pool.map(partial(_inspect_or_skip, data=data), checked):
            if isinstance(outcome, InspectedScan):
                scans.append(outcome)
            else:
                skipped.append(outcome)
            advance()
    skipped.sort(key=lambda scan: scan.path)
    return Inspection(source, found.layout, tuple(scans), tuple(skipped), found.notes)


def _inspect_or_skip(scan: CheckedScan, *, data: DataConfig) -> InspectedScan | SkippedScan:
    try:
        return _inspect(scan, data)
    except ScanError as error:
        return SkippedScan(scan.record.path, str(error))
    except MemoryError:
        return SkippedScan(scan.record.path, "Reading it needs more memory than there is.")


def _inspect(scan: CheckedScan, data: DataConfig) -> InspectedScan:
    volume, _ = read_volume(scan.record.path, time_point=scan.record.time_point)
    check_voxels(volume)
    header = scan.header
    modality = guess_modality(volume, header.dtype, scan.record.path, stated=header.modality)
    plan_intensity(volume, modality, data=data)
    return InspectedScan(scan.record, header, _intensities(volume), modality, voxel_hash(volume))


def _intensities(volume: NDArray[np.float32]) -> Intensities:
    p01, median, p99 = np.percentile(random_voxels(volume), (1, 50, 99)).tolist()
    return Intensities(float(volume.min()), p01, median, p99, float(volume.max()))
