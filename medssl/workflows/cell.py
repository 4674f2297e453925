"""One model of a study: trained on one labelled subset and judged on fixed cases."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medssl.atomic import write_text
from medssl.config.finetune_schema import FinetuneConfig
from medssl.finetune.classification import Classification
from medssl.finetune.covariates import fit_covariates
from medssl.finetune.goal import Goal, Size3D
from medssl.finetune.predictor import Predictor
from medssl.finetune.training import Start, build_model, open_stream, settle_step, train
from medssl.finetune.transfer import Pretrained
from medssl.progress import SilentProgress
from medssl.scans.cases import PreparedCase
from medssl.training.allocator import keep_freed_memory
from medssl.training.run_folder import RunFolder
from medssl.training.stream import CropStream
from medssl.workflows.score import Row, answer_rows, score_cases

RESULT = "result.json"


@dataclass(frozen=True)
class CellJob:
    """What a process needs to train and judge one model.

    Attributes:
        folder: Where the model's run and its result lie.
        arm: Name of the arm.
        label_budget: How many labelled cases it learns from.
        seed: Of subset, weights and batches.
        learning_rate: The rate it is trained with.
        config: Of the fine-tuning, with all of these filled in.
        encoder: The pretrained encoder whose architecture, and unless from scratch whose weights, it has.
        goal: What it is for.
        train: Cases to learn from.
        unlabelled: Cases whose images alone take part; none in most arms.
        judged: Cases to predict: tuning cases or test cases.
        crop_size: Voxels of a crop.
        threads: Of torch.
        is_baseline: Whether the model is a logistic regression on covariates, without any scan.
    """

    folder: Path
    arm: str
    label_budget: int
    seed: int
    learning_rate: float
    config: FinetuneConfig
    encoder: Path | None
    goal: Goal
    train: tuple[PreparedCase, ...]
    unlabelled: tuple[PreparedCase, ...]
    judged: tuple[PreparedCase, ...]
    crop_size: Size3D
    threads: int
    is_baseline: bool

    @property
    def result(self) -> Path:
        """Written last, so that its presence makes the cell whole."""
        return self.folder / RESULT


@dataclass(frozen=True)
class CellResult:
    """What a model came to.

    Attributes:
        rows: One a judged case, see `score_cases`.
        updates: Optimiser steps.
        seconds: Wall time of the training.
        final_loss: Mean training loss of the last epoch.
    """

    rows: list[Row]
    updates: int
    seconds: float
    final_loss: float


def run_cell(job: CellJob) -> CellResult:
    """Train and judge a model, or go on with one that was interrupted.

    Raises:
        MedsslError: As `medssl.finetune.training.train` tells.
    """
    if job.result.exists():
        return read_result(job)
    if job.is_baseline:
        return _run_baseline(job)
    keep_freed_memory()
    torch.set_num_threads(job.threads)
    progress = SilentProgress()
    resume = (job.folder / "run.json").exists()
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    with RunFolder.open(job.folder, resume=resume) as run:
        start, stream = start_cell(job)
        settings = settle_step(run, start.model, stream, goal=job.goal, config=job.config)
        began = time.perf_counter()
        trained = train(
            start.model,
            stream,
            goal=job.goal,
            val=(),
            unlabelled=job.unlabelled,
            crop_size=job.crop_size,
            config=job.config,
            settings=settings,
            run=run,
            progress=progress,
            resume=resume,
            continue_command="medssl study --resume and the folder of the study",
        )
        seconds = max(trained.seconds, time.perf_counter() - began)
        start.model.eval()
        predictor = Predictor([start.model], job.goal, job.crop_size, settings)
        rows = score_cases(predictor, job.judged, progress=progress)
        last = run.read_metrics()[-1]
        result = CellResult(rows, trained.step, round(seconds, 1), float(last["train/loss"]))
        write_text(job.result, json.dumps(vars(result)))
    return result


def start_cell(job: CellJob) -> tuple[Start, CropStream[PreparedCase]]:
    """Return the network of a cell before its first step, and its training batches."""
    start = build_model(
        job.goal,
        pretrained=Pretrained.find(job.encoder) if job.encoder else None,
        config=job.config,
        in_channels=len(job.train[0].channels),
        crop_size=job.crop_size,
        spacing_mm=job.train[0].spacing_mm,
    )
    stream = open_stream(
        job.train, goal=job.goal, config=job.config, crop_size=job.crop_size, progress=SilentProgress()
    )
    return start, stream


def _run_baseline(job: CellJob) -> CellResult:
    goal = job.goal
    assert isinstance(goal, Classification)
    learned = [case.record for case in job.train]
    parts = {target.name: fit_covariates(learned, target, goal.covariates) for target in goal.targets}

    def predict(case: PreparedCase) -> Tensor:
        return torch.from_numpy(np.concatenate([predict_one(case.record) for predict_one in parts.values()]))

    result = CellResult(answer_rows(goal, predict, job.judged), updates=0, seconds=0.0, final_loss=0.0)
    job.folder.mkdir(parents=True, exist_ok=True)
    write_text(job.result, json.dumps(vars(result)))
    return result


def read_result(job: CellJob) -> CellResult:
    """Return what `run_cell` wrote."""
    return CellResult(**json.loads(job.result.read_text(encoding="utf-8")))
