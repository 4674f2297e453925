"""Fine-tuning from a table to a model, with runs of a few steps."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medssl.config.finetune_schema import FinetuneConfig
from medssl.config.load import load_run_config
from medssl.errors import ConfigError, NoUsableScanError, UsageError
from medssl.finetune.weights import MODEL, load_model
from medssl.progress import SilentProgress
from medssl.scans.manifest import read_table
from medssl.workflows import finetune as workflow
from medssl.workflows.finetune import FinetuneOutcome, finetune

SMALL = (
    "training.epochs=2", "training.steps_per_epoch=2", "encoder.size=tiny", "data.modality=mr",
    "data.prepare_workers=0", "speed.device=cpu", "speed.precision=float32", "speed.channels_last=false",
    "speed.loader_threads=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def tune(balls: Path, ball_run: Path, store: Path, tmp_path: Path):
    """Fine-tune on the balls; ``resume=True`` goes on with the same folder."""

    def run(
        *overrides: str, source: Path = balls, encoder=ball_run, name="run", resume=False
    ) -> FinetuneOutcome:
        return finetune(
            None if resume else source,
            config=load_run_config(FinetuneConfig, "finetune", [*SMALL, *overrides]),
            out=tmp_path / name,
            encoder=None if resume else encoder,
            store=store,
            resume=resume,
            progress=SilentProgress(),
        )

    return run


@pytest.fixture
def no_report(monkeypatch) -> None:
    """Leave out scores and report, which take longest."""
    monkeypatch.setattr(workflow, "score_and_report", lambda *arguments, **options: [])


def subjects_by_side(run: Path) -> dict[str, list[str]]:
    sides: dict[str, list[str]] = {}
    for row in read_table(run / "split.csv"):
        sides.setdefault(row["split"], []).append(row["subject_id"])
    return sides


def test_a_run_learns_from_its_budget_and_tests_on_test_cases(tune, tmp_path: Path, monkeypatch):
    streams = []

    def open_and_remember(cases, **options):
        streams.append(original(cases, **options))
        return streams[-1]

    original = workflow.open_stream
    monkeypatch.setattr(workflow, "open_stream", open_and_remember)
    outcome = tune("cases.labels=4", "cases.val_fraction=0.25")
    sides = subjects_by_side(tmp_path / "run")
    assert {side: len(names) for side, names in sides.items()} == {
        "test": 3, "fold 1 train": 3, "fold 1 val": 1,
    }  # fmt: skip
    assert sides["test"] == ["sub8", "sub9", "sub10"]
    assert len({name for names in sides.values() for name in names}) == 7
    [stream] = streams
    learned = {
        name.replace("scan", "sub").removesuffix("_0") for name in stream.scan_ids(0) + stream.scan_ids(1)
    }
    assert learned == set(sides["fold 1 train"])
    assert [row["subject_id"] for row in outcome.scores] == sides["test"]
    assert all(0 <= row["dice"] <= 1 for row in outcome.scores)
    assert "val/segmentation/dice" in (tmp_path / "run" / "metrics.csv").read_text()


def test_each_fold_holds_out_other_subjects(tune, no_report, tmp_path: Path):
    outcome = tune("cases.labels=4", "cases.folds=2", "training.epochs=1")
    run = tmp_path / "run"
    assert outcome.models == [run / f"fold_{number}" / MODEL for number in (1, 2)]
    sides = subjects_by_side(run)
    held_out = sides["fold 1 val"] + sides["fold 2 val"]
    assert len(held_out) == len(set(held_out)) == 4
    for number in (1, 2):
        assert set(sides[f"fold {number} train"]) == set(held_out) - set(sides[f"fold {number} val"])


def test_a_frozen_encoder_is_that_of_the_run(tune, no_report, ball_run: Path):
    [model] = tune("transfer.mode=frozen", "training.epochs=1").models
    given, kept = load_file(ball_run / "encoder.safetensors"), load_file(model)
    assert all(torch.equal(kept[f"encoder.{name}"], tensor) for name, tensor in given.items())


def test_two_channels_from_the_table_to_the_scores(tune, write_balls, tmp_path: Path):
    table = write_balls(tmp_path / "data", pool=3, test=1, channels=2)
    outcome = tune(source=table)
    assert len(outcome.scores) == 1
    loaded = load_model(outcome.models[0])
    assert loaded.model.encoder.in_channels == 2
    assert loaded.provenance["channel_names"] == ["image", "image_2"]
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "Encoder: 100.0 % of the parameters loaded" in log
    assert "1 adapted" in log or "2 adapted" in log
    assert "Decoder:" in log


def test_classification_from_the_table_to_the_scores(tune):
    outcome = tune("goal=classification", "cases.targets=[radius>4, radius]", "cases.labels=6")
    assert [(row["subject_id"], row["target"]) for row in outcome.scores][:2] == [
        ("sub8", "radius>4"), ("sub8", "radius"),
    ]  # fmt: skip
    assert all(0 <= row["probability"] <= 1 for row in outcome.scores)
    assert {row["truth"] for row in outcome.scores} == {0, 1}


def test_a_model_from_scratch_claims_no_pretraining(tune, no_report):
    plain = tune("crop_size=16", encoder=None, name="plain").models[0]
    twin = tune("transfer.mode=from_scratch", name="twin").models[0]
    pretrained = tune(name="pretrained").models[0]
    assert load_model(plain).provenance["pretraining"] is None
    assert load_model(twin).provenance["pretraining"] is None
    assert load_model(pretrained).provenance["pretraining"]["tasks"] == {"location": {}}


def test_a_finished_run_is_not_trained_again(tune, tmp_path: Path):
    [model] = tune().models
    before = (model.stat().st_mtime_ns, model.read_bytes())
    outcome = tune(resume=True)
    assert (model.stat().st_mtime_ns, model.read_bytes()) == before
    assert len(outcome.scores) == 3


def test_going_on_with_other_settings_changes_nothing(tune, no_report, tmp_path: Path):
    tune("cases.labels=4")
    config = (tmp_path / "run" / "config.yaml").read_text()
    for field, value in {"transfer.layer_decay": 0.5, "training.epochs": 9, "cases.labels": 3}.items():
        with pytest.raises(ConfigError, match=field):
            tune("cases.labels=4", f"{field}={value}", resume=True)
    assert (tmp_path / "run" / "config.yaml").read_text() == config
    tune("cases.labels=4", "training.log_every_steps=3", resume=True)


def test_going_on_needs_the_same_cases(tune, no_report, write_balls, tmp_path: Path):
    table = write_balls(tmp_path / "data", pool=4, test=1)
    tune(source=table)
    (table.parent / "label2.nii.gz").unlink()
    with pytest.raises(UsageError, match="no longer those"):
        tune(resume=True)


def test_a_mistake_after_a_fold_was_trained_loses_nothing(tune, no_report, tmp_path: Path, monkeypatch):
    def fail_in_the_second_fold(*arguments, **options):
        if (tmp_path / "run" / "fold_2").exists():
            raise UsageError("It cannot be.")
        return original(*arguments, **options)

    original = workflow.build_model
    monkeypatch.setattr(workflow, "build_model", fail_in_the_second_fold)
    with pytest.raises(UsageError, match="It cannot be"):
        tune("cases.folds=2", "training.epochs=1")
    assert (tmp_path / "run" / "fold_1" / MODEL).is_file()
    monkeypatch.setattr(workflow, "build_model", original)
    assert len(tune("cases.folds=2", "training.epochs=1", resume=True).models) == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("cases.labels=9",), "8 labelled cases to learn from, fewer than 9"),
        (("cases.labels=2", "cases.folds=3"), "2 labelled subjects cannot make 3 folds"),
        (("cases.label_column=mask",), "no column 'mask'"),
        (("cases.label_column=radius",), "which looks like classification"),
        (("goal=classification", "cases.targets=[size]"), "size"),
    ],
)
def test_mistakes_leave_no_folder(tune, tmp_path: Path, overrides, message: str):
    with pytest.raises(UsageError, match=message):
        tune(*overrides)
    assert not (tmp_path / "run").exists()


def test_a_budget_of_which_no_case_can_be_used(tune, balls: Path, tmp_path: Path):
    data = shutil.copytree(balls.parent, tmp_path / "data")
    for number in range(8):
        (data / f"label{number}.nii.gz").write_text("no label map")
    with pytest.raises(NoUsableScanError, match="labelled cases to learn from can be used; the first"):
        tune(source=data / balls.name)
