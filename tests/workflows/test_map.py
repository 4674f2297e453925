import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medssl.errors import UsageError
from medssl.progress import SilentProgress
from medssl.workflows.map import map_embeddings, read_embeddings


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


def test_npz_and_csv_are_the_same(table: Path, tmp_path: Path) -> None:
    read = read_embeddings(table)
    paths = [str(path) for path in read.paths]
    names = {"scan_id": read.scan_ids, "subject_id": read.subject_ids, "path": paths}
    np.savez(tmp_path / "embeddings.npz", **names, embeddings=read.vectors)
    again = read_embeddings(tmp_path / "embeddings.npz")
    assert (again.scan_ids, again.subject_ids, again.paths) == (read.scan_ids, read.subject_ids, read.paths)
    np.testing.assert_array_equal(again.vectors, read.vectors)


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "scan_id,subject_id,path,e0\nx,y,z,word\n"])
def test_a_table_of_something_else_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(UsageError, match="medssl embed"):
        read_embeddings(tmp_path / "table.csv")


def test_labels_of_other_scans_are_refused(table: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("image,label\nother.nii.gz,3\n")
    with pytest.raises(UsageError, match="names none of these scans"):
        draw(table, tmp_path / "map.html", labels=tmp_path / "other.csv")
