import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.evaluate.health import MEASURES, embedding_health


def random_embeddings(count: int, dimensions: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def slow_effective_rank(rows: list[list[float]]) -> float:
    """Roy & Vetterli 2007 step by step, the singular values from the eigenvalues of the scatter matrix."""
    count, dimensions = len(rows), len(rows[0])
    means = [sum(row[d] for row in rows) / count for d in range(dimensions)]
    centred = [[row[d] - means[d] for d in range(dimensions)] for row in rows]
    scatter = [
        [sum(row[i] * row[j] for row in centred) for j in range(dimensions)] for i in range(dimensions)
    ]
    eigenvalues = torch.linalg.eigvalsh(torch.tensor(scatter, dtype=torch.float64)).tolist()
    singular = [math.sqrt(value) for value in eigenvalues if value > 1e-9]
    entropy = -sum(value / sum(singular) * math.log(value / sum(singular)) for value in singular)
    return math.exp(entropy)


def slow_spread(rows: list[list[float]]) -> float:
    lengths = [math.sqrt(sum(value**2 for value in row)) for row in rows]
    directions = [[value / length for value in row] for row, length in zip(rows, lengths, strict=True)]
    deviations = []
    for column in zip(*directions, strict=True):
        mean = sum(column) / len(column)
        deviations.append(math.sqrt(sum((value - mean) ** 2 for value in column) / len(column)))
    return math.sqrt(len(deviations)) * sum(deviations) / len(deviations)


def slow_mean_cosine(rows: list[list[float]]) -> float:
    cosines = []
    for i, first in enumerate(rows):
        for j, second in enumerate(rows):
            if i != j:
                product = sum(a * b for a, b in zip(first, second, strict=True))
                cosines.append(
                    product / math.dist(first, [0] * len(first)) / math.dist(second, [0] * len(second))
                )
    return sum(cosines) / len(cosines)


@pytest.mark.parametrize(("count", "dimensions"), [(3, 5), (12, 4), (7, 7)])
def test_measures_agree_with_slow_loops(count: int, dimensions: int) -> None:
    embeddings = random_embeddings(count, dimensions) + 1
    health = embedding_health(embeddings)
    rows = embeddings.double().tolist()
    assert health["effective_rank"] == pytest.approx(slow_effective_rank(rows), rel=1e-6)
    assert health["spread"] == pytest.approx(slow_spread(rows), rel=1e-6)
    assert health["mean_cosine"] == pytest.approx(slow_mean_cosine(rows), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    scale=st.floats(1e-3, 1e3),
    count=st.integers(3, 20),
    dimensions=st.integers(2, 12),
)
def test_measures_stay_in_their_ranges_and_ignore_scale(
    seed: int, scale: float, count: int, dimensions: int
) -> None:
    embeddings = random_embeddings(count, dimensions, seed)
    health = embedding_health(embeddings)
    assert 1 <= health["effective_rank"] <= min(count - 1, dimensions) + 1e-9
    assert 0 <= health["spread"] <= 1 + 1e-9
    assert -1 <= health["mean_cosine"] <= 1
    assert embedding_health(embeddings * scale) == pytest.approx(health, rel=1e-4)


def test_isotropic_embeddings_use_every_direction() -> None:
    health = embedding_health(random_embeddings(4000, 8))
    assert health["effective_rank"] == pytest.approx(8, rel=0.01)
    assert health["spread"] == pytest.approx(1, rel=0.01)
    assert health["mean_cosine"] == pytest.approx(0, abs=0.01)


def test_a_shared_mean_takes_no_rank_away() -> None:
    embeddings = random_embeddings(30, 16)
    shifted = embedding_health(embeddings + 20)
    assert shifted["mean_cosine"] > 0.99
    assert shifted["effective_rank"] == pytest.approx(
        embedding_health(embeddings)["effective_rank"], rel=1e-4
    )


def test_the_same_embedding_for_all_has_no_spread() -> None:
    same = random_embeddings(1, 16).expand(30, 16)
    health = embedding_health(same)
    assert health["spread"] == pytest.approx(0, abs=1e-6)
    assert health["effective_rank"] == 1
    assert embedding_health((same * (1 + 1e-4 * random_embeddings(30, 1))).bfloat16())["spread"] < 0.005


def test_embeddings_on_a_line_have_rank_one() -> None:
    line = random_embeddings(30, 1) * random_embeddings(1, 16) + random_embeddings(1, 16, 2)
    assert embedding_health(line)["effective_rank"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("embeddings", [random_embeddings(2, 4), torch.tensor([[1.0, math.nan]] * 4)])
def test_what_says_nothing_is_nan(embeddings: torch.Tensor) -> None:
    health = embedding_health(embeddings)
    assert set(health) == set(MEASURES)
    assert all(math.isnan(value) for value in health.values())
