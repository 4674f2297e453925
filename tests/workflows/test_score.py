from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medssl.config.schema import DataConfig
from medssl.finetune.classification import Classification
from medssl.finetune.segmentation import Segmentation
from medssl.finetune.targets import parse_targets
from medssl.progress import SilentProgress
from medssl.scans.cases import prepare_cases
from medssl.scans.datasets import find_labelled
from medssl.scans.labelled import LabelledCase
from medssl.scans.store import ScanStore
from medssl.workflows.score import answer_rows, score_cases
from medssl.workflows.study import primary_score

TURNED = np.array([[0, -2, 0, 10], [0, 0, 1.0, -5], [-1.5, 0, 0, 3], [0, 0, 0, 1]], dtype=float)


def prepare_all(source: Path, store: Path):
    cases, skipped = prepare_cases(
        find_labelled(source).cases,
        store=ScanStore(store),
        spacing_mm=(1.0, 1.0, 1.0),
        data=DataConfig(modality="mr", prepare_workers=0),
        progress=SilentProgress(),
    )
    assert not skipped
    return cases


@pytest.mark.parametrize("affine", [np.eye(4), TURNED], ids=["upright", "turned and anisotropic"])
def test_a_good_model_scores_well_on_any_grid(threshold, tmp_path: Path, affine):
    rng = np.random.default_rng(0)
    body = np.zeros((20, 22, 24), bool)
    body[3:11, 4:16, 6:12] = True
    scan = (300 + 500 * body + rng.normal(0, 10, body.shape)).astype(np.int16)
    nib.Nifti1Image(scan, affine).to_filename(tmp_path / "scan.nii.gz")
    nib.Nifti1Image(3 * body.astype(np.uint8), affine).to_filename(tmp_path / "label.nii.gz")
    (tmp_path / "cases.csv").write_text("image,label,subject_id\nscan.nii.gz,label.nii.gz,s1\n")
    (case,) = prepare_all(tmp_path / "cases.csv", tmp_path / "store")
    (row,) = score_cases(threshold(), [case], progress=SilentProgress())
    assert (row["scan_id"], row["subject_id"]) == ("scan", "s1")
    assert row["dice"] == row["dice_bright"] > 0.93
    assert row["nsd_2mm"] > 0.99
    (worse,) = score_cases(threshold(0.999), [case], progress=SilentProgress())
    assert worse["dice"] < 0.5


def test_scores_are_of_the_file_not_of_the_prepared_label(threshold, balls: Path, tmp_path: Path):
    case = prepare_all(balls, tmp_path / "store")[0]
    predictor = threshold()
    goal = Segmentation({0: "background", 1: "ball"})
    rows = score_cases(
        type(predictor)(predictor.models, goal, predictor.crop_size, predictor.settings),
        [case],
        progress=SilentProgress(),
    )
    truth = np.asarray(nib.load(case.record.label).dataobj) == 1
    scan = np.asarray(nib.load(case.record.path).dataobj).astype(float)
    recipe = case.recipe
    found = (scan - recipe.lower) / (recipe.upper - recipe.lower) > 0.5
    expected = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert rows[0]["dice"] == pytest.approx(expected, abs=0.01)


@pytest.fixture
def answered():
    """Three cases with two targets, one of which is not always answered."""
    values = [{"age": "30", "grade": "a"}, {"age": "70", "grade": "b"}, {"age": "", "grade": "c"}]
    records = [
        LabelledCase(f"scan{n}", f"sub{n}", (Path(f"/{n}.nii"),), None, row) for n, row in enumerate(values)
    ]
    targets = parse_targets(["age>50", "grade"], records)
    goal = Classification.fit(targets, records)

    class Case:
        def __init__(self, record):
            self.record = record

    return goal, [Case(record) for record in records]


def test_answers_are_rows_of_each_target(answered):
    goal, cases = answered
    rows = answer_rows(goal, lambda case: torch.tensor([0.25, 0.75, 0.5, 0.25, 0.25]), cases)
    assert rows[0] == {
        "scan_id": "scan0", "subject_id": "sub0", "target": "age>50", "truth": 0, "probability": 0.75,
    }  # fmt: skip
    assert rows[1] == {
        "scan_id": "scan0", "subject_id": "sub0", "target": "grade", "truth": "a",
        "probability_a": 0.5, "probability_b": 0.25, "probability_c": 0.25,
    }  # fmt: skip
    assert [(row["scan_id"], row["target"]) for row in rows[2:]] == [
        ("scan1", "age>50"), ("scan1", "grade"), ("scan2", "grade"),
    ]  # fmt: skip


def test_models_are_chosen_by_mean_dice_or_auroc():
    assert primary_score([{"dice": 0.5, "dice_a": 0.1}, {"dice": 0.7, "dice_a": 0.1}]) == pytest.approx(0.6)
    binary = [
        {"target": "t", "truth": truth, "probability": value}
        for truth, value in ((0, 0.1), (1, 0.4), (0, 0.5), (1, 0.9))
    ]
    assert primary_score(binary) == pytest.approx(0.75)
    several = [
        {"target": "u", "truth": truth, "probability_a": a, "probability_b": 1 - a}
        for truth, a in (("a", 0.9), ("b", 0.2), ("a", 0.6))
    ]
    assert primary_score([*binary, *several]) == pytest.approx((0.75 + 1 + 1) / 3)
