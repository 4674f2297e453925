import csv
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medssl.errors import CheckpointError, NoUsableScanError, UsageError
from medssl.finetune.classification import Classification
from medssl.finetune.targets import Target
from medssl.finetune.weights import load_model
from medssl.progress import SilentProgress
from medssl.scans.label_map import read_label_map
from medssl.scans.read import read_header
from medssl.workflows import predict as workflow
from medssl.workflows.predict import predict
from medssl.workflows.predictions import PredictionFolder

ONE_MM = np.eye(4)
TURNED = np.array([[0, -2, 0, 3], [0, 0, 3, -2], [1, 0, 0, 5], [0, 0, 0, 1.0]])


@pytest.fixture
def model(write_model, tmp_path):
    return write_model(tmp_path / "run")


@pytest.fixture
def by_threshold(threshold, monkeypatch):
    """Puts the threshold in the place of whatever network is loaded, and notes which cases it sees."""
    seen = []

    def load(paths, *, settings, flips):
        return threshold(), load_model(paths[0])

    def note(predictor, case, **options):
        seen.append(case.record.scan_id)
        return segment(predictor, case, **options)

    from medssl.workflows import segment as room

    segment = room.segment
    monkeypatch.setattr(workflow, "load_predictor", load)
    monkeypatch.setattr(room, "segment", note)
    return seen


@pytest.fixture
def run(model, by_threshold, tmp_path):
    def predict_all(source, *, out=tmp_path / "out", **options):
        store = tmp_path / "store"
        return predict(model, source, out=out, store=store, progress=SilentProgress(), **options)

    return predict_all


@pytest.fixture
def scans(write_scan, tmp_path):
    write_scan("scans/a.nii.gz", affine=TURNED)
    write_scan("scans/deep/er/b.nii", seed=1)
    return tmp_path / "scans"


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class TestSegmentation:
    def test_each_scan_gets_its_files(self, run, scans, tmp_path):
        outcome = run(scans, overlays=1, probabilities=True)
        assert (outcome.predicted, outcome.kept, outcome.skipped) == (2, 0, [])
        assert files_below(tmp_path / "out") == [
            "a.nii.gz",
            "a_probabilities.nii.gz",
            "deep/er/b.nii.gz",
            "deep/er/b_probabilities.nii.gz",
            "overlays/a.png",
            "predictions.json",
            "skipped.csv",
            "volumes.csv",
        ]

    def test_label_maps_have_the_grid_and_header_of_their_scans(self, run, scans, tmp_path):
        run(scans, probabilities=True)
        image, labels = nib.load(scans / "a.nii.gz"), nib.load(tmp_path / "out" / "a.nii.gz")
        assert labels.shape == image.shape
        np.testing.assert_array_equal(labels.affine, image.affine)
        for field in ("qform_code", "sform_code", "xyzt_units", "pixdim"):
            np.testing.assert_array_equal(labels.header[field], image.header[field])
        probabilities = nib.load(tmp_path / "out" / "a_probabilities.nii.gz").get_fdata()
        assert probabilities.shape == (*image.shape, 2)
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
        np.testing.assert_array_equal(np.asarray(labels.dataobj) == 3, probabilities.argmax(axis=-1) == 1)

    @pytest.mark.parametrize(
        ("time_points", "of"),
        [("first", lambda series: series[..., 0]), ("mean", lambda series: series.mean(axis=3))],
    )
    def test_of_a_4d_scan_the_volume_that_the_model_was_trained_for(
        self, write_model, by_threshold, write_scan, tmp_path, time_points, of
    ):
        volumes = [nib.load(write_scan(f"{seed}.nii", seed=seed)).get_fdata() for seed in range(3)]
        series = np.stack(volumes, axis=3).astype(np.int16)
        for name, voxels in (("4d", series), ("3d", of(series).astype(np.float32))):
            (tmp_path / "scans").mkdir(exist_ok=True)
            nib.Nifti1Image(voxels, TURNED).to_filename(tmp_path / "scans" / f"{name}.nii.gz")
        options = {"store": tmp_path / "store", "overlays": 2, "progress": SilentProgress()}
        model = write_model(tmp_path / time_points, time_points=time_points)
        assert predict(model, tmp_path / "scans", out=tmp_path / "out", **options).skipped == []
        label_maps = [nib.load(tmp_path / "out" / f"{name}.nii.gz") for name in ("4d", "3d")]
        assert label_maps[0].shape == series.shape[:3]
        np.testing.assert_array_equal(*(np.asarray(each.dataobj) for each in label_maps))
        assert (tmp_path / "out" / "overlays" / "4d.png").exists()
        every = write_model(tmp_path / "all", time_points="all")
        (skipped,) = predict(every, tmp_path / "scans", out=tmp_path / "more", **options).skipped
        assert "4-D" in skipped.reason

    def test_volumes_are_those_of_the_label_maps(self, run, scans, tmp_path):
        run(scans)
        for row, voxel_ml in zip(rows(tmp_path / "out" / "volumes.csv"), (6e-3, 1e-3), strict=True):
            labels = np.asarray(nib.load(tmp_path / "out" / f"{row['scan_id']}.nii.gz").dataobj)
            assert set(np.unique(labels)) == {0, 3}
            assert float(row["bright_ml"]) == pytest.approx((labels == 3).sum() * voxel_ml, abs=1e-4)
        assert list(row) == ["scan_id", "subject_id", "path", "bright_ml"]
        assert (row["subject_id"], row["path"]) == ("b", str(scans / "deep/er/b.nii"))

    def test_copies_of_a_scan_are_predicted_each(self, run, scans):
        (scans / "copy.nii.gz").write_bytes((scans / "a.nii.gz").read_bytes())
        assert run(scans).predicted == 3

    def test_bad_scans_are_skipped_with_a_reason(self, run, scans, tmp_path):
        (scans / "empty.nii.gz").touch()
        outcome = run(scans)
        assert outcome.predicted == 2
        assert rows(tmp_path / "out" / "skipped.csv") == [
            {"path": str(scans / "empty.nii.gz"), "reason": "The file is empty."}
        ]

    def test_a_scan_that_vanishes_meanwhile_is_skipped(self, run, scans, tmp_path, monkeypatch):
        written = workflow.SegmentationResults.write

        def write(results, case):
            (scans / "deep/er/b.nii").unlink(missing_ok=True)
            return written(results, case)

        monkeypatch.setattr(workflow.SegmentationResults, "write", write)
        outcome = run(scans)
        assert outcome.predicted == 1
        assert [scan.path.name for scan in outcome.skipped] == ["b.nii"]
        assert not (tmp_path / "out/deep/er/b.nii.gz").exists()

    def test_the_folds_of_a_run_are_an_ensemble(self, write_model, scans, tmp_path):
        folds = tmp_path / "folds"
        models = [write_model(tmp_path / "folds" / f"fold_{number}", seed=number) for number in (1, 2)]
        kept = {}
        for name, source in [("all", folds), ("1", models[0]), ("2", models[1])]:
            out = tmp_path / name
            store = tmp_path / "store"
            predict(source, scans, out=out, store=store, probabilities=True, progress=SilentProgress())
            kept[name] = nib.load(out / "a_probabilities.nii.gz").get_fdata()
        np.testing.assert_allclose(kept["all"], (kept["1"] + kept["2"]) / 2, atol=1e-5)
        assert np.abs(kept["1"] - kept["2"]).max() > 1e-3


