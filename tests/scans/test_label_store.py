import numpy as np
import pytest

from medssl.scans.label_store import find_label, label_path, write_label
from medssl.scans.store import ScanStore


@pytest.mark.parametrize("suffix", [".b2nd", ".places"])
def test_a_flipped_bit_is_found_by_the_checksum(tmp_path, suffix):
    labels = np.random.default_rng(0).integers(0, 3, (9, 10, 11)).astype(np.uint8)
    store = ScanStore(tmp_path)
    path = label_path(store, "key", image_hash="i", label_hash="l")
    written = write_label(store, path, labels, outside_share=0.0)
    assert find_label(path) == written
    file = path.with_suffix(suffix)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert find_label(path) is None
    assert find_label(path, is_verified=False) == written
