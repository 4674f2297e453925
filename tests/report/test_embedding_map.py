import io
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from medssl.findings import Interval
from medssl.report.embedding_map import make_column, make_thumbnail, write_map


def test_few_values_are_classes_and_many_numbers_are_quarters() -> None:
    few = make_column("sex", ["f", "m", "f"])
    assert few is not None
    assert list(few.colours) == ["f", "m"]
    ages = make_column("age", [str(number) for number in range(100)])
    assert ages is not None
    assert ages.values[0] == "1: 0 to 24.75"
    assert ages.values[99] == "4: 74.25 to 99"
    assert len(ages.colours) == 4


@pytest.mark.parametrize("cells", [["same"] * 9, [f"name{number}" for number in range(50)]])
def test_a_column_that_tells_nothing_is_left_out(cells: list[str]) -> None:
    assert make_column("column", cells) is None


def test_a_thumbnail_has_anterior_on_top_right_on_the_left_and_the_true_aspect() -> None:
    volume = np.zeros((20, 30, 5), np.float32)
    volume[-4:, -6:] = 1  # right anterior
    pixels = matplotlib.image.imread(io.BytesIO(make_thumbnail(volume, (2.0, 1.0, 3.0))))
    height, width = pixels.shape[:2]
    assert width / height == pytest.approx(40 / 30, abs=0.05)
    assert pixels[2, 2, 0] > 0.9
    assert pixels[2, -3, 0] < 0.1
    assert pixels[-3, 2, 0] < 0.1


def test_the_page_holds_every_scan_and_escapes_its_name(tmp_path: Path) -> None:
    column = make_column("site", ["one", "two", "<b>"])
    assert column is not None
    thumbnail = make_thumbnail(np.random.default_rng(0).random((9, 9, 9)), (1, 1, 1))
    write_map(
        tmp_path / "map.html",
        title="Map",
        scan_ids=["a", "<script>alert(1)</script>", "c"],
        projections={"PCA": np.array([[0, 0], [0.5, 1], [1, 0.5]])},
        columns=[column],
        thumbnails=[thumbnail, None, thumbnail],
        duplicates=[("a", "c")],
        outliers=[],
        scores={"site": {"linear probe": Interval(0.8, 0.7, 0.9), "guessing": Interval(0.33, 0.33, 0.33)}},
        notes=["A note."],
    )
    page = (tmp_path / "map.html").read_text()
    assert "<script" not in page
    assert len(re.findall("<circle", page)) == 3
    assert len(re.findall("<image id=", page)) == 2
    assert "0.800 [0.700, 0.900]" in page
    assert "a and c" in page
    assert "No scan is far from all others." in page
