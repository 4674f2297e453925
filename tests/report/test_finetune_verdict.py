from math import nan

import pytest

from medssl.findings import Interval
from medssl.report.finetune_verdict import MainScore, Selection, judge_test, tell_origin

PRETRAINING = {"tasks": {"rotation": {}, "location": {}}, "steps": 900, "data_fingerprint": {"scans": 200}}


def provenance(**changes):
    about = {
        "pretraining": PRETRAINING,
        "transfer": {"mode": "full"},
        "loaded": {"encoder": "100.0 % loaded.", "decoder": "99.9 % loaded."},
        "unlabelled": None,
    }
    return about | changes


def origin(*selections, **changes):
    return " ".join(
        tell_origin(
            "Segmentation of tumour",
            provenance(**changes),
            selections or [Selection(8, 12, epoch=3, epochs=20)],
        )
    )


def judge(metric="auroc", interval=(0.7, 0.6, 0.8), *, question="malignant", cases=60, subjects=58):
    [verdict] = judge_test([MainScore(question, metric, Interval(*interval), cases, subjects)])
    return verdict


def test_the_start_of_a_pretrained_model_is_told():
    text = origin()
    assert "Segmentation of tumour, learned from 8 labelled cases." in text
    assert "pretrained on 200 scans without labels (rotation, location; 900 steps)" in text
    assert "Encoder: 100.0 % loaded. Decoder: 99.9 % loaded." in text


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("full", "All of its layers were trained on"),
        ("frozen", "It stayed as it was"),
        ("linear_probe", "only one linear layer behind it"),
    ],
)
def test_what_became_of_the_encoder_is_told(mode, words):
    assert words in origin(transfer={"mode": mode})


def test_a_model_from_scratch_says_so():
    text = origin(pretraining=None, loaded={})
    assert "from scratch: no pretrained weights" in text
    assert "200 scans" not in text


def test_scans_without_labels_are_told():
    assert "without their labels" not in origin()
    text = origin(unlabelled={"method": "mean_teacher", "scans": 30})
    assert "30 scans took part without their labels (mean teacher)." in text


def test_the_kept_epoch_and_what_chose_it_are_told():
    assert "Of 20 epochs, number 3 was kept, the best on 12 validation cases." in origin()
    assert "rough" not in origin()
    few = origin(Selection(3, 1, epoch=1, epochs=1))
    assert (
        "Of 1 epoch, number 1 was kept, the best on 1 validation case. So few make this choice rough" in few
    )


def test_without_validation_the_last_epoch_is_kept():
    text = origin(Selection(8, 0, epoch=20, epochs=20))
    assert "No cases were held out to choose an epoch by, so the weights of the last of 20 were kept." in text


def test_folds_are_told_together():
    text = origin(Selection(6, 2, 4, 20), Selection(7, 1, 9, 20), Selection(7, 1, 20, 20))
    assert "learned from 6 to 7 labelled cases by each of 3 models, whose predictions are averaged" in text
    assert "number 4, 9 and 20 were kept, the best on 1 to 2 validation cases" in text


def test_without_test_cases_nothing_is_known():
    [verdict] = judge_test([])
    assert verdict.level == "doubtful"
    assert "nothing is known about how well this model does on new patients" in verdict.sentence


def test_a_dice_is_told_with_its_interval_and_is_no_judgement():
    verdict = judge("dice", (0.81, 0.79, 0.83), question="")
    assert verdict.sentence == (
        "Mean Dice 0.810 [0.790, 0.830] on 60 test cases of 58 other subjects (95 % interval over subjects)."
    )
    assert verdict.level == "unknown"


@pytest.mark.parametrize(
    ("interval", "level", "words"),
    [
        ((0.7, 0.6, 0.8), "good", ": better than guessing"),
        ((0.6, 0.5, 0.7), "doubtful", ": not shown to be better than guessing"),
        ((0.3, 0.2, 0.4), "poor", ": worse than guessing"),
    ],
)
def test_an_auroc_is_compared_with_guessing(interval, level, words):
    verdict = judge(interval=interval)
    assert verdict.level == level
    assert verdict.sentence.startswith("malignant: AUROC ")
    assert words in verdict.sentence


def test_what_few_test_cases_cannot_show():
    assert "not defined" in judge(interval=(nan, nan, nan)).sentence
    assert "So few subjects make the interval rough." in judge(subjects=5).sentence
    one = judge(interval=(0.7, 0.7, 0.7), cases=4, subjects=1)
    assert "of one subject, which says nothing about others" in one.sentence
    assert "[" not in one.sentence
    assert one.level == "doubtful"
