"""How far linear models get on a few hand-made features."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

RIDGE_PENALTIES = (1e-2, 1.0, 1e2, 1e4)
"""On standardised features; the best is chosen by leaving one out."""

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


def ridge_probe(train_x: np.ndarray, train_y: np.ndarray, val_x: np.ndarray) -> np.ndarray:
    """Fit ridge regression on standardised features and return what it predicts for other samples.

    Args:
        train_x: Features ``(N, F)``, finite.
        train_y: Values ``(N, D)``.
        val_x: Features ``(M, F)`` of scans that are not in ``train_x``.

    Returns:
        ``(M, D)``.
    """
    model = make_pipeline(StandardScaler(), RidgeCV(RIDGE_PENALTIES))
    predicted: np.ndarray = model.fit(train_x, train_y).predict(val_x)
    return predicted
