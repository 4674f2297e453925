import json
from dataclasses import replace
from pathlib import Path

import pytest

from medssl.scans.fingerprint import data_fingerprint
from medssl.scans.record import IntensityRecipe, PreparedScan, ScanHeader, ScanRecord


@pytest.fixture
def scans() -> list[PreparedScan]:
    def scan(index: int, subject: str) -> PreparedScan:
        header = ScanHeader(
            (10 + index, 20, 30), (1.0, 1.0, 2.0), "LPS", "int16", ((1.0, 0.0, 0.0, 0.0),) * 4
        )
        return PreparedScan(
            record=ScanRecord(Path(f"{subject}-{index}.nii"), f"{subject}-{index}", subject),
            content_hash=f"{index:032x}",
            voxels_hash=f"{index:032x}",
            store_path=Path(f"{index}.b2nd"),
            shape=(10, 20, 30),
            spacing_mm=(1.0, 1.0, 1.0),
            recipe=IntensityRecipe("mr", 0.0, 1.0),
            source=header,
            foreground=((0, 10), (0, 20), (0, 30)),
        )

    return [scan(0, "alice"), scan(1, "alice"), scan(2, "bob")]


def test_counts_scans_subjects_and_ranges(scans: list[PreparedScan]) -> None:
    fingerprint = data_fingerprint(scans)
    assert (fingerprint["scans"], fingerprint["subjects"]) == (3, 2)
    assert fingerprint["source_shape"] == {"min": [10, 20, 30], "median": [11, 20, 30], "max": [12, 20, 30]}
    assert fingerprint["modalities"] == {"mr": 3}


def test_order_does_not_matter_and_content_does(scans: list[PreparedScan]) -> None:
    content = data_fingerprint(scans)["content"]
    assert data_fingerprint(scans[::-1])["content"] == content
    changed = [*scans[:2], replace(scans[2], content_hash="f" * 32)]
    assert data_fingerprint(changed)["content"] != content


def test_names_nobody(scans: list[PreparedScan]) -> None:
    text = json.dumps(data_fingerprint(scans))
    assert "alice" not in text
    assert "bob" not in text
