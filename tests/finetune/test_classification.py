import json
from contextlib import closing
from itertools import islice

import numpy as np
import pytest
import torch
from monai.transforms import SpatialPad
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.utils.class_weight import compute_class_weight

from medssl.config.finetune_schema import FinetuneConfig
from medssl.config.schema import DataConfig
from medssl.errors import UsageError
from medssl.finetune.classification import Classification, class_weights
from medssl.finetune.goals import rebuild_goal
from medssl.finetune.model import FinetuneModel
from medssl.finetune.targets import parse_targets
from medssl.finetune.training import open_stream
from medssl.progress import SilentProgress
from medssl.scans.cases import prepare_cases
from medssl.scans.datasets import find_labelled
from medssl.scans.store import ScanStore
from medssl.training.settings import StepSettings

CROP = (16, 16, 8)
CPU = StepSettings("cpu")


@pytest.fixture
def rows(make_row):
    """Six cases with two targets, of which some have no answer, and a covariate."""
    labels = ["a", "b", "a", "a", "", "a"]
    grades = ["1", "2", "3", "", "2", "2"]
    cells = zip(labels, grades, strict=True)
    return [
        make_row(str(number), label=label, grade=grade, mm=str(number))
        for number, (label, grade) in enumerate(cells)
    ]


@pytest.fixture
def goal(rows):
    return Classification.fit(parse_targets(["label", "grade"], rows), rows, covariates=["mm"])


@pytest.fixture
def answers(goal, rows):
    columns = [[target.class_of(case) for case in rows] for target in goal.targets]
    return torch.tensor([[-1 if answer is None else answer for answer in column] for column in columns]).T


def slow_loss(goal, logits, target):
    """Cross-entropy of each case by the book."""
    result = []
    for row, answered in zip(logits.tolist(), target.tolist(), strict=True):
        parts = [row[:2], row[2:]]
        losses = []
        for part, answer, weights in zip(parts, answered, goal.class_weights, strict=True):
            if answer >= 0:
                likelihoods = np.exp(part) / np.exp(part).sum()
                losses.append(-weights[answer] * np.log(likelihoods[answer]))
        result.append(np.mean(losses) if losses else 0.0)
    return result


@pytest.mark.parametrize("is_balanced", [True, False])
def test_the_loss_is_that_of_a_slow_loop(rows, answers, is_balanced):
    goal = Classification.fit(parse_targets(["label", "grade"], rows), rows, is_balanced=is_balanced)
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    target = torch.cat([answers[:5], torch.tensor([[-1, -1]])])
    losses = goal.losses({"classification": logits}, {"target": target})["classification"]
    np.testing.assert_allclose(losses, slow_loss(goal, logits, target), rtol=1e-5)
    assert losses[-1] == 0
    assert (goal.class_weights == ((1.0, 1.0), (1.0, 1.0, 1.0))) is not is_balanced


def test_a_missing_answer_pulls_at_nothing(goal, answers):
    logits = torch.zeros(6, 5, requires_grad=True)
    goal.total_loss(goal.losses({"classification": logits}, {"target": answers})).backward()
    parts = goal.split_targets(logits.grad)
    for name, column in zip(parts, answers.T, strict=True):
        assert torch.equal(parts[name].abs().sum(dim=1) > 0, column >= 0)


def test_class_weights_are_those_of_scikit_learn(goal, rows, answers):
    for weights, target, column in zip(goal.class_weights, goal.targets, answers.T.numpy(), strict=True):
        answered = column[column >= 0]
        expected = compute_class_weight("balanced", classes=np.arange(len(target.classes)), y=answered)
        np.testing.assert_allclose(weights, expected)
        assert np.mean([weights[answer] for answer in answered]) == pytest.approx(1)
    assert class_weights(goal.targets[0], [rows[0], rows[2]]) == (1.0, 2.0)


def test_accuracy_is_the_share_of_the_answers_there_are(goal):
    logits = torch.tensor([[2.0, 1, 0, 0, 1]] * 3)
    target = torch.tensor([[0, 1], [-1, 2], [-1, -1]])
    accuracy = goal.metrics({"classification": logits}, {"target": target})["classification/accuracy"]
    torch.testing.assert_close(accuracy, torch.tensor([0.5, 1.0, torch.nan]), equal_nan=True)


def test_a_description_gives_the_goal_back(goal):
    description = json.loads(json.dumps(goal.describe()))
    assert rebuild_goal(description) == goal
    assert rebuild_goal(description).describe() == goal.describe()


def test_names_of_sides_rule_out_mirror_images(make_row):
    cases = [
        make_row("1", side="left", left_ml="1", sex="f"),
        make_row("2", side="right", left_ml="9", sex="m"),
    ]
    sided = [Classification.fit(parse_targets([text], cases), cases) for text in ("side", "left_ml>5", "sex")]
    assert [bool(goal._mirrored_axes()[1:]) for goal in sided] == [False, False, True]


