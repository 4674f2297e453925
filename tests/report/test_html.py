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


def report(folder: Path, **changes: Any) -> Page:
    """Write a report, by default of a run that measured nothing, and read it."""
    values: dict[str, Any] = {
        "title": "Run runs/first",
        "summary": {"scans": "20 of 22"},
        "metrics_csv": folder / "none.csv",
        "cues": {},
        "figures": {},
        "skipped": [],
        "notes": [],
    }
    path = folder / "report.html"
    write_report(path, **(values | changes))
    return Page(path)


@pytest.fixture(scope="module")
def measured(metrics_csv: Path, cues: dict[str, CueReport]) -> Page:
    figures = {"a scan": PNG, "rotation, epoch 2": PNG}
    return report(metrics_csv.parent, metrics_csv=metrics_csv, cues=cues, figures=figures)


def test_it_says_whether_each_task_was_learned(measured: Page) -> None:
    assert "rotation: 61 % right on validation scans" in measured.text
    assert "inpainting: mean absolute error 0.05" in measured.text
    verdicts = [p["class"] for p in measured.of("p") if "verdict" in (p.get("class") or "")]
    assert verdicts == ["verdict good"] * 2


def test_it_needs_no_other_file(measured: Page) -> None:
    sources = [image["src"] or "" for image in measured.of("img")]
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not measured.of("script")
    assert not measured.of("link")


def test_pictures_stand_with_their_task(measured: Page) -> None:
    source = f"data:image/png;base64,{b64encode(PNG).decode()}"
    captions = [image["alt"] for image in measured.of("img") if image["src"] == source]
    assert captions == ["rotation, epoch 2", "a scan"]
    places = [measured.text.index(words) for words in ("rotation, epoch 2", "inpainting: SSIM", "a scan")]
    assert places == sorted(places)


def test_skipped_scans_are_listed_with_reasons(tmp_path: Path) -> None:
    page = report(tmp_path, skipped=[SkippedScan(Path("/scans/a.nii"), "It holds no voxels.")])
    assert "/scans/a.nii" in page.text
    assert "It holds no voxels." in page.text


def test_a_file_name_cannot_become_part_of_the_page(tmp_path: Path, cues: dict[str, CueReport]) -> None:
    name = "<script>alert(1)</script><img src=x>.nii"
    page = report(
        tmp_path,
        title=name,
        summary={name: name},
        cues=cues,
        figures={"rotation, epoch 2": PNG, f'"{name}': PNG},
        skipped=[SkippedScan(Path(name), name)],
        notes=[name],
    )
    assert not page.of("script")
    assert len(page.of("img")) == 2
    assert page.text.count(name) == 8


def test_a_file_name_that_is_no_utf8_does_not_cost_the_report(tmp_path: Path) -> None:
    assert (
        "scan-?.nii"
        in report(tmp_path, skipped=[SkippedScan(Path("scan-\udce9.nii"), "It is damaged.")]).text
    )


def test_a_run_that_measured_nothing_has_a_report(tmp_path: Path) -> None:
    page = report(tmp_path)
    assert "Run runs/first" in page.text
    assert not page.of("img")


def test_a_task_that_was_never_validated_says_so(tmp_path: Path, cues: dict[str, CueReport]) -> None:
    assert "rotation: never validated" in report(tmp_path, cues=cues).text
