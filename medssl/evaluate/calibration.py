"""Whether predicted probabilities come true as often as they say."""

import numpy as np
from numpy.typing import NDArray

from medssl.findings import ReliabilityBin

BINS = 15


def confidence_and_outcome(
    truth: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Return what calibration is judged by, for each case.

    Args:
        truth: Class indices, ``(N,)``.
        probabilities: Of each class, ``(N, K)``, adding up to 1.

    Returns:
        With two classes, the probability of class 1 and whether it is the truth. With more, the highest
        probability and whether its class is the truth (top-label calibration; Guo et al., ICML 2017).
    """
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], truth == 1
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == truth


def reliability_table(
    confidence: NDArray[np.floating], came_true: NDArray[np.bool_], *, bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """Sort predictions into intervals of equal width, and leave out empty ones.

    Args:
        confidence: Probabilities in [0, 1], ``(N,)``. One on the border of two intervals counts in the upper.
        came_true: Whether what was predicted is the truth, ``(N,)``.
        bins: Number of intervals.
    """
    bin_of_case = np.minimum((confidence * bins).astype(int), bins - 1)
    return tuple(
        ReliabilityBin(
            lower=index / bins,
            upper=(index + 1) / bins,
            count=int((bin_of_case == index).sum()),
            confidence=float(confidence[bin_of_case == index].mean()),
            frequency=float(came_true[bin_of_case == index].mean()),
        )
        for index in np.unique(bin_of_case).tolist()
    )


def expected_calibration_error(
    confidence: NDArray[np.floating], came_true: NDArray[np.bool_], *, bins: int = BINS
) -> float:
    """Compute the expected calibration error, in [0, 1]: less is better.

    It is the mean over bins of equal width of how far the mean probability is from the observed frequency,
    weighted with the number of cases (Naeini et al., AAAI 2015; 15 bins as in Guo et al., ICML 2017). Few
    cases make it too large, and resampling them larger still: hence no bootstrap interval.
    """
    table = reliability_table(confidence, came_true, bins=bins)
    gaps = [row.count * abs(row.confidence - row.frequency) for row in table]
    return sum(gaps) / len(confidence)
