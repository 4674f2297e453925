"""Test cases to look at: where a segmentation fails, and what a classification looks at."""

from collections.abc import Sequence
from math import prod

import numpy as np

from medssl.evaluate.classification import predicted_classes
from medssl.finetune.classification import Classification
from medssl.finetune.predictor import Predictor
from medssl.finetune.saliency import draw_saliency, explain
from medssl.finetune.segmentation import Segmentation
from medssl.finetune.targets import Target
from medssl.progress import Progress
from medssl.report.curves import to_png
from medssl.report.finetune import Picture
from medssl.report.overlay import comparison_figure
from medssl.scans.case_crop import read_case_volume
from medssl.scans.cases import PreparedCase
from medssl.scans.geometry import along_ras, to_ras
from medssl.scans.label_map import read_label_map
from medssl.scans.read import read_volume
from medssl.workflows.finetune_scores import by_dice, truth_and_probabilities
from medssl.workflows.score import Row
from medssl.workflows.segment import segment

EXPLAINED_OF_EACH = 2
"""So many right answers and so many wrong ones are drawn."""

MAX_CROPS = 4
"""A case that takes more crops is not explained: hiding its blocks one by one would take too long."""

NO_PROOF = (
    "The maps show by how much the log-odds of the predicted class fall when a block is hidden. They are no "
    "proof that the model looks at the right thing: it can be right for a wrong reason, and maps of "
    "different methods differ."
)


def draw_segmentations(
    predictor: Predictor, cases: Sequence[PreparedCase], rows: Sequence[Row], *, progress: Progress
) -> list[Picture]:
    """Draw the worst, the median and the best test case, the truth above the prediction.

    Args:
        predictor: Its goal is a `Segmentation`.
        cases: Test cases.
        rows: Their scores.
        progress: Gets a bar.
    """
    ordered = by_dice(rows)
    # Of fewer than three cases one can be two of these.
    words = {0: "worst", len(ordered) // 2: "median", len(ordered) - 1: "best"}
    by_id = {case.record.scan_id: case for case in cases}
    pictures = []
    with progress.track("Drawing test cases", total=len(words)) as advance:
        for place, word in words.items():
            row = ordered[place]
            name = str(row["scan_id"])
            caption = f"The {word} of {len(ordered)} test cases: {name}, Dice {float(row['dice']):.3f}"
            pictures.append(
                Picture(f"test_{word}", caption, _draw_comparison(predictor, by_id[name], caption))
            )
            advance(detail=name)
    return pictures


def draw_explanations(
    predictor: Predictor,
    cases: Sequence[PreparedCase],
    rows: Sequence[Row],
    target: Target,
    *,
    number: int = 1,
    progress: Progress,
) -> tuple[list[Picture], list[str]]:
    """Draw what spoke for the answer in the most certain right and wrong test cases.

    Args:
        predictor: Its goal is a `Classification`; the first of its networks is explained.
        cases: Test cases.
        rows: The answers to this target alone.
        target: What is told apart.
        number: Of the target, for the names of files.
        progress: Gets a bar.

    Returns:
        The pictures, and sentences on how to read them or why there are none.
    """
    by_id = {case.record.scan_id: case for case in cases}
    short = [row for row in rows if _crops(by_id[str(row["scan_id"])], predictor) <= MAX_CROPS]
    if not short:
        return [], [f"No saliency is drawn, as each test case takes more than {MAX_CROPS} crops."]
    chosen = _most_certain(short, target)
    pictures = []
    with progress.track("Explaining test cases", total=len(chosen)) as advance:
        for name, row, predicted in chosen:
            case = by_id[str(row["scan_id"])]
            caption = f"{name.replace('_', ' ').capitalize()}: {case.record.scan_id} said to be {predicted}"
            png = _draw_saliency(predictor, case, target, predicted)
            pictures.append(Picture(f"target_{number}_{name}", caption, png))
            advance(detail=case.record.scan_id)
    several = len(predictor.models)
    first = [f"They are of the first of {several} models."] if several > 1 else []
    return pictures, [" ".join([NO_PROOF, *first])]


def _draw_comparison(predictor: Predictor, case: PreparedCase, title: str) -> bytes:
    goal = predictor.goal
    assert isinstance(goal, Segmentation)
    assert case.record.label is not None, "test cases have label maps"
    volume, _ = read_volume(case.record.path)
    prediction, _ = to_ras(segment(predictor, case), np.array(case.source.affine))
    figure = comparison_figure(
        volume,
        read_label_map(case.record.label, like=case.source),
        prediction,
        spacing_mm=along_ras(case.source)[1],
        class_names={value: goal.class_names[value] for value in goal.classes[1:]},
        title=title,
        vmin=case.recipe.lower,
        vmax=case.recipe.upper,
    )
    return to_png(figure)


def _draw_saliency(predictor: Predictor, case: PreparedCase, target: Target, class_name: str) -> bytes:
    goal = predictor.goal
    assert isinstance(goal, Classification)
    saliency = explain(
        predictor.models[0],
        goal,
        case,
        crop_size=predictor.crop_size,
        settings=predictor.settings,
        target=target.name,
        class_name=class_name,
    )
    volume = read_case_volume(case)[0]
    return to_png(draw_saliency(saliency, volume, spacing_mm=case.spacing_mm, name=case.record.scan_id))


def _crops(case: PreparedCase, predictor: Predictor) -> int:
    return prod(-(-length // side) for length, side in zip(case.shape, predictor.crop_size, strict=True))


def _most_certain(rows: Sequence[Row], target: Target) -> list[tuple[str, Row, str]]:
    """Return for some right and some wrong answers a name, the row and the predicted class."""
    truth, probabilities = truth_and_probabilities(rows, target)
    predicted = predicted_classes(probabilities)
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    chosen = []
    for word, is_kind in (("right", predicted == truth), ("wrong", predicted != truth)):
        places = [place for place in order.tolist() if is_kind[place]][:EXPLAINED_OF_EACH]
        for count, place in enumerate(places, start=1):
            chosen.append((f"{word}_{count}", rows[place], target.classes[predicted[place]]))
    return chosen
