"""Which models a study trains, and on what."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.config.finetune_schema import ArmConfig, FinetuneConfig, StudyConfig, TransferConfig
from medssl.errors import UsageError
from medssl.finetune.budget import draw_subset, hold_out
from medssl.finetune.goal import Size3D
from medssl.finetune.training import is_taught
from medssl.scans.cases import PreparedCase
from medssl.scans.labelled import LabelledCase
from medssl.training.seeds import derive_seed
from medssl.workflows.cell import CellJob
from medssl.workflows.labelled import Labelled, build_goal, class_of_case

COVARIATES_ONLY = "covariates_only"

TUNING_SEED = 1_000_000
"""Seeds of tuning begin here, so that no reported model is one the learning rate was chosen by."""

LARGEST_TUNING_SHARE = 0.25
"""Of the labelled cases; the rest is what the study is about."""


@dataclass(frozen=True)
class StudyPlan:
    """Everything that all cells of a study share.

    Attributes:
        folder: Of the study.
        config: Of the study.
        labelled: The data set.
        pool: Cases to learn from, prepared.
        tuning: Cases to choose learning rates on.
        test: Cases to report on.
        encoders: The encoder of each arm by its name; None for the network of the config.
        crop_size: Voxels of a crop.
        threads: Of torch, in each process.
    """

    folder: Path
    config: StudyConfig
    labelled: Labelled
    pool: Sequence[PreparedCase]
    tuning: Sequence[PreparedCase]
    test: Sequence[PreparedCase]
    encoders: Mapping[str, Path | None]
    crop_size: Size3D
    threads: int

    @property
    def budgets(self) -> list[int]:
        """Label budgets, ascending; "all" is the size of the pool.

        Raises:
            UsageError: If a budget is larger than the pool.
        """
        budgets = {len(self.pool) if labels == "all" else labels for labels in self.config.study.labels}
        if max(budgets) > len(self.pool):
            raise UsageError(
                f"{max(budgets)} labels are more than the {len(self.pool)} that remain beside "
                f"{len(self.tuning)} tuning cases and {len(self.test)} test cases."
            )
        return sorted(budgets)

    @property
    def tuned_budgets(self) -> list[int]:
        """Label budgets at which learning rates are tuned."""
        wanted = self.config.study.tune_at
        return self.budgets if wanted == "auto" else sorted(wanted)

    def tuning_jobs(self) -> Iterator[CellJob]:
        """Yield the models that learning rates are chosen by."""
        for budget in self.tuned_budgets:
            for arm in self._networks:
                for rate in self.config.study.learning_rates:
                    for number in range(self.config.study.tuning_seeds):
                        yield self._job(arm, budget, TUNING_SEED + number, rate, is_tuning=True)

    def test_jobs(self, rates: Mapping[tuple[str, int], float]) -> Iterator[CellJob]:
        """Yield the models that are reported, small budgets first, arms side by side.

        Args:
            rates: The learning rate of each arm at each tuned budget.
        """
        for budget in self.budgets:
            nearest = min(self.tuned_budgets, key=lambda tuned: abs(math.log(tuned / budget)))
            is_all = budget == len(self.pool)
            for seed in range(self.config.study.seeds_all if is_all else self.config.study.seeds):
                for arm in self.config.study.arms:
                    yield self._job(arm, budget, seed, rates.get((arm, nearest), 0.0), is_tuning=False)

    @property
    def _networks(self) -> list[str]:
        """Arms that have a learning rate."""
        return [name for name, arm in self.config.study.arms.items() if arm.mode != COVARIATES_ONLY]

    def _job(self, arm: str, budget: int, seed: int, rate: float, *, is_tuning: bool) -> CellJob:
        train = self._subset(budget, seed)
        config = _cell_config(self.config, self.config.study.arms[arm], seed=seed, learning_rate=rate)
        kind = "tuning" if is_tuning else "cells"
        last = f"seed_{seed}_rate_{rate:g}" if is_tuning else f"seed_{seed}"
        return CellJob(
            folder=self.folder / kind / arm / f"labels_{budget}" / last,
            arm=arm,
            label_budget=budget,
            seed=seed,
            learning_rate=rate,
            config=config,
            encoder=self.encoders[arm],
            goal=build_goal(config, self.labelled, train=train),
            train=tuple(train),
            unlabelled=tuple(self.pool) if is_taught(config) else (),
            judged=tuple(self.tuning if is_tuning else self.test),
            crop_size=self.crop_size,
            threads=self.threads,
            is_baseline=self.config.study.arms[arm].mode == COVARIATES_ONLY,
        )

    def _subset(self, budget: int, seed: int) -> list[PreparedCase]:
        by_id = {case.record.scan_id: case for case in self.pool}
        drawn = draw_subset(
            [case.record for case in self.pool],
            budget,
            seed=derive_seed("study", self.config.training.seed, seed),
            class_of=class_of_case(self.labelled),
        )
        return [by_id[case.scan_id] for case in drawn]


def set_tuning_aside(
    pool: Sequence[LabelledCase], *, count: int, seed: int
) -> tuple[list[LabelledCase], list[LabelledCase]]:
    """Part labelled cases into those to learn from and about ``count`` to choose learning rates on.

    Whole subjects are set aside, at most a quarter of them.

    Raises:
        UsageError: If that is not even one.
    """
    share = min(count / len(pool), LARGEST_TUNING_SHARE)
    rest, tuning = hold_out(pool, val_fraction=share, folds=1, fold=0, seed=derive_seed("tuning", seed))
    if not tuning:
        raise UsageError(
            f"{len(pool)} labelled cases beside the test cases are too few to choose learning rates on some "
            "and learn from others: label more."
        )
    return rest, tuning


def choose_rates(
    scores: Mapping[tuple[str, int], Mapping[float, float]],
) -> dict[tuple[str, int], float]:
    """Return the learning rate with the highest score for each arm and label budget; of equals the lower."""
    return {key: max(sorted(by_rate), key=lambda rate: by_rate[rate]) for key, by_rate in scores.items()}


def arm_transfer(study: StudyConfig, arm: ArmConfig) -> TransferConfig:
    """Return what becomes of the encoder in an arm."""
    if arm.transfer or arm.mode == COVARIATES_ONLY:
        return arm.transfer or study.transfer
    return study.transfer.model_copy(update={"mode": arm.mode})


def _cell_config(study: StudyConfig, arm: ArmConfig, *, seed: int, learning_rate: float) -> FinetuneConfig:
    fields = {name: getattr(study, name) for name in FinetuneConfig.model_fields}
    cases = study.cases.model_copy(
        update={"covariates": study.cases.covariates if arm.has_covariates else (), "val_fraction": 0.0}
    )
    return FinetuneConfig(
        **{
            **fields,
            "cases": cases,
            "transfer": arm_transfer(study, arm),
            "unlabelled": study.unlabelled.model_copy(update={"method": arm.unlabelled}),
            "optimiser": study.optimiser.model_copy(update={"learning_rate": learning_rate}),
            "training": study.training.model_copy(update={"seed": seed}),
        }
    )
