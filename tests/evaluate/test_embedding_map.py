import numpy as np
import pytest
from numpy.typing import NDArray

from medssl.evaluate.embedding_map import near_duplicates, outliers, probe, project


@pytest.fixture
def embeddings() -> NDArray[np.float64]:
    """Two clouds of thirty scans each."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(0, 1, (30, 6)), rng.normal(4, 1, (30, 6))])


def test_clouds_stay_apart_in_every_projection(embeddings: NDArray[np.float64]) -> None:
    for projection in project(embeddings):
        assert projection.points.shape == (60, 2)
        assert projection.points.min() == 0
        assert projection.points.max() == 1
        one, other = projection.points[:30].mean(axis=0), projection.points[30:].mean(axis=0)
        spread = projection.points[:30].std(axis=0).mean()
        assert np.linalg.norm(one - other) > 3 * spread


def test_the_fewest_scans_can_be_projected() -> None:
    assert [each.points.shape for each in project(np.eye(4))] == [(4, 2), (4, 2)]


def test_near_duplicates_are_found_and_neighbours_are_not(embeddings: NDArray[np.float64]) -> None:
    assert near_duplicates(embeddings) == []
    embeddings[7] = embeddings[51] + 1e-4
    embeddings[3] = embeddings[20]
    assert near_duplicates(embeddings) == [(3, 20), (7, 51)]


def test_outliers_are_found_farthest_first(embeddings: NDArray[np.float64]) -> None:
    assert outliers(embeddings) == []
    embeddings[5], embeddings[40] = 60, -90
    assert outliers(embeddings) == [40, 5]


def test_what_the_clouds_are_can_be_told_and_what_they_are_not_cannot(
    embeddings: NDArray[np.float64],
) -> None:
    subjects = [str(number) for number in range(60)]
    told = probe(embeddings, ["a"] * 30 + ["b"] * 30, subjects)
    assert {name: told[name].estimate for name in told} == {
        "5 nearest neighbours": 1,
        "linear probe": 1,
        "guessing": 0.5,
    }
    untold = probe(embeddings, ["a", "b"] * 30, subjects)
    assert untold["linear probe"].lower < 0.5 < untold["linear probe"].upper


def test_scans_of_one_subject_are_on_one_side() -> None:
    """Each subject has a place of its own, which tells its class only to who has seen the subject."""
    rng = np.random.default_rng(1)
    places = rng.normal(size=(20, 40))
    embeddings = np.repeat(places, 4, axis=0) + rng.normal(0, 0.01, (80, 40))
    subjects = [str(number // 4) for number in range(80)]
    classes = ["ab"[number // 4 % 2] for number in range(80)]
    assert probe(embeddings, classes, subjects)["5 nearest neighbours"].estimate < 0.8


@pytest.mark.parametrize("classes", [["a"] * 60, ["a"] * 57 + ["b"] * 3])
def test_too_few_of_a_class_give_no_score(embeddings: NDArray[np.float64], classes: list[str]) -> None:
    assert probe(embeddings, classes, [str(number) for number in range(60)]) == {}