def test_an_unknown_covariate_is_refused(rows):
    with pytest.raises(UsageError, match="no column 'cm'"):
        Classification.fit(parse_targets(["label"], rows), rows, covariates=["cm"])


def test_reading_gives_a_window_of_the_scan_with_its_answers(goal, put_case):
    volume = np.random.default_rng(0).random((2, 20, 14, 6)).astype(np.float16)
    case = put_case("c", volume, label="b", grade="", mm="")
    first, again = (goal.read(case, CROP, np.random.default_rng(1)) for _ in range(2))
    assert first["image"].shape == (2, 16, 14, 6)
    assert first["target"].tolist() == [1, -1]
    assert first["covariates"].tolist() == [0]
    np.testing.assert_array_equal(first["image"], again["image"])
    starts = {
        tuple(goal.read(case, CROP, np.random.default_rng(seed))["image"][0, 0, 0, :2]) for seed in range(40)
    }
    assert len(starts) == 5  # 20 - 16 + 1 places along x, none to choose elsewhere


class Recorder(FinetuneModel):
    """Keeps the images it was given; its logits are their mean, for the first class."""

    def __init__(self, encoder, head, **settings):
        super().__init__(encoder, head, name="classification", **settings)
        self.images = []

    def forward(self, batch):
        self.images += [*batch["image"]]
        logits = torch.zeros(len(batch["image"]), 5)
        logits[:, 0] = 4 * batch["image"].mean(dim=(1, 2, 3, 4))
        return {"classification": logits}


def make_model(goal, encoder, *, is_linear=False):
    torch.manual_seed(0)
    return FinetuneModel(encoder, goal.make_head(encoder, is_linear=is_linear), name=goal.name)


def test_a_whole_case_is_the_mean_over_crops_that_cover_it(goal, put_case, small_encoder):
    volume = np.random.default_rng(0).random((1, 44, 30, 6)).astype(np.float16)
    model = Recorder(small_encoder, goal.make_head(small_encoder, is_linear=False))
    case = put_case("c", volume, mm="1")
    probabilities = goal.predict(model, case, crop_size=CROP, settings=CPU, flips=False)
    assert probabilities.shape == (5,)
    expected = []
    for x in (0, 14, 28):
        for y in (0, 14):
            content = volume[:, x : x + 16, y : y + 16].astype(np.float32)
            expected.append(SpatialPad(CROP, mode="edge")(content))
    torch.testing.assert_close(torch.stack(model.images), torch.stack(list(map(torch.as_tensor, expected))))
    sure = np.exp([4 * float(crop.mean()) for crop in expected])
    assert probabilities[0].item() == pytest.approx(np.mean(sure / (1 + sure)), rel=1e-5)
    parts = goal.split_targets(probabilities)
    assert {name: part.sum().item() for name, part in parts.items()} == pytest.approx(
        {"label": 1, "grade": 1}
    )


def test_flips_average_over_the_mirror_image(goal, put_case, small_encoder):
    volume = np.random.default_rng(0).random((1, 16, 16, 8))
    case, mirrored = put_case("c", volume, mm="1"), put_case("m", volume[:, ::-1], mm="1")
    model = make_model(goal, small_encoder).eval()
    plain, other, both = (
        goal.predict(model, one, crop_size=CROP, settings=CPU, flips=flips)
        for one, flips in ((case, False), (mirrored, False), (case, True))
    )
    torch.testing.assert_close(both, (plain + other) / 2)
    assert not torch.allclose(plain, other, rtol=1e-4)


@pytest.mark.parametrize("is_linear", [False, True])
def test_covariates_reach_the_prediction(goal, put_case, small_encoder, is_linear):
    volume = np.random.default_rng(0).random((1, 16, 16, 8))
    model = make_model(goal, small_encoder, is_linear=is_linear).eval()
    small, large = (
        goal.predict(model, put_case(mm, volume, mm=mm), crop_size=CROP, settings=CPU, flips=False)
        for mm in ("0", "9")
    )
    assert not torch.allclose(small, large, rtol=1e-2)


def test_whole_cases_are_measured_as_scikit_learn_does(goal, rows, answers, put_case):
    generator = torch.Generator().manual_seed(0)
    predicted = goal.to_probabilities(torch.randn(6, 5, generator=generator))
    cases = [put_case(row.scan_id, np.zeros((1, 2, 2, 2)), **row.values) for row in rows]
    values = goal.measure(zip(cases, predicted, strict=True))
    assert values["val/loss"] == pytest.approx(np.mean(slow_loss(goal, predicted.log(), answers)), rel=1e-5)
    for (name, part), truth in zip(goal.split_targets(predicted).items(), answers.T, strict=True):
        known = truth >= 0
        truth, part = truth[known].numpy(), part[known].numpy()
        score = part[:, 1] if part.shape[1] == 2 else part
        assert values[f"val/{name}/auroc"] == pytest.approx(
            roc_auc_score(truth, score, multi_class="ovr"), rel=1e-5
        )
        assert values[f"val/{name}/balanced_accuracy"] == pytest.approx(
            balanced_accuracy_score(truth, part.argmax(axis=1))
        )


