from base64 import b64encode
from pathlib import Path

import pytest

from medssl.report.finetune import Picture, Section, Table, write_finetune_report
from medssl.report.verdict import Verdict
from medssl.scans.record import SkippedScan

EVIL = "<script>alert(1)</script>"

METRICS = """epoch,train/segmentation/dice,val/segmentation/dice,val/loss,learning_rate
1,0.2,0.3,0.7,0.001
2,0.4,0.5,0.5,0.0005
"""


@pytest.fixture
def report(tmp_path):
    def write(**changes):
        values = {
            "title": "a run",
            "verdicts": [Verdict("It does well.", "good")],
            "summary": {"encoder": "a compact one"},
            "sections": [],
            "metrics_csvs": {"": tmp_path / "none.csv"},
            "notes": [],
            "skipped": [],
        }
        path = tmp_path / "report.html"
        write_finetune_report(path, **(values | changes))
        return path.read_text(encoding="utf-8")

    return write


def section(text: str) -> Section:
    table = Table(f"caption {text}", ("class", "Dice"), ((f"cell {text}", "0.9"),))
    return Section(
        f"heading {text}", table, [table], [Picture("a", f"picture {text}", b"PNG")], [f"note {text}"]
    )


def test_sections_hold_tables_pictures_and_notes(report):
    page = report(sections=[section("one"), section("two")])
    for text in ("one", "two"):
        for words, count in (("heading", 1), ("caption", 2), ("cell", 2), ("note", 1)):
            assert page.count(f"{words} {text}<") == count
        assert f'alt="picture {text}"' in page
    assert page.count(f"data:image/png;base64,{b64encode(b'PNG').decode()}") == 2


def test_it_begins_with_sentences(report):
    page = report(notes=["A warning."])
    places = [page.index(words) for words in ("It does well.", "A warning.", "a compact one")]
    assert places == sorted(places)


def test_every_training_has_its_curves(report, tmp_path):
    metrics = tmp_path / "metrics.csv"
    metrics.write_text(METRICS)
    page = report(metrics_csvs={"fold_1": metrics, "fold_2": metrics})
    assert "Training fold_1" in page
    assert "Training fold_2" in page
    for caption in ("segmentation: dice", "validation loss, by which the epoch is chosen", "learning rate"):
        assert page.count(f"<figcaption>{caption}<") == 2
    assert "gradient norm" not in page


def test_a_name_cannot_become_part_of_the_page(report):
    page = report(
        title=EVIL,
        verdicts=[Verdict(EVIL, "good")],
        summary={EVIL: EVIL},
        sections=[section(EVIL)],
        notes=[EVIL],
        skipped=[SkippedScan(Path(EVIL), EVIL)],
    )
    assert "<script" not in page


def test_skipped_cases_are_listed(report):
    page = report(skipped=[SkippedScan(Path("/scans/a.nii"), "It has no label map.")])
    assert "/scans/a.nii" in page
    assert "It has no label map." in page