class TestRepeating:
    def test_what_is_there_is_kept(self, run, scans, by_threshold, write_scan, tmp_path):
        run(scans)
        before = (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns
        by_threshold.clear()
        write_scan("scans/c.nii.gz", seed=2)
        outcome = run(scans)
        assert (outcome.predicted, outcome.kept, by_threshold) == (1, 2, ["c"])
        assert (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns == before
        assert [row["scan_id"] for row in rows(outcome.table)] == ["a", "deep/er/b", "c"]

    @pytest.mark.parametrize("finished", [0, 1])
    def test_a_kill_loses_one_scan_at_most(self, run, scans, by_threshold, monkeypatch, finished):
        written = workflow.SegmentationResults.write

        def write(results, case):
            values = written(results, case)
            if len(by_threshold) > finished:
                raise KeyboardInterrupt
            return values

        with monkeypatch.context() as patch:
            patch.setattr(workflow.SegmentationResults, "write", write)
            with pytest.raises(KeyboardInterrupt):
                run(scans)
        assert run(scans).kept == finished
        again = by_threshold[finished]
        assert by_threshold == sorted(["a", "deep/er/b", again])

    @pytest.mark.parametrize("change", ["content", "label map removed", "probabilities wanted"])
    def test_what_is_out_of_date_is_done_again(self, run, scans, by_threshold, write_scan, tmp_path, change):
        run(scans)
        by_threshold.clear()
        if change == "content":
            write_scan("scans/a.nii.gz", seed=5)
        elif change == "label map removed":
            (tmp_path / "out" / "a.nii.gz").unlink()
        run(scans, probabilities=change == "probabilities wanted")
        assert by_threshold == (["a", "deep/er/b"] if change == "probabilities wanted" else ["a"])

    def test_another_model_or_other_mirroring_is_refused(self, run, scans, write_model, model):
        run(scans)
        with pytest.raises(UsageError, match="another model"):
            run(scans, flips=True)
        write_model(model, seed=7)
        with pytest.raises(UsageError, match="another model"):
            run(scans)

    def test_another_scan_of_the_same_name_is_refused(self, run, scans, write_scan, tmp_path):
        run(scans)
        write_scan("others/a.nii.gz", seed=9)
        before = (tmp_path / "out" / "a.nii.gz").read_bytes()
        with pytest.raises(UsageError, match="another scan called a"):
            run(tmp_path / "others")
        assert (tmp_path / "out" / "a.nii.gz").read_bytes() == before


class TestNothingIsOverwritten:
    def test_a_folder_with_other_files(self, run, scans, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a.nii.gz").write_text("mine")
        with pytest.raises(UsageError, match="holds other files"):
            run(scans)
        assert (tmp_path / "out" / "a.nii.gz").read_text() == "mine"

    def test_a_file_in_place_of_the_folder(self, run, scans, tmp_path):
        (tmp_path / "out").touch()
        with pytest.raises(UsageError, match="is a file"):
            run(scans)

    @pytest.mark.parametrize("place", ["out", "."])
    def test_results_among_the_scans(self, run, scans, place):
        out = scans / place
        with pytest.raises(UsageError, match=r"lies among the scans|holds other files"):
            run(scans, out=out)
        assert files_below(scans) == ["a.nii.gz", "deep/er/b.nii"]

    def test_a_scan_beside_the_folder_of_its_table_stays_inside(self, run, scans, tmp_path, monkeypatch):
        (tmp_path / "tables").mkdir()
        table = tmp_path / "tables" / "scans.csv"
        table.write_text("image\n../scans/a.nii.gz\n")
        monkeypatch.chdir(table.parent)
        before = files_below(scans)
        run(Path(table.name))
        assert list(json.loads((tmp_path / "out/predictions.json").read_text())["scans"]) == ["a"]
        assert (tmp_path / "out/a.nii.gz").is_file()
        assert files_below(scans) == before

    def test_no_name_leads_out_of_the_folder(self, tmp_path):
        folder = PredictionFolder(tmp_path, tmp_path / "table.csv", {}, {})
        assert folder.file("../scans/a", ".nii") == tmp_path / "__" / "scans" / "a.nii"
        assert folder.file("/scans/a", ".nii") == tmp_path / "scans" / "a.nii"

    def test_two_scans_for_one_file(self, run, scans, write_scan, tmp_path):
        write_scan("scans/a_probabilities.nii.gz", seed=3)
        with pytest.raises(UsageError, match="a and a_probabilities would both be written"):
            run(scans, probabilities=True)
        assert run(scans).predicted == 3


class TestMistakes:
    def test_no_scan(self, run, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(NoUsableScanError, match="No scan in"):
            run(tmp_path / "empty")
        assert not (tmp_path / "out").exists()

    def test_no_usable_scan(self, run, tmp_path):
        (tmp_path / "scans").mkdir()
        (tmp_path / "scans" / "a.nii.gz").touch()
        with pytest.raises(NoUsableScanError, match="The file is empty"):
            run(tmp_path / "scans")
        assert not (tmp_path / "out").exists()

    def test_a_file_that_is_no_model(self, scans, tmp_path):
        (tmp_path / "model.safetensors").write_text("no")
        with pytest.raises(CheckpointError, match="not a whole safetensors file"):
            predict(tmp_path / "model.safetensors", scans, out=tmp_path / "out", progress=SilentProgress())

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_cannot_be_written_to(self, run, scans, tmp_path):
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(PermissionError):
            run(scans, out=tmp_path / "closed" / "out")


class TestChannels:
    @pytest.fixture
    def two(self, write_model, tmp_path):
        return write_model(tmp_path / "two", channel_names=("T1", "T2"))

    def test_one_channel_where_two_are_needed(self, two, scans, tmp_path):
        with pytest.raises(UsageError, match=r"takes 2 channels \(T1, T2\).*CASE_0000.*CSV"):
            predict(two, scans, out=tmp_path / "out", progress=SilentProgress())

    def test_channels_lie_together(self, two, write_scan, tmp_path):
        for channel in range(2):
            write_scan(f"raw/imagesTs/case_000{channel}.nii.gz", seed=channel)
        outcome = predict(two, tmp_path / "raw", out=tmp_path / "out", progress=SilentProgress())
        assert [row["scan_id"] for row in rows(outcome.table)] == ["imagesTs/case"]
        header = read_header(tmp_path / "raw/imagesTs/case_0000.nii.gz")
        read_label_map(tmp_path / "out/imagesTs/case.nii.gz", like=header)


def test_classification_writes_a_table(model, scans, tmp_path, monkeypatch):
    goal = Classification(
        targets=(
            Target("label", "label", ("benign", "malignant")),
            Target("grade", "grade", ("1", "2", "3")),
        ),
        covariates=(),
        class_weights=((1.0, 1.0), (1.0, 1.0, 1.0)),
    )

    class Answers:
        def __init__(self):
            self.goal = goal

        def __call__(self, case):
            return torch.tensor([0.25, 0.75, 0.5, 0.3, 0.2])

    monkeypatch.setattr(
        workflow, "load_predictor", lambda *_, **__: (Answers(), load_model(model / "model.safetensors"))
    )
    outcome = predict(model, scans, out=tmp_path / "out", store=tmp_path / "store", progress=SilentProgress())
    assert outcome.table == tmp_path / "out" / "predictions.csv"
    first, second = rows(outcome.table)
    assert (first["label"], first["grade"]) == ("malignant", "1")
    assert float(first["p(label is malignant)"]) == 0.75
    assert float(first["p(grade is 3)"]) == 0.2
    assert (first["scan_id"], second["scan_id"]) == ("a", "deep/er/b")
    assert files_below(tmp_path / "out") == ["predictions.csv", "predictions.json", "skipped.csv"]
