import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medssl.errors import UsageError
from medssl.progress import SilentProgress
from medssl.workflows.map import map_embeddings


@pytest.fixture
def table(write_balls: Callable[..., Path], tmp_path: Path) -> Path:
    """Embeddings of eleven balls that hold their radius."""
    with write_balls(tmp_path / "balls").open() as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(0)
    with (tmp_path / "embeddings.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["scan_id", "subject_id", "path", "e0", "e1", "e2"])
        for row in rows:
            vector = float(row["radius"]) + rng.normal(0, 0.1, 3)
            path = tmp_path / "balls" / row["image"]
            writer.writerow([path.name, row["subject_id"], path, *vector])
    return tmp_path / "embeddings.csv"


def draw(table: Path, out: Path, *, labels: Path | None = None) -> str:
    map_embeddings(table, out=out, labels=labels, has_thumbnails=True, progress=SilentProgress())
    return out.read_text()


def test_a_map_is_coloured_by_the_columns_of_a_table(table: Path, tmp_path: Path) -> None:
    page = draw(table, tmp_path / "map.html", labels=tmp_path / "balls" / "cases.csv")
    assert page.count("<circle") == 2 * 11
    assert page.count("<image id=") == 11
    assert "radius: 5" in page
    assert "linear probe" in page


def test_labels_of_other_scans_are_refused(table: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("image,label\nother.nii.gz,3\n")
    with pytest.raises(UsageError, match="names none of these scans"):
        draw(table, tmp_path / "map.html", labels=tmp_path / "other.csv")
