"""Numbers known of a case beside its scan, and what can be said from them alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from medssl.errors import UsageError
from medssl.finetune.columns import read_number, refuse_unknown_column
from medssl.finetune.targets import Target
from medssl.scans.labelled import LabelledCase

MAX_ITERATIONS = 1000
"""Far more than a fit on a few standardised numbers takes."""

CovariatesModel = Callable[[LabelledCase], NDArray[np.float64]]


@dataclass(frozen=True)
class Covariate:
    """A column of numbers, and how they are standardised.

    Attributes:
        column: Its name.
        mean: Over the labelled cases that a model learned from.
        std: Standard deviation over the same; 1 where all are equal.
    """

    column: str
    mean: float
    std: float

    @classmethod
    def fit(cls, column: str, cases: Sequence[LabelledCase]) -> "Covariate":
        """Return the column standardised by some cases.

        Raises:
            UsageError: If there is no such column, or it holds something else than numbers, or none.
        """
        refuse_unknown_column(column, cases)
        numbers = [number for case in cases if (number := read_number(case, column)) is not None]
        if not numbers:
            raise UsageError(f"Column {column!r} is empty in all cases to learn from: leave it out.")
        return cls(column, float(np.mean(numbers)), float(np.std(numbers)) or 1.0)

    def standardise(self, case: LabelledCase) -> float:
        """Return the standardised number of a case; 0, the mean, where its cell is empty."""
        number = read_number(case, self.column)
        return 0.0 if number is None else (number - self.mean) / self.std


def standardise(covariates: Sequence[Covariate], case: LabelledCase) -> NDArray[np.float32]:
    """Return the covariates of a case, ``(V,)``."""
    return np.array([covariate.standardise(case) for covariate in covariates], dtype=np.float32)


def fit_covariates(
    cases: Sequence[LabelledCase],
    target: Target,
    covariates: Sequence[Covariate],
    *,
    is_balanced: bool = True,
) -> CovariatesModel:
    """Fit a logistic regression on covariates alone, the baseline beside a network.

    Args:
        cases: Labelled cases to learn from; those without an answer are passed over.
        target: What is told apart.
        covariates: At least one.
        is_balanced: Whether classes count alike however rare, as in `Classification`.

    Returns:
        From a case to the probability of each class ``(classes,)``; 0 for classes that no case had.

    Raises:
        UsageError: If the cases do not show two classes.
    """
    answered = [(case, answer) for case in cases if (answer := target.class_of(case)) is not None]
    answers = [answer for _, answer in answered]
    if len(set(answers)) < 2:
        raise UsageError(f"The cases to learn from do not show two classes of {target.name!r}: add labels.")
    regression: Any = LogisticRegression(
        class_weight="balanced" if is_balanced else None, max_iter=MAX_ITERATIONS
    )
    regression.fit(np.stack([standardise(covariates, case) for case, _ in answered]), answers)

    def predict(case: LabelledCase) -> NDArray[np.float64]:
        probabilities = np.zeros(len(target.classes))
        probabilities[regression.classes_] = regression.predict_proba(standardise(covariates, case)[None])[0]
        return probabilities

    return predict
