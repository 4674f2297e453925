import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from medssl.finetune.targets import FALSE_TRUE, Target
from medssl.workflows.finetune_scores import classification_section, segmentation_section

BINARY = Target("size>5", "size", FALSE_TRUE, ">", 5.0)
SEVERAL = Target("grade", "grade", ("low", "mid", "high"))


def segmentation_row(number, dice, subject=None):
    values = {"dice": dice, "nsd_2mm": dice, "hd95_mm": 10 * (1 - dice)}
    each = {f"{name}_{part}": value for name, value in values.items() for part in ("left", "right")}
    return {"scan_id": f"case_{number}", "subject_id": subject or f"sub_{number}", **values, **each}


def binary_row(number, truth, probability):
    return {"scan_id": f"c{number}", "subject_id": f"s{number}", "truth": truth, "probability": probability}


@pytest.fixture
def binary_rows():
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 2
    probability = np.clip(0.3 * truth + 0.7 * rng.random(40), 0, 1)
    return [
        binary_row(number, int(answer), float(value))
        for number, (answer, value) in enumerate(zip(truth, probability, strict=True))
    ]


def test_means_of_each_class_and_of_all():
    dice = [0.2, 0.5, 0.9, 0.8]
    main, section = segmentation_section(
        [segmentation_row(number, value) for number, value in enumerate(dice)], ["left", "right"]
    )
    assert (main.metric, main.cases, main.subjects) == ("dice", 4, 4)
    assert main.interval.estimate == pytest.approx(np.mean(dice))
    assert main.interval.lower < main.interval.estimate < main.interval.upper
    assert section.scores.columns == ("class", "Dice", "NSD at 2 mm", "HD95 in mm")
    assert [row[0] for row in section.scores.rows] == ["left", "right", "mean of the classes"]
    assert section.scores.rows[0][1] == main.interval.show()
    assert section.scores.rows[0][3].startswith("4.0 [")


def test_cases_of_one_subject_stay_together():
    """Twice the same subjects are no more evidence; other subjects would be."""
    dice = [0.2, 0.5, 0.9, 0.8]
    once = [segmentation_row(number, value) for number, value in enumerate(dice)]
    others = [segmentation_row(number + 4, value) for number, value in enumerate(dice)]
    same = [row | {"subject_id": first["subject_id"]} for row, first in zip(others, once, strict=True)]
    of_four, of_twins, of_eight = (
        segmentation_section(rows, ["left"])[0].interval for rows in (once, once + same, once + others)
    )
    assert of_twins == of_four
    assert of_eight.upper - of_eight.lower < of_four.upper - of_four.lower


def test_the_worst_cases_come_first():
    rows = [segmentation_row(number, value) for number, value in enumerate([0.9, 0.1, 0.5, 0.7, 0.3, 0.6])]
    (worst,) = segmentation_section(rows, ["left", "right"])[1].others
    assert [row[0] for row in worst.rows] == ["case_1", "case_4", "case_2", "case_5", "case_3"]
    assert worst.rows[0] == ("case_1", "0.100", "0.100", "0.100", "9.0")


def test_one_subject_has_no_interval():
    rows = [segmentation_row(number, value, subject="s") for number, value in enumerate([0.2, 0.4])]
    main, section = segmentation_section(rows, ["left"])
    assert main.subjects == 1
    assert section.scores.rows[0][1:] == ("0.300", "0.300", "7.0")


def test_answers_to_a_yes_or_no_question(binary_rows):
    main, section = classification_section(binary_rows, BINARY, number=2)
    truth = [row["truth"] for row in binary_rows]
    probability = np.array([row["probability"] for row in binary_rows])
    assert main.question == "size>5"
    assert main.interval.estimate == pytest.approx(roc_auc_score(truth, probability))
    assert [row[0] for row in section.scores.rows] == [
        "AUROC",
        "balanced accuracy",
        "sensitivity",
        "specificity",
        "Brier score (less is better)",
        "expected calibration error (too large where cases are few)",
    ]
    (confusion,) = section.others
    expected = confusion_matrix(truth, probability >= 0.5).tolist()
    assert [[int(cell) for cell in row[1:]] for row in confusion.rows] == expected
    assert [row[0] for row in confusion.rows] == ["false", "true"]
    (plot,) = section.pictures
    assert plot.name == "target_2_reliability"
    assert plot.png.startswith(b"\x89PNG")


def test_answers_among_several_classes():
    shares = np.random.default_rng(0).dirichlet((1, 1, 1), size=30)
    truth = np.arange(30) % 3
    rows = [
        {"scan_id": f"c{number}", "subject_id": f"s{number}", "truth": SEVERAL.classes[answer]}
        | {f"probability_{name}": float(share) for name, share in zip(SEVERAL.classes, values, strict=True)}
        for number, (answer, values) in enumerate(zip(truth, shares, strict=True))
    ]
    main, section = classification_section(rows, SEVERAL)
    assert main.interval.estimate == pytest.approx(roc_auc_score(truth, shares, multi_class="ovr"))
    assert not {"sensitivity", "specificity"} & {row[0] for row in section.scores.rows}
    expected = confusion_matrix(truth, shares.argmax(axis=1)).tolist()
    assert [[int(cell) for cell in row[1:]] for row in section.others[0].rows] == expected


def test_what_one_class_cannot_show_is_not_defined():
    main, section = classification_section([binary_row(number, 1, 0.7) for number in range(4)], BINARY)
    assert np.isnan(main.interval.estimate)
    assert dict(section.scores.rows)["AUROC"] == "not defined"
    assert dict(section.scores.rows)["sensitivity"] == "1.000 [1.000, 1.000]"
