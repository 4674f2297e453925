from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from medssl.config.finetune_schema import StudyConfig
from medssl.config.load import load_run_config
from medssl.errors import ConfigError, MedsslError, UsageError
from medssl.finetune.training import open_stream
from medssl.networks.weights import load_encoder, save_encoder
from medssl.progress import SilentProgress
from medssl.scans.manifest import read_table
from medssl.training.run_folder import RunFolder
from medssl.workflows.study import plan_study
from medssl.workflows.study_plan import TUNING_SEED, choose_rates, set_tuning_aside

SMALL = (
    "data.prepare_workers=0", "speed.device=cpu", "study.workers=1", "study.labels=[2,4,all]",
    "study.seeds=3", "study.seeds_all=2", "study.tuning_cases=2", "study.tuning_seeds=2",
    "study.learning_rates=[0.001,0.004]",
)  # fmt: skip
ARMS = (
    "study.arms={pretrained: {}, scratch: {mode: from_scratch}, frozen: {mode: frozen}, "
    "helped: {has_covariates: true}}"
)


@pytest.fixture
def make_plan(balls: Path, ball_run: Path, tmp_path: Path):
    def make(*overrides: str, source: Path = balls, resume: bool = False, warn=None):
        folder = tmp_path / "study"
        folder.mkdir(exist_ok=True)
        progress = SilentProgress()
        if warn:
            progress.warn = warn
        return plan_study(
            RunFolder(folder),
            None if resume else source,
            config=load_run_config(StudyConfig, "finetune", [*SMALL, *overrides]),
            encoder=None if resume else ball_run,
            store=None,
            progress=progress,
            command=["medssl", "study"],
        )

    return make


def ids(cases) -> list[str]:
    return [case.record.scan_id for case in cases]


def every_job(plan):
    rates = dict.fromkeys(((arm, budget) for arm in plan.config.study.arms for budget in plan.budgets), 4e-3)
    return [*plan.tuning_jobs(), *plan.test_jobs(rates)]


def test_pool_tuning_and_test_share_no_subject(make_plan, tmp_path: Path):
    plan = make_plan()
    sides = [{case.record.subject_id for case in cases} for cases in (plan.pool, plan.tuning, plan.test)]
    assert [len(side) for side in sides] == [6, 2, 3]
    assert sides[2] == {"sub8", "sub9", "sub10"}
    assert len(set.union(*sides)) == 11
    rows = read_table(tmp_path / "study" / "split.csv")
    assert {(row["scan_id"], row["split"]) for row in rows} == {
        *((name, "pool") for name in ids(plan.pool)),
        *((name, "tuning") for name in ids(plan.tuning)),
        *((name, "test") for name in ids(plan.test)),
    }


def test_nothing_is_learned_from_or_chosen_by_test_cases(make_plan):
    plan = make_plan()
    pool, tuning, test = set(ids(plan.pool)), ids(plan.tuning), ids(plan.test)
    for job in every_job(plan):
        is_tuning = "tuning" in job.folder.relative_to(plan.folder).parts
        assert set(ids(job.train)) <= pool
        assert ids(job.judged) == (tuning if is_tuning else test)
        assert job.config.cases.val_fraction == 0
        assert (job.seed >= TUNING_SEED) == is_tuning


def test_arms_differ_in_what_they_begin_with_and_in_nothing_else(make_plan):
    plan = make_plan(ARMS, "cases.covariates=[radius]")
    cells = defaultdict(list)
    for job in every_job(plan):
        cells[job.label_budget, job.seed, job.learning_rate].append(job)
    for jobs in cells.values():
        assert [job.arm for job in jobs] == ["pretrained", "scratch", "frozen", "helped"]
        first = jobs[0]
        assert [job.config.transfer.mode for job in jobs] == ["full", "from_scratch", "frozen", "full"]
        assert [job.config.cases.covariates for job in jobs] == [(), (), (), ("radius",)]
        for job in jobs[1:]:
            assert ids(job.train) == ids(first.train)
            assert (job.encoder, job.crop_size) == (first.encoder, first.crop_size)
            same = job.config.model_copy(
                update={"transfer": first.config.transfer, "cases": first.config.cases}
            )
            assert same == first.config


def test_arms_see_the_same_crops(make_plan):
    plan = make_plan()
    rates = {(arm, budget): 1e-3 for arm in plan.config.study.arms for budget in plan.budgets}
    pair = [job for job in plan.test_jobs(rates) if (job.label_budget, job.seed) == (4, 1)]
    streams = [
        open_stream(
            job.train, goal=job.goal, config=job.config, crop_size=job.crop_size, progress=SilentProgress()
        )
        for job in pair
    ]
    for step in range(5):
        one, other = (stream._requests(step) for stream in streams)
        assert one == other


def test_smaller_budgets_are_within_larger_ones_and_seeds_differ(make_plan):
    plan = make_plan()
    trained = {
        (job.label_budget, job.seed): ids(job.train) for job in every_job(plan) if job.arm == "scratch"
    }
    assert plan.budgets == [2, 4, 6]
    for seed in range(2):
        assert set(trained[2, seed]) < set(trained[4, seed]) < set(trained[6, seed]) == set(ids(plan.pool))
    assert len({frozenset(trained[2, seed]) for seed in range(3)}) > 1


