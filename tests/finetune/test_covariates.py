import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from medssl.errors import UsageError
from medssl.finetune.covariates import Covariate, fit_covariates, standardise
from medssl.finetune.targets import parse_targets
from medssl.scans.datasets import find_labelled


def test_numbers_are_standardised_and_missing_ones_are_the_mean(make_row):
    cases = [make_row(str(number), mm=text) for number, text in enumerate(["1", "3", "", "8"])]
    covariate = Covariate.fit("mm", cases)
    assert (covariate.mean, covariate.std) == (4.0, pytest.approx(np.std([1, 3, 8])))
    values = [covariate.standardise(case) for case in cases]
    assert values[2] == 0
    assert values[3] == pytest.approx(4 / np.std([1, 3, 8]))
    assert covariate.standardise(make_row()) == 0
    assert standardise([covariate, covariate], cases[0]).shape == (2,)
    assert standardise([], cases[0]).shape == (0,)


def test_a_constant_column_says_nothing(make_row):
    assert Covariate.fit("mm", [make_row(mm="5")]).standardise(make_row(mm="5")) == 0


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [("nm", "1", "no column 'nm'"), ("mm", "wide", "no number"), ("mm", "", "empty in all")],
)
def test_columns_that_are_no_numbers_are_refused(make_row, column, cell, words):
    with pytest.raises(UsageError, match=words):
        Covariate.fit(column, [make_row(mm=cell)])


@pytest.fixture
def grown(make_row):
    """Large ones are mostly bad, and rare."""
    rng = np.random.default_rng(0)
    is_bad = rng.random(200) < 0.2
    sizes = rng.normal(10 + 6 * is_bad, 3)
    return [
        make_row(str(number), mm=f"{size:.3f}", label="bad" if bad else "good")
        for number, (size, bad) in enumerate(zip(sizes, is_bad, strict=True))
    ]


@pytest.mark.parametrize("is_balanced", [True, False])
def test_the_baseline_is_a_logistic_regression(grown, is_balanced):
    [target] = parse_targets(["label"], grown)
    covariate = Covariate.fit("mm", grown)
    predict = fit_covariates(grown, target, [covariate], is_balanced=is_balanced)
    truth = np.array([target.class_of(case) for case in grown])
    bad = np.array([predict(case) for case in grown])
    assert target.classes[0] == "bad"
    np.testing.assert_allclose(bad.sum(axis=1), 1)
    assert roc_auc_score(truth == 0, bad[:, 0]) > 0.85
    x = np.array([[covariate.standardise(case)] for case in grown])
    reference = LogisticRegression(class_weight="balanced" if is_balanced else None).fit(x, truth)
    np.testing.assert_allclose(bad, reference.predict_proba(x), atol=1e-4)


def test_a_class_that_no_case_has_gets_nothing(make_row):
    cases = [make_row(str(number), mm=str(number), label="abc"[number % 3]) for number in range(12)]
    [target] = parse_targets(["label"], cases)
    some = [case for case in cases if case.values["label"] != "b"]
    probabilities = fit_covariates(some, target, [Covariate.fit("mm", some)])(cases[1])
    assert probabilities[1] == 0
    assert probabilities.sum() == pytest.approx(1)


def test_one_class_is_nothing_to_learn_from(make_row):
    cases = [make_row(mm="1", label="a"), make_row(mm="2", label="b")]
    [target] = parse_targets(["label"], cases)
    with pytest.raises(UsageError, match="do not show two classes"):
        fit_covariates(cases[:1], target, [Covariate.fit("mm", cases)])


def test_diameter_alone_tells_malignant_nodules(shared_data):
    cases = find_labelled(shared_data / "lidc_nodules" / "nodules.csv", label_column=None).cases
    pool = [case for case in cases if case.split == "pool"]
    test = [case for case in cases if case.split == "test"]
    [target] = parse_targets(["label"], cases)
    predict = fit_covariates(pool, target, [Covariate.fit("diameter_mm", pool)])
    truth = [target.class_of(case) for case in test]
    assert roc_auc_score(truth, [predict(case)[1] for case in test]) == pytest.approx(0.90, abs=0.005)
