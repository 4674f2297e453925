"""How well a label map agrees with the truth."""

import warnings
from collections.abc import Mapping
from statistics import fmean

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from numpy.typing import NDArray
from torch import Tensor

from medssl.errors import MedsslError

METRICS = ("dice", "nsd_2mm", "hd95_mm")
TOLERANCE_MM = 2.0


def score_case(
    prediction: NDArray[np.integer],
    truth: NDArray[np.integer],
    *,
    spacing_mm: tuple[float, float, float],
    class_names: Mapping[int, str],
) -> dict[str, float]:
    """Compare a predicted label map with the true one, as Metrics Reloaded recommends.

    Overlap (Dice) stands beside boundaries: the normalised surface distance is the share of both surfaces
    that lies within 2 mm of the other one (Nikolov et al., J Med Internet Res 2021), and HD95 the larger of
    the two 95th percentiles of distances from one surface to the other. Surfaces are boundary voxels.

    Where a class is in neither map all is right: Dice 1, NSD 1, HD95 0. Where it is in one of them only, all
    is wrong: Dice 0, NSD 0, and HD95 the diagonal of the volume, the worst there can be, so that a missed
    structure cannot drop out of a mean (Maier-Hein et al., "Metrics reloaded", Nature Methods 2024, on
    penalising undefined distances).

    Args:
        prediction: Class indices, ``(I, J, K)``.
        truth: Class indices, ``(I, J, K)``, on the same grid.
        spacing_mm: Size of a voxel along each axis.
        class_names: Names by index. Index 0 is background and not scored, and so is an index without a name.

    Returns:
        ``dice`` and ``nsd_2mm`` in [0, 1] and ``hd95_mm``, averaged over classes, and each of them for each
        class, such as ``dice_anterior``.

    Raises:
        MedsslError: If the maps differ in shape or no class is named.
    """
    if prediction.shape != truth.shape:
        raise MedsslError(
            f"The prediction has shape {prediction.shape} and the truth {truth.shape}; "
            "compare them on one grid."
        )
    classes = {index: name for index, name in class_names.items() if index}
    if not classes:
        raise MedsslError("No class but background is named, so there is nothing to score; name the classes.")
    scores = {
        name: _score_mask(prediction == index, truth == index, spacing_mm) for index, name in classes.items()
    }
    means = {metric: fmean(score[metric] for score in scores.values()) for metric in METRICS}
    return means | {f"{metric}_{name}": score[metric] for name, score in scores.items() for metric in METRICS}


def _score_mask(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> dict[str, float]:
    is_predicted, is_true = prediction.any(), truth.any()
    if not (is_predicted and is_true):
        if is_predicted == is_true:
            return dict(zip(METRICS, (1.0, 1.0, 0.0), strict=True))
        diagonal = float(np.linalg.norm(np.multiply(truth.shape, spacing_mm)))
        return dict(zip(METRICS, (0.0, 0.0, diagonal), strict=True))
    values = _measure(_as_batch(prediction), _as_batch(truth), spacing_mm)
    return {metric: float(value) for metric, value in zip(METRICS, values, strict=True)}


def _measure(
    prediction: Tensor, truth: Tensor, spacing_mm: tuple[float, float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    with warnings.catch_warnings():
        # MONAI 1.6 passes an argument to itself that it calls deprecated.
        warnings.filterwarnings("ignore", "(?s).*always_return_as_numpy", FutureWarning)
        return (
            compute_dice(prediction, truth),
            compute_surface_dice(
                prediction, truth, [TOLERANCE_MM], include_background=True, spacing=spacing_mm
            ),
            compute_hausdorff_distance(
                prediction, truth, include_background=True, percentile=95, spacing=spacing_mm
            ),
        )


def _as_batch(mask: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(mask)[None, None]