def test_measures_that_lack_a_class_are_left_out_and_a_sure_mistake_stays_finite(goal, put_case):
    case = put_case("c", np.zeros((1, 2, 2, 2)), label="a", grade="1")
    values = goal.measure([(case, torch.tensor([0.0, 1, 0, 0, 1]))])
    assert set(values) == {"val/loss"}
    assert 20 < values["val/loss"] < 500


@pytest.fixture
def balls(put_case):
    """Thin noisy scans, every second one with a bright ball somewhere."""

    def make(first, count, *, shuffle):
        rng = np.random.default_rng(first)
        has_ball = [number % 2 for number in range(count)]
        named = [number // 2 % 2 for number in range(count)] if shuffle else has_ball
        cases = []
        for number, (ball, name) in enumerate(zip(has_ball, named, strict=True)):
            volume = rng.random((1, 22, 22, 6)) * 0.5
            centre = np.array([rng.integers(7, 15), rng.integers(7, 15), 3])[:, None, None, None]
            distance = np.linalg.norm(
                (np.indices(volume.shape[1:]) - centre) * [[[[1]]], [[[1]]], [[[2]]]], axis=0
            )
            volume[0][(distance < 5) & bool(ball)] = 0.9
            cases.append(put_case(f"{shuffle}-{first + number}", volume, label=["none", "ball"][name]))
        return cases

    return make


def fit(model, goal, cases, *, steps):
    """Train with a plain loop."""
    config = FinetuneConfig.model_validate({"training": {"batch_size": 8}, "speed": {"loader_threads": 1}})
    stream = open_stream(cases, goal=goal, config=config, crop_size=CROP, progress=SilentProgress())
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with closing(stream.batches()) as batches:
        for batch in islice(batches, steps):
            loss = goal.total_loss(goal.losses(model(batch), batch))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def measure_new_cases(balls, encoder, *, shuffle):
    train, test = balls(0, 24, shuffle=shuffle), balls(1000, 20, shuffle=False)
    records = [case.record for case in train]
    goal = Classification.fit(parse_targets(["label"], records), records)
    model = make_model(goal, encoder).train()
    fit(model, goal, train, steps=40)
    model.eval()
    return goal.measure(
        (case, goal.predict(model, case, crop_size=CROP, settings=CPU, flips=False)) for case in test
    )


def test_a_ball_is_learned_in_thin_scans(balls, small_encoder):
    values = measure_new_cases(balls, small_encoder, shuffle=False)
    assert values["val/label/auroc"] > 0.95
    assert values["val/loss"] < 0.2


def test_nothing_is_learned_from_answers_that_have_nothing_to_do_with_the_ball(balls, small_encoder):
    assert measure_new_cases(balls, small_encoder, shuffle=True)["val/loss"] > 0.6


def test_a_batch_holds_what_the_goal_says(goal, put_case):
    case = put_case("c", np.random.default_rng(0).random((1, 44, 44, 6)), label="a", grade="2", mm="3")
    config = FinetuneConfig.model_validate({"training": {"batch_size": 2}, "speed": {"loader_threads": 1}})
    stream = open_stream([case], goal=goal, config=config, crop_size=CROP, progress=SilentProgress())
    with closing(stream.batches()) as batches:
        batch = next(batches)
    assert batch["image"].shape == (2, 1, *CROP)
    assert batch["target"].tolist() == [[0, 1]] * 2
    assert batch["target"].dtype == torch.int64
    assert batch["covariates"].shape == (2, 1)
    assert batch["covariates"].dtype == torch.float32


def test_real_nodules_are_read(shared_data, tmp_path):
    dataset = find_labelled(shared_data / "lidc_nodules" / "nodules.csv", label_column=None)
    targets = parse_targets(["label", "texture<5"], dataset.cases)
    goal = Classification.fit(targets, dataset.cases, covariates=["diameter_mm"])
    prepared, skipped = prepare_cases(
        dataset.cases[:5],
        store=ScanStore(tmp_path),
        spacing_mm=(0.7, 0.7, 2.0),
        data=DataConfig(prepare_workers=0),
        progress=SilentProgress(),
    )
    assert not skipped
    for case in prepared:
        sample = goal.read(case, (32, 32, 8), np.random.default_rng(0))
        assert sample["image"].shape[1:] == tuple(np.minimum(case.shape, (32, 32, 8)))
        assert 0 <= sample["image"].min() < sample["image"].max() <= 1
        assert sample["target"][0] == (case.record.values["label"] == "malignant")
        assert sample["target"][1] == (float(case.record.values["texture"]) < 5)
        assert np.isfinite(sample["covariates"]).all()
