import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

from medssl.findings import Cell, StudySummary
from medssl.report.study import write_study_report

CELLS = [
    Cell("scratch", 2, 0, 4e-3, 400, 60.0, "folds of the pool"),
    Cell("scratch", 2, 1, 2e-3, 600, 90.0, "folds of the pool"),
    Cell("pretrained", 180, 0, 1e-3, 500, 30.0, "folds of the pool"),
]


def page(folder: Path, study: StudySummary, **changes: Any) -> str:
    values: dict[str, Any] = {"cells": CELLS, "caveats": ["One site only."]} | changes
    write_study_report(folder / "report.html", study, **values)
    return (folder / "report.html").read_text(encoding="utf-8")


def rows(html: str) -> list[list[str]]:
    """Return the cells of all table rows as text."""
    found = re.findall(r"<tr>(.*?)</tr>", html, flags=re.DOTALL)
    return [[unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", row, flags=re.DOTALL)] for row in found]


def test_the_verdict_comes_first_then_the_figure_then_the_table(study: StudySummary, tmp_path: Path) -> None:
    html = page(tmp_path, study)
    places = [html.index(part) for part in ('class="verdict good"', "<img", "<table", "One site only.")]
    assert places == sorted(places)


def test_each_budget_and_arm_has_a_row(study: StudySummary, tmp_path: Path) -> None:
    table = rows(page(tmp_path, study))
    assert ["2", "scratch", "0.700 [0.680, 0.720]", "", "", "77.8 % [76.8, 78.8]", "3", "60"] in table
    assert [
        "all (180)", "pretrained", "0.880 [0.860, 0.900]", "-0.020 [-0.030, -0.010]",
        "120 [at most 2, more than 180]", "97.8 % [96.8, 98.8]", "3", "60",
    ] in table  # fmt: skip
    assert len([row for row in table if len(row) == 8]) == 6


def test_costs_are_told_for_each_arm_and_budget(study: StudySummary, tmp_path: Path) -> None:
    table = rows(page(tmp_path, study))
    assert ["scratch", "2", "2", "0.002, 0.004", "folds of the pool", "500", "2.5"] in table
    assert ["pretrained", "all (180)", "1", "0.001", "folds of the pool", "500", "0.5"] in table


def test_it_needs_no_other_file(study: StudySummary, tmp_path: Path) -> None:
    html = page(tmp_path, study, pictures={"reliability": b"picture"})
    sources = re.findall(r'src="([^"]*)"', html)
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<script" not in html
    assert "<link" not in html


def test_further_metrics_follow(study: StudySummary, tmp_path: Path) -> None:
    html = page(tmp_path, study, others=[replace(study, metric="hd95_mm")])
    assert html.index("Dice: what was found") < html.index("HD95 in mm: what was found")
    assert html.count("<img") == 2
    assert html.count("Less is better.") == 1


def test_names_cannot_become_part_of_the_page(study: StudySummary, tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    arms = tuple(replace(arm, name=name) if arm.name == "pretrained" else arm for arm in study.arms)
    cells = [replace(CELLS[0], arm=name, tuned_on=name)]
    html = page(
        tmp_path, replace(study, arms=arms), cells=cells, caveats=[name], title=name, pictures={name: b""}
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 8
