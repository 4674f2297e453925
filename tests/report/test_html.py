from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from medssl.pretext.task import CueReport
from medssl.report.html import write_report
from medssl.scans.record import SkippedScan

PNG = b"\x89PNG picture"


class Page(HTMLParser):
    """What a browser would make of the report: its elements, and the text outside of style."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, text: str) -> None:
        if self.elements and self.elements[-1][0] != "style":
            self.text += text

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def report(tmp_path: Path, metrics_csv: Path, cues: dict[str, CueReport]):
    def write(**changes: Any) -> Page:
        values: dict[str, Any] = {
            "title": "Run runs/first",
            "summary": {"scans": "20 of 22"},
            "metrics_csv": metrics_csv,
            "cues": cues,
            "figures": {"rotation, epoch 2": PNG, "a scan": PNG},
            "skipped": [],
            "notes": [],
        }
        path = tmp_path / "report.html"
        write_report(path, **(values | changes))
        return Page(path)

    return write


def test_it_says_whether_each_task_was_learned(report) -> None:
    page = report()
    assert "rotation: 61 % right on validation scans" in page.text
    assert "inpainting: mean absolute error 0.05" in page.text
    assert [p["class"] for p in page.of("p") if "verdict" in (p.get("class") or "")] == ["verdict good"] * 2


def test_it_needs_no_other_file(report) -> None:
    page = report()
    sources = [image["src"] or "" for image in page.of("img")]
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not page.of("script")
    assert not page.of("link")


def test_pictures_stand_with_their_task(report) -> None:
    page = report()
    source = f"data:image/png;base64,{b64encode(PNG).decode()}"
    captions = [image["alt"] for image in page.of("img") if image["src"] == source]
    assert captions == ["rotation, epoch 2", "a scan"]
    assert (
        page.text.index("rotation, epoch 2") < page.text.index("inpainting: SSIM") < page.text.index("a scan")
    )


def test_skipped_scans_are_listed_with_reasons(report) -> None:
    page = report(skipped=[SkippedScan(Path("/scans/a.nii"), "It holds no voxels.")])
    assert "/scans/a.nii" in page.text
    assert "It holds no voxels." in page.text


def test_a_file_name_cannot_become_part_of_the_page(report) -> None:
    name = "<script>alert(1)</script><img src=x>.nii"
    images = len(report().of("img"))
    page = report(
        title=name,
        summary={name: name},
        skipped=[SkippedScan(Path(name), name)],
        notes=[name],
        figures={"rotation, epoch 2": PNG, f'"{name}': PNG},
    )
    assert not page.of("script")
    assert len(page.of("img")) == images
    assert page.text.count(name) == 8


def test_a_file_name_that_is_no_utf8_does_not_cost_the_report(report) -> None:
    assert "scan-?.nii" in report(skipped=[SkippedScan(Path("scan-\udce9.nii"), "It is damaged.")]).text


def test_a_run_that_measured_nothing_has_a_report(report, tmp_path: Path) -> None:
    page = report(metrics_csv=tmp_path / "none.csv", cues={}, figures={})
    assert "Run runs/first" in page.text
    assert not page.of("img")


def test_a_task_that_was_never_validated_says_so(report, tmp_path: Path) -> None:
    assert "rotation: never validated" in report(metrics_csv=tmp_path / "none.csv").text
