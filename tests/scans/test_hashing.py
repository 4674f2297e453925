import hashlib
from pathlib import Path

import numpy as np
import pytest

from medssl.errors import ScanError
from medssl.scans.hashing import content_hash, voxel_hash
from medssl.scans.read import read_volume


def test_content_hash_is_blake2b_of_all_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    content = np.random.default_rng(0).bytes(700_001)
    path.write_bytes(content)
    assert content_hash(path) == hashlib.blake2b(content, digest_size=16).hexdigest()


def test_content_hash_of_a_missing_file_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="No such file"):
        content_hash(tmp_path / "a.nii")


def test_voxel_hash_tells_values_and_shapes_apart() -> None:
    volume = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    other = volume.copy()
    other[1, 2, 3] += 1
    hashes = {voxel_hash(volume), voxel_hash(other), voxel_hash(volume.reshape(4, 3, 2))}
    assert len(hashes) == 3
    assert voxel_hash(volume) == voxel_hash(np.asfortranarray(volume))


def test_one_brain_in_eight_axis_orders_has_one_voxel_hash(shared_data: Path) -> None:
    paths = list((shared_data / "messy" / "orientations").glob("*.nii.gz"))
    assert len({content_hash(path) for path in paths}) == 8
    assert len({voxel_hash(read_volume(path)[0]) for path in paths}) == 1
