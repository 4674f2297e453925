"""What embeddings say about a set of scans: who is alike, who is odd, and what can be read off them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medssl.evaluate.classification import score_classification
from medssl.findings import Interval

NEIGHBOURS = 5
FOLDS = 5

DUPLICATE_SHARE = 0.05
"""Near duplicates are closer than this share of the median distance between nearest scans."""

FAR_OUT = 3.0
"""Interquartile ranges above the third quartile from which a value is far out (Tukey 1977)."""

LARGEST_PERPLEXITY = 30.0

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Projection:
    """Embeddings in the plane.

    Attributes:
        name: Of the method.
        points: ``(N, 2)``, each axis from 0 to 1.
    """

    name: str
    points: Array


def project(embeddings: Array) -> list[Projection]:
    """Project standardised embeddings onto two principal components, and by t-SNE.

    Args:
        embeddings: ``(N, D)`` of at least four scans.
    """
    standardised = _standardise(embeddings)
    components = PCA(2, random_state=0)
    plane = components.fit_transform(standardised)
    share = components.explained_variance_ratio_.sum()
    perplexity = min(LARGEST_PERPLEXITY, (len(embeddings) - 1) / 3)
    nested = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(standardised)
    return [
        Projection(f"PCA, {share:.0%} of the variance", _to_unit(plane)),
        Projection(f"t-SNE, perplexity {perplexity:.0f}", _to_unit(nested)),
    ]


def near_duplicates(embeddings: Array) -> list[tuple[int, int]]:
    """Return pairs of scans that are far closer than neighbours are, the closest first."""
    distances, neighbours = _nearest(embeddings, 1)
    typical = np.median(distances)
    pairs = {
        (min(index, int(other)), max(index, int(other))): float(distance)
        for index, (distance, other) in enumerate(zip(distances[:, 0], neighbours[:, 0], strict=True))
        if distance < DUPLICATE_SHARE * typical
    }
    return sorted(pairs, key=lambda pair: pairs[pair])


def outliers(embeddings: Array) -> list[int]:
    """Return scans whose neighbours are far away compared with those of others, the farthest first."""
    distances, _ = _nearest(embeddings, min(NEIGHBOURS, len(embeddings) - 1))
    means = distances.mean(axis=1)
    first, third = np.percentile(means, (25, 75))
    far = np.flatnonzero(means > third + FAR_OUT * (third - first))
    return [int(index) for index in far[np.argsort(-means[far])]]


def probe(embeddings: Array, classes: Sequence[str], subject_ids: Sequence[str]) -> dict[str, Interval]:
    """Tell classes from embeddings, judged on subjects that were not learned from.

    Args:
        embeddings: ``(N, D)``.
        classes: One a scan, of at least two kinds.
        subject_ids: Whom each scan shows; a subject is never on both sides.

    Returns:
        Balanced accuracy of the five nearest neighbours and of a logistic regression, and what guessing
        gives, with 95 % intervals from a bootstrap over subjects. Empty where a class or the subjects are too
        few for five folds.
    """
    names, truth = np.unique(np.asarray(classes), return_inverse=True)
    if len(set(subject_ids)) < FOLDS or len(names) < 2 or np.bincount(truth).min() < FOLDS:
        return {}
    scores = {}
    models = {
        f"{NEIGHBOURS} nearest neighbours": KNeighborsClassifier(NEIGHBOURS),
        "linear probe": LogisticRegression(max_iter=1000, class_weight="balanced"),
    }
    for name, model in models.items():
        predicted = cross_val_predict(
            make_pipeline(StandardScaler(), model),
            embeddings,
            truth,
            groups=np.asarray(subject_ids),
            cv=GroupKFold(FOLDS),
        )
        one_hot = np.eye(len(names))[predicted]
        scored = score_classification(truth, one_hot, subject_ids=subject_ids)
        scores[name] = scored["balanced_accuracy"]
    chance = 1 / len(names)
    return {**scores, "guessing": Interval(chance, chance, chance)}


def _standardise(embeddings: Array) -> Array:
    standardised: Array = StandardScaler().fit_transform(embeddings)
    return standardised


def _nearest(embeddings: Array, count: int) -> tuple[Array, NDArray[np.int64]]:
    """Return distances to, and indices of, the nearest other scans, ``(N, count)``."""
    distances, neighbours = NearestNeighbors(n_neighbors=count).fit(_standardise(embeddings)).kneighbors()
    return distances, neighbours


def _to_unit(points: NDArray[np.floating]) -> Array:
    lowest, highest = points.min(axis=0), points.max(axis=0)
    spread = np.where(highest > lowest, highest - lowest, 1)
    unit: Array = (points - lowest) / spread
    return unit