def test_how_many_models_there_are_and_where(make_plan):
    plan = make_plan()
    jobs = every_job(plan)
    assert len({job.folder for job in jobs}) == len(jobs) == 2 * 3 * (2 * 2) + 2 * (3 + 3 + 2)


def test_rates_are_tuned_where_wished_and_taken_from_the_nearest(make_plan):
    plan = make_plan("study.tune_at=[2,6]")
    assert {job.label_budget for job in plan.tuning_jobs()} == {2, 6}
    rates = {("pretrained", 2): 1.0, ("pretrained", 6): 2.0, ("scratch", 2): 3.0, ("scratch", 6): 4.0}
    used = {(job.arm, job.label_budget): job.learning_rate for job in plan.test_jobs(rates)}
    assert used == {**rates, ("pretrained", 4): 2.0, ("scratch", 4): 4.0}
    assert all(job.config.optimiser.learning_rate == job.learning_rate for job in plan.test_jobs(rates))


def test_the_best_rate_is_chosen_and_of_equals_the_lower():
    scores = {("a", 2): {4e-3: 0.8, 1e-3: 0.8, 2e-3: 0.7}, ("b", 2): {1e-3: 0.1, 2e-3: 0.2}}
    assert choose_rates(scores) == {("a", 2): 1e-3, ("b", 2): 2e-3}


def test_at_most_a_quarter_is_set_aside(make_plan):
    plan = make_plan("study.tuning_cases=100")
    assert (len(plan.tuning), len(plan.pool)) == (2, 6)
    records = [case.record for case in plan.pool]
    assert len(set_tuning_aside(records, count=1, seed=0)[1]) == 1
    with pytest.raises(UsageError, match="2 labelled cases beside the test cases are too few"):
        set_tuning_aside(records[:2], count=1, seed=0)


def test_a_budget_above_the_pool(make_plan):
    plan = make_plan("study.labels=[7]")
    with pytest.raises(UsageError, match="7 labels are more than the 6 that remain beside 2 tuning cases"):
        list(plan.tuning_jobs())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("study.arms={pretrained: {}}", "needs an arm called scratch"),
        (
            "study.arms={scratch: {mode: from_scratch}, other: {encoder: /nowhere}}",
            "no weights file /nowhere",
        ),
    ],
)
def test_arms_that_cannot_be_compared(make_plan, override: str, message: str):
    with pytest.raises(MedsslError, match=message):
        make_plan(override)


def test_an_encoder_of_another_spacing_is_told(make_plan, ball_run: Path, tmp_path: Path):
    encoder, provenance = load_encoder(ball_run / "encoder.safetensors")
    other = tmp_path / "other.safetensors"
    save_encoder(other, encoder, provenance={**provenance, "spacing_mm": [1.0, 1.0, 2.0]})
    warnings: list[str] = []
    make_plan(
        f"study.arms={{scratch: {{mode: from_scratch}}, other: {{encoder: '{other}'}}}}",
        warn=warnings.append,
    )
    assert len(warnings) == 1
    assert "other.safetensors was pretrained at 1 x 1 x 2 mm" in warnings[0]


def test_a_data_set_without_test_cases(make_plan, tmp_path: Path, write_balls):
    table = write_balls(tmp_path / "data", pool=4, test=0)
    with pytest.raises(UsageError, match="fixed test cases"):
        make_plan(source=table)


def test_going_on_takes_more_of_the_same_and_nothing_else(make_plan, tmp_path: Path):
    make_plan()
    assert make_plan("study.seeds=9", "study.labels=[2,3]", "study.workers=2", resume=True).budgets == [2, 3]
    config = (tmp_path / "study" / "config.yaml").read_text()
    for change in ("training.epochs=3", "study.learning_rates=[0.1]", "spatial.scale=0", ARMS):
        with pytest.raises(ConfigError, match="cannot go on with other settings"):
            make_plan("study.seeds=9", "study.labels=[2,3]", change, resume=True)
    assert (tmp_path / "study" / "config.yaml").read_text() == config


def test_going_on_needs_the_same_cases(make_plan, tmp_path: Path, write_balls):
    table = write_balls(tmp_path / "data", pool=8, test=2)
    make_plan(source=table)
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(UsageError, match="no longer those"):
        make_plan(resume=True)


def test_covariates_alone_are_not_tuned(make_plan):
    plan = make_plan(
        "study.arms={scratch: {mode: from_scratch}, baseline: {mode: covariates_only, has_covariates: true}}",
        "goal=classification",
        "cases.targets=[radius>4]",
        "cases.covariates=[radius]",
        "study.labels=[4]",
    )
    assert {job.arm for job in plan.tuning_jobs()} == {"scratch"}
    jobs = list(plan.test_jobs({("scratch", 4): 1e-3}))
    assert {job.arm: job.is_baseline for job in jobs} == {"scratch": False, "baseline": True}
    for job in jobs:
        answers = {case.record.values["radius"] for case in job.train}
        assert answers == {"3", "5"}, "each class is drawn"


def test_job_of_a_plan_is_the_same_again(make_plan):
    plan = make_plan()
    first, again = (next(plan.tuning_jobs()) for _ in range(2))
    assert replace(first) == again
