import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from medssl.config.finetune_schema import FinetuneConfig
from medssl.config.load import load_run_config
from medssl.finetune.segmentation import Segmentation
from medssl.finetune.training import build_model, open_stream, settle_step, train
from medssl.finetune.transfer import Pretrained
from medssl.progress import SilentProgress
from medssl.training.run_folder import RunFolder

GOAL = Segmentation({0: "background", 1: "ball"})
CROP = (16, 16, 16)
SMALL = (
    "training.epochs=3", "training.steps_per_epoch=2", "speed.precision=float32", "speed.channels_last=false",
    "speed.loader_threads=1", "encoder.size=tiny",
)  # fmt: skip


def configure(*overrides: str) -> FinetuneConfig:
    return load_run_config(FinetuneConfig, "finetune", [*SMALL, *overrides])


@pytest.fixture
def fit(ball_cases, ball_run: Path, tmp_path: Path):
    """Train on six cases and return the network, its start and what is in the run folder."""

    def run_training(*overrides: str, val=(), goal=GOAL, name="run"):
        config = configure(*overrides)
        train_cases, silent = ball_cases[:6], SilentProgress()
        start = build_model(
            goal,
            pretrained=Pretrained.find(ball_run),
            config=config,
            in_channels=1,
            crop_size=CROP,
            spacing_mm=(1.0, 1.0, 1.0),
        )
        before = copy.deepcopy(start.model.state_dict())
        stream = open_stream(train_cases, goal=goal, config=config, crop_size=CROP, progress=silent)
        with RunFolder.open(tmp_path / name, resume=False) as run:
            result = train(
                start.model,
                stream,
                goal=goal,
                val=val,
                unlabelled=(),
                crop_size=CROP,
                config=config,
                settings=settle_step(run, start.model, stream, goal=goal, config=config),
                run=run,
                progress=silent,
                resume=False,
                continue_command="",
            )
        return start.model, before, run, result

    return run_training


def moved(model, before: dict[str, Tensor], part: str) -> bool:
    after = model.state_dict()
    return any(not torch.equal(after[name], before[name]) for name in after if name.startswith(part))


@pytest.mark.parametrize(
    ("override", "encoder_moves"),
    [
        ("transfer.mode=full", True),
        ("transfer.mode=frozen", False),
        ("transfer.mode=linear_probe", False),
        ("transfer.freeze_fraction=0.99", False),
    ],
)
def test_a_frozen_encoder_stays_bit_identical(fit, override: str, encoder_moves: bool):
    model, before, _, _ = fit(override)
    assert moved(model, before, "encoder.") == encoder_moves
    assert moved(model, before, "head.")


class Scripted(Segmentation):
    """Whose validation is a given list of losses."""

    def measure(self, predicted):
        list(predicted)
        return {"val/loss": self.losses_to_come.pop(0)}


def test_validation_on_held_out_cases_picks_the_epoch(fit, ball_cases):
    goal = Scripted(GOAL.class_names)
    object.__setattr__(goal, "losses_to_come", [0.5, 0.2, 0.4])
    model, _, run, result = fit(goal=goal, val=ball_cases[6:8])
    assert (result.best_epoch, result.best_value) == (2, 0.2)
    best, last = (torch.load(path)["model"] for path in (run.best_checkpoint, run.last_checkpoint))
    assert all(torch.equal(tensor, best[name]) for name, tensor in model.state_dict().items())
    assert any(not torch.equal(tensor, best[name]) for name, tensor in last.items())


def test_without_held_out_cases_the_last_epoch_is_kept(fit):
    model, _, run, result = fit()
    assert result.best_epoch is None
    assert not run.best_checkpoint.exists()
    last = torch.load(run.last_checkpoint)["model"]
    assert all(torch.equal(tensor, last[name]) for name, tensor in model.state_dict().items())


def test_validation_is_written_and_changes_nothing_about_training(fit, ball_cases):
    _, _, run, _ = fit(val=ball_cases[6:8], name="watched")
    _, _, other, _ = fit(name="alone")
    rows, plain = run.read_metrics(), other.read_metrics()
    assert [row["train/loss"] for row in rows] == [row["train/loss"] for row in plain]
    assert all(0 <= float(row["val/segmentation/dice"]) <= 1 for row in rows)


def test_batches_hold_training_cases_only_and_image_with_label(ball_cases):
    stream = open_stream(
        ball_cases[:6], goal=GOAL, config=configure(), crop_size=CROP, progress=SilentProgress()
    )
    seen = {name for step in range(12) for name in stream.scan_ids(step)}
    assert seen == {case.record.scan_id for case in ball_cases[:6]}
    batches = stream.batches(0)
    for _ in range(5):
        batch = next(batches)
        assert batch["image"].shape == batch["label"].shape == (2, 1, *CROP)
        ball = batch["label"] == 1
        assert batch["image"][ball].mean() > batch["image"][~ball].mean() + 0.2
    batches.close()


def test_both_arms_see_the_same_batches(ball_cases):
    batches = []
    for mode in ("full", "from_scratch"):
        config = configure(f"transfer.mode={mode}", "optimiser.learning_rate=0.5")
        stream = open_stream(
            ball_cases[:6], goal=GOAL, config=config, crop_size=CROP, progress=SilentProgress()
        )
        with_label = stream.batches(3)
        batches.append(next(with_label))
        with_label.close()
    assert all(torch.equal(batches[0][key], batches[1][key]) for key in ("image", "label", "seed"))
