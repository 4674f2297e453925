import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medssl.errors import MedsslError
from medssl.evaluate.segmentation import score_case

SPACING = (1.0, 2.0, 3.5)
NAMES = {0: "background", 1: "anterior", 2: "posterior"}
Mask = NDArray[np.bool_]


def blob(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> Mask:
    grid = np.indices(shape).reshape(3, -1).T
    return (np.linalg.norm(grid - centre, axis=1) < radius).reshape(shape)


def boundary_mm(mask: Mask) -> NDArray[np.float64]:
    """Positions of voxels with a neighbour, along an axis, that is background or outside of the volume."""
    inner = ndimage.binary_erosion(mask, border_value=0)
    return np.argwhere(mask & ~inner) * SPACING


def slow_scores(first: Mask, second: Mask) -> dict[str, float]:
    one, other = boundary_mm(first), boundary_mm(second)
    there = np.array([min(np.linalg.norm(a - b) for b in other) for a in one])
    back = np.array([min(np.linalg.norm(a - b) for a in one) for b in other])
    return {
        "dice": 2 * (first & second).sum() / (first.sum() + second.sum()),
        "nsd_2mm": ((there <= 2).sum() + (back <= 2).sum()) / (len(one) + len(other)),
        "hd95_mm": max(np.percentile(there, 95), np.percentile(back, 95)),
    }


@pytest.mark.parametrize("centre", [(6, 5, 5), (7, 6, 4.5), (1, 1, 1)])
def test_it_agrees_with_slow_loops_also_at_the_border(centre: tuple[float, ...]) -> None:
    truth, prediction = blob((12, 11, 10), (5.5, 5, 5), 4), blob((12, 11, 10), centre, 3.5)
    scores = score_case(
        prediction.astype(np.uint8), truth.astype(np.uint8), spacing_mm=SPACING, class_names={1: "organ"}
    )
    for metric, value in slow_scores(prediction, truth).items():
        assert scores[metric] == pytest.approx(value, abs=1e-5)
        assert scores[f"{metric}_organ"] == scores[metric]


def test_means_are_over_classes_without_background() -> None:
    truth = np.zeros((8, 8, 8), np.uint8)
    truth[:4], truth[4:] = 1, 2
    prediction = np.where(truth == 2, 2, 0)
    prediction[:2] = 1
    scores = score_case(prediction, truth, spacing_mm=(1, 1, 1), class_names=NAMES)
    assert scores["dice_anterior"] == pytest.approx(2 / 3)
    assert scores["dice_posterior"] == 1
    assert scores["dice"] == pytest.approx(5 / 6)
    assert scores["hd95_mm_anterior"] == 2
    assert scores["hd95_mm"] == 1
    assert {name.removesuffix("_anterior") for name in scores if name.endswith("_anterior")} == {
        "dice", "nsd_2mm", "hd95_mm",
    }  # fmt: skip
    assert not [name for name in scores if "background" in name]


@pytest.mark.parametrize(("in_prediction", "in_truth"), [*itertools.product((False, True), repeat=2)])
def test_empty_classes_count_as_all_right_or_all_wrong(in_prediction: bool, in_truth: bool) -> None:
    maps = [np.zeros((4, 5, 6), np.uint8) for _ in range(2)]
    for label_map, is_present in zip(maps, (in_prediction, in_truth), strict=True):
        label_map[1:3, 1:3, 1:3] = is_present
    scores = score_case(*maps, spacing_mm=SPACING, class_names={1: "organ"})
    is_right = in_prediction == in_truth
    diagonal = np.sqrt(4**2 + 10**2 + 21**2)
    assert [scores[metric] for metric in ("dice", "nsd_2mm", "hd95_mm")] == pytest.approx(
        [1, 1, 0] if is_right else [0, 0, diagonal]
    )


def test_both_directions_count_alike() -> None:
    first, second = blob((9, 9, 9), (4, 4, 4), 3).astype(int), blob((9, 9, 9), (5, 4, 3), 2).astype(int)
    one = score_case(first, second, spacing_mm=SPACING, class_names={1: "organ"})
    other = score_case(second, first, spacing_mm=SPACING, class_names={1: "organ"})
    assert one == pytest.approx(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values | {"prediction": np.zeros((3, 3, 4), int)}, "one grid"),
        (lambda values: values | {"class_names": {0: "background"}}, "name the classes"),
    ],
)
def test_what_cannot_be_compared_is_refused(change: Callable[[dict], dict], message: str) -> None:
    volume = np.zeros((3, 3, 3), int)
    values = {"prediction": volume, "truth": volume, "spacing_mm": (1, 1, 1), "class_names": NAMES}
    with pytest.raises(MedsslError, match=message):
        score_case(**change(values))
