"""How far a linear model gets on a few hand-made features."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MAX_ITERATIONS = 300
"""A probe that has not converged by then is scored as it stands; more changes it by less than its noise."""


def linear_probe(train_x: np.ndarray, train_y: np.ndarray, val_x: np.ndarray, val_y: np.ndarray) -> float:
    """Fit logistic regression on standardised features and return its accuracy on other samples.

    Args:
        train_x: Features ``(N, F)``, finite.
        train_y: Classes ``(N,)``.
        val_x: Features ``(M, F)`` of scans that are not in ``train_x``.
        val_y: Classes ``(M,)``.

    Returns:
        Share of ``val_y`` that is predicted rightly, in [0, 1]; NaN without samples to fit or to score.
    """
    if not (len(train_y) and len(val_y)):
        return float("nan")
    if len(np.unique(train_y)) == 1:
        return float(np.mean(val_y == train_y[0]))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        model.fit(train_x, train_y)
    return float(model.score(val_x, val_y))
