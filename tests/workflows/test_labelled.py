from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl.config.finetune_schema import FinetuneConfig
from medssl.config.load import load_run_config
from medssl.errors import NoUsableScanError, UsageError
from medssl.finetune.transfer import Pretrained
from medssl.progress import SilentProgress
from medssl.scans.manifest import read_table, write_table
from medssl.workflows.labelled import (
    build_goal,
    find_cases,
    plan_crop,
    prepare,
    refuse_one_class,
    tell_disagreement,
    usable_cases,
)


class Listener(SilentProgress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def find(tmp_path: Path, ball_run: Path):
    def find_table(source: Path, *overrides: str, is_pretrained: bool = True):
        config = load_run_config(FinetuneConfig, "finetune", ["data.prepare_workers=0", *overrides])
        pretrained = Pretrained.find(ball_run) if is_pretrained else None
        labelled = find_cases(
            source, config=config, pretrained=pretrained, store=tmp_path / "store", progress=SilentProgress()
        )
        return labelled, config, pretrained

    return find_table


def test_preparation_is_that_of_pretraining(find, balls: Path):
    overrides = ("data.spacing_mm=[3,3,3]", "data.modality=ct")
    labelled, config, pretrained = find(balls, *overrides)
    assert (labelled.data.modality, labelled.spacing_mm) == ("mr", (1.0, 1.0, 1.0))
    assert plan_crop(config, pretrained=pretrained, cases=()) == (16, 16, 16)
    labelled, _, _ = find(balls, *overrides, is_pretrained=False)
    assert (labelled.data.modality, labelled.spacing_mm) == ("ct", (3.0, 3.0, 3.0))


def test_a_crop_size_that_is_set_wins(find, balls: Path):
    _, config, pretrained = find(balls, "crop_size=8")
    assert plan_crop(config, pretrained=pretrained, cases=()) == (8, 8, 8)


def test_from_scratch_the_crop_is_planned_from_the_cases(find, balls: Path):
    labelled, config, _ = find(balls, "encoder.size=tiny", is_pretrained=False)
    cases, _ = prepare(labelled, labelled.pool[:2], progress=SilentProgress())
    crop = plan_crop(config, pretrained=None, cases=cases)
    assert all(8 <= side <= 18 for side in crop)


def test_the_table_says_which_cases_are_for_the_test(find, balls: Path):
    labelled, _, _ = find(balls)
    assert [case.subject_id for case in labelled.test] == ["sub8", "sub9", "sub10"]
    assert len(labelled.pool) == 8


def test_a_table_of_test_cases_only(find, tmp_path: Path, write_balls):
    table = write_balls(tmp_path / "data", pool=0, test=2)
    with pytest.raises(UsageError, match="there is none to learn from"):
        find(table)


def test_classes_are_named_by_the_data_set_or_numbered(find, balls: Path):
    labelled, config, _ = find(balls)
    cases, _ = prepare(labelled, labelled.pool[:2], progress=SilentProgress())
    assert build_goal(config, labelled, train=cases).class_names == {0: "background", 1: "class 1"}


def test_empty_label_maps_are_no_ground_to_learn_from(find, tmp_path: Path, write_balls):
    table = write_balls(tmp_path / "data", pool=2, test=1)
    for label in table.parent.glob("label*.nii.gz"):
        nib.Nifti1Image(np.zeros((18, 18, 18), np.uint8), np.eye(4)).to_filename(label)
    labelled, config, _ = find(table)
    cases, _ = prepare(labelled, labelled.pool, progress=SilentProgress())
    with pytest.raises(UsageError, match="a voxel other than 0"):
        build_goal(config, labelled, train=cases)


def spoil(table: Path, number: int) -> None:
    """Put a case's label map on another grid."""
    label = nib.Nifti1Image(np.ones((9, 9, 9), np.uint8), np.eye(4))
    label.to_filename(table.parent / f"label{number}.nii.gz")


def test_a_label_map_on_another_grid_is_skipped_with_the_reason(find, tmp_path: Path, write_balls):
    table = write_balls(tmp_path / "data", pool=3, test=1)
    spoil(table, 1)
    labelled, _, _ = find(table)
    prepared, skipped = prepare(labelled, labelled.pool, progress=SilentProgress())
    assert [scan.path.name for scan in skipped] == ["scan1_0.nii.gz"]
    assert "9 x 9 x 9" in skipped[0].reason
    usable = usable_cases(labelled.pool, prepared, skipped, what="cases")
    assert [case.record.subject_id for case in usable] == ["sub0", "sub2"]
    with pytest.raises(NoUsableScanError, match=r"None of the 1 test cases .* scan1_0\.nii\.gz: Label map"):
        usable_cases(labelled.pool[1:2], prepared, skipped, what="test cases")


def test_no_label_map_fits(find, tmp_path: Path, write_balls):
    table = write_balls(tmp_path / "data", pool=2, test=1)
    for number in range(3):
        spoil(table, number)
    labelled, _, _ = find(table)
    with pytest.raises(NoUsableScanError, match=r"None of the 2 labelled cases .* scan0_0\.nii\.gz"):
        prepare(labelled, labelled.pool, progress=SilentProgress())


def test_cases_without_an_answer_are_left_out(find, balls: Path):
    rows = read_table(balls)
    rows[2]["radius"] = ""
    table = balls.with_name("gap.csv")
    write_table(table, list(rows[0]), rows)
    labelled, _, _ = find(table, "goal=classification", "cases.targets=[radius>4]")
    assert len(labelled.pool) == 7
    assert [scan.path.name for scan in labelled.skipped] == ["scan2_0.nii.gz"]
    assert [target.name for target in labelled.targets] == ["radius>4"]


def test_cases_of_one_class_judge_nothing(find, balls: Path):
    labelled, _, _ = find(balls, "goal=classification", "cases.targets=[radius>4]")
    cases, _ = prepare(labelled, labelled.pool, progress=SilentProgress())
    refuse_one_class(labelled, cases, what="cases")
    with pytest.raises(UsageError, match=r"2 tuning cases do not show two classes of 'radius>4'"):
        refuse_one_class(labelled, [cases[0], cases[2]], what="tuning cases")


def test_scans_unlike_those_of_pretraining_are_told(find, balls: Path, tmp_path: Path, write_balls):
    labelled, _, pretrained = find(balls)
    cases, _ = prepare(labelled, labelled.pool[:3], progress=SilentProgress())
    listener = Listener()
    tell_disagreement(pretrained, cases, progress=listener)
    assert listener.warnings == []
    provenance = {
        **pretrained.provenance,
        "spacing_mm": [1.0, 1.0, 3.0],
        "data_fingerprint": {"modalities": ["ct"]},
    }
    tell_disagreement(Pretrained(pretrained.weights, provenance), cases, progress=listener)
    spacing, modality = listener.warnings
    assert "1 x 1 x 1 mm voxels" in spacing
    assert "1 x 1 x 3 mm" in spacing
    assert "are mr and the encoder has seen ct only" in modality
