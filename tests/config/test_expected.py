from typing import Any, Literal

import pytest
from pydantic import BaseModel, TypeAdapter

from medssl.config.expected import SettingsTree, describe
from medssl.config.schema import (
    Fraction,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PretrainConfig,
    Spacing3D,
)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (PositiveInt, "a whole number above 0"),
        (NonNegativeInt, "a whole number of at least 0"),
        (Fraction, "a number of at least 0 and below 1"),
        (PositiveFloat | None, "a number above 0 or null"),
        (Spacing3D | Literal["auto"], "a list of three numbers above 0 or auto"),
        (tuple[float, float], "a list of two numbers"),
        (list[PositiveInt], "a list of whole numbers above 0"),
        (Literal["tiny", "small", "base"], "tiny, small or base"),
        (bool | Literal["auto"], "true, false or auto"),
        (str, "text"),
        (dict[str, int], "a mapping of settings"),
    ],
)
def test_a_field_is_described_in_words(kind: Any, words: str) -> None:
    assert describe(TypeAdapter(kind).json_schema()) == words


@pytest.fixture
def tree() -> SettingsTree:
    return SettingsTree(PretrainConfig.model_json_schema())


@pytest.mark.parametrize(
    ("section", "name", "nearest"),
    [
        (("training",), "epoch", "training.epochs"),
        ((), "trainin", "training"),
        ((), "epochs", "training.epochs"),
        (("training",), "learning_rat", "optimiser.learning_rate"),
        ((), "xyzzy", None),
    ],
)
def test_the_nearest_field_is_sought_beside_and_then_everywhere(
    tree: SettingsTree, section: tuple[str, ...], name: str, nearest: str | None
) -> None:
    assert tree.nearest(section, name) == nearest


def test_a_location_is_followed_as_far_as_it_names_fields(tree: SettingsTree) -> None:
    names, schema = tree.follow(("data", "spacing_mm", "tuple[...]", 2))
    assert names == ("data", "spacing_mm")
    assert "anyOf" in schema


def test_a_location_goes_through_mappings_of_any_name(tree: SettingsTree) -> None:
    assert tree.follow(("tasks", "rotation"))[0] == ("tasks", "rotation")


class Fine(BaseModel):
    scale: float


class Coarse(BaseModel):
    scales: float


class Pyramid(BaseModel):
    fine: Fine
    coarse: Coarse


def test_a_field_of_the_same_section_is_nearer_than_one_of_the_same_name() -> None:
    assert SettingsTree(Pyramid.model_json_schema()).nearest(("fine",), "scales") == "fine.scale"


def test_sections_know_their_fields() -> None:
    assert SettingsTree(Pyramid.model_json_schema()).fields(("coarse",)) == ["scales"]
