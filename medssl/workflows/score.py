"""Test cases, predicted and compared with the truth on the grid of their own files."""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from medssl.evaluate.segmentation import score_case
from medssl.finetune.classification import Classification
from medssl.finetune.predictor import Predictor
from medssl.finetune.segmentation import Segmentation
from medssl.progress import Progress
from medssl.scans.cases import PreparedCase
from medssl.scans.geometry import along_ras, to_ras
from medssl.scans.label_map import read_label_map
from medssl.workflows.segment import segment

Row = dict[str, str | float]


def score_cases(predictor: Predictor, cases: Sequence[PreparedCase], *, progress: Progress) -> list[Row]:
    """Return one row a test case.

    Args:
        predictor: Whose predictions are judged.
        cases: With their answers.
        progress: Gets a bar.

    Returns:
        ``scan_id``, ``subject_id`` and, for segmentation, the metrics of
        `medssl.evaluate.segmentation.score_case`; for classification one row a case and target that has an
        answer, with ``target``, ``truth`` and the probabilities as `medssl.evaluate.study_table` reads them.
    """
    rows = []
    with progress.track("Scoring test cases", total=len(cases)) as advance:
        for case in cases:
            rows += [{**_names(case), **scores} for scores in _score(predictor, case)]
            advance(detail=case.record.scan_id)
    return rows


def answer_rows(
    goal: Classification, predict: Callable[[PreparedCase], Tensor], cases: Sequence[PreparedCase]
) -> list[Row]:
    """Return one row a case and target that has an answer, see `score_cases`.

    Args:
        goal: Of the classification.
        predict: From a case to the probabilities of all classes of all targets, end to end.
        cases: With their answers.
    """
    return [{**_names(case), **row} for case in cases for row in _answers(goal, predict(case), case)]


def _names(case: PreparedCase) -> Row:
    return {"scan_id": case.record.scan_id, "subject_id": case.record.subject_id}


def _score(predictor: Predictor, case: PreparedCase) -> list[Row]:
    if isinstance(predictor.goal, Classification):
        return _answers(predictor.goal, predictor(case), case)
    assert isinstance(predictor.goal, Segmentation)
    assert case.record.label is not None, "test cases have label maps"
    prediction, _ = to_ras(segment(predictor, case), np.array(case.source.affine))
    _, (x, y, z) = along_ras(case.source)
    scores = score_case(
        prediction,
        read_label_map(case.record.label, like=case.source),
        spacing_mm=(x, y, z),
        class_names=predictor.goal.class_names,
    )
    return [{**scores}]


def _answers(goal: Classification, probabilities: Tensor, case: PreparedCase) -> list[Row]:
    rows: list[Row] = []
    parts = goal.split_targets(probabilities)
    for target in goal.targets:
        truth = target.class_of(case.record)
        if truth is None:
            continue
        values = parts[target.name].tolist()
        if len(values) == 2:
            rows.append({"target": target.name, "truth": truth, "probability": values[1]})
        else:
            each = {f"probability_{name}": value for name, value in zip(target.classes, values, strict=True)}
            rows.append({"target": target.name, "truth": target.classes[truth], **each})
    return rows
