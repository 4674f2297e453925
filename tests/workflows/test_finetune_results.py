"""Runs of one step, from files to the report."""

import csv
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from medssl.config.finetune_schema import FinetuneConfig
from medssl.config.load import load_run_config
from medssl.finetune.targets import FALSE_TRUE, Target
from medssl.finetune.weights import load_model
from medssl.progress import SilentProgress
from medssl.scans.manifest import read_table
from medssl.workflows import finetune_pictures
from medssl.workflows.finetune import finetune

SMALLEST = (
    "encoder.size=tiny",
    "crop_size=[16,16,16]",
    "data.modality=mr",
    "data.prepare_workers=0",
    "training.epochs=1",
    "training.steps_per_epoch=1",
    "speed.device=cpu",
    "speed.precision=float32",
    "speed.channels_last=false",
    "speed.compile=false",
    "speed.loader_threads=1",
)


class Heard(SilentProgress):
    """Remembers what it is told."""

    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """A CSV of eight scans with a label map, of which four are test cases; one row has no image."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for number in range(8):
        smooth = ndimage.gaussian_filter(np.random.default_rng(number).normal(size=(20, 18, 16)), 2)
        voxels = (1000 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.int16)
        image, label = folder / f"scan_{number}.nii.gz", folder / f"label_{number}.nii.gz"
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(image)
        nib.Nifti1Image((voxels > 500).astype(np.uint8), np.eye(4)).to_filename(label)
        split = "test" if number >= 4 else "train"
        rows.append(
            {"image": image.name, "label": label.name, "subject_id": f"s{number}", "split": split}
            | {"age": str(number % 4), "site": "" if number >= 4 else "ab"[number % 2]}
        )
    path = folder / "cases.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    """Fine-tune in a new folder; returns the folder and what was said."""
    store = tmp_path_factory.mktemp("store")

    def start(*settings, source=table):
        out, heard = tmp_path_factory.mktemp("runs") / "run", Heard()
        config = load_run_config(FinetuneConfig, "finetune", [*SMALLEST, *settings])
        finetune(source, config=config, out=out, store=store, progress=heard)
        return out, heard.said

    return start


@pytest.fixture(scope="module")
def segmentation(run):
    return run("goal=segmentation")


@pytest.fixture(scope="module")
def classification(run):
    return run("goal=classification", "cases.targets=[age>1, site]")


def test_a_segmentation_leaves_scores_figures_report_and_card(segmentation):
    out, said = segmentation
    page, card = (out / "report.html").read_text(), (out / "MODEL_CARD.md").read_text()
    scores = read_table(out / "test_scores.csv")
    dice = np.mean([float(row["dice"]) for row in scores])
    [main] = [sentence for sentence in said if sentence.startswith("Mean Dice")]
    assert main.startswith(f"Mean Dice {dice:.3f} [")
    for text in (page, card):
        assert main in text
        assert "Segmentation of class 1, learned from 3 labelled cases. It was trained from scratch" in text
    assert "Of 1 epoch, number 1 was kept, the best on 1 validation case." in page
    assert {path.stem for path in (out / "figures").iterdir()} == {"test_worst", "test_median", "test_best"}
    worst = min(scores, key=lambda row: float(row["dice"]))
    assert f"The worst of 4 test cases: {worst['scan_id']}, Dice {float(worst['dice']):.3f}" in page
    assert page.count("data:image/png") > 3


def test_a_classification_leaves_scores_figures_report_and_card(classification):
    out, said = classification
    page = (out / "report.html").read_text()
    [main] = [sentence for sentence in said if sentence.startswith("age>1: AUROC")]
    assert main.replace(">", "&gt;") in page
    assert main in (out / "MODEL_CARD.md").read_text()
    assert "no proof that the model looks at the right thing" in page
    figures = {path.stem for path in (out / "figures").iterdir()}
    assert "target_1_reliability" in figures
    drawn = [name for name in figures if re.fullmatch(r"target_1_(right|wrong)_[12]", name)]
    assert 2 <= len(drawn) <= 4
    assert "- age&gt;1: " not in page
    assert "- age>1: false, true\n- site: a, b\n" in (out / "MODEL_CARD.md").read_text()


def test_a_question_without_test_answers_is_no_secret(classification):
    out, said = classification
    assert "No test case has an answer to site" in (out / "report.html").read_text()
    assert not any(sentence.startswith("site") for sentence in said)


def test_the_card_names_no_case(segmentation):
    card = (segmentation[0] / "MODEL_CARD.md").read_text()
    assert "scan_" not in card
    assert "s4" not in card


def test_the_weights_tell_how_they_began(segmentation):
    provenance = load_model(segmentation[0] / "model.safetensors").provenance
    assert provenance["loaded"] == {}
    assert provenance["pretraining"] is None
    assert provenance["unlabelled"] is None


def test_without_test_cases_the_report_says_that_nothing_is_known(run, table, tmp_path):
    rows = [row for row in read_table(table) if row["split"] == "train"]
    for row in rows:
        row |= {"image": str(table.parent / row["image"]), "label": str(table.parent / row["label"])}
    source = tmp_path / "cases.csv"
    with source.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "label", "subject_id"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    out, said = run("goal=segmentation", "cases.folds=2", source=source)
    page = (out / "report.html").read_text()
    assert "nothing is known about how well this model does on new patients" in page
    assert "nothing is known" in said[-1]
    assert "Training fold_1" in page
    assert "by each of 2 models, whose predictions are averaged" in page
    assert not (out / "test_scores.csv").exists()
    assert "nothing is known about new patients" in (out / "MODEL_CARD.md").read_text()


def test_without_validation_and_where_cases_take_many_crops(monkeypatch, run):
    monkeypatch.setattr(finetune_pictures, "MAX_CROPS", 0)
    out, _ = run("goal=classification", "cases.targets=[age>1]", "cases.val_fraction=0")
    page = (out / "report.html").read_text()
    assert "No cases were held out to choose an epoch by" in page
    assert "No saliency is drawn" in page
    assert [path.stem for path in (out / "figures").iterdir()] == ["target_1_reliability"]


def test_the_most_certain_answers_are_explained():
    target = Target("age>1", "age", FALSE_TRUE, ">", 1.0)
    rows = [
        {"scan_id": name, "truth": truth, "probability": probability}
        for name, truth, probability in [
            ("weakly right", 1, 0.6),
            ("wrong", 0, 0.7),
            ("surely right", 0, 0.05),
            ("right", 1, 0.9),
        ]
    ]
    chosen = finetune_pictures._most_certain(rows, target)
    assert [(name, row["scan_id"], predicted) for name, row, predicted in chosen] == [
        ("right_1", "surely right", "false"),
        ("right_2", "right", "true"),
        ("wrong_1", "wrong", "true"),
    ]
