"""The configs that come with medssl."""

from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import medssl
from medssl.errors import ConfigError


def preset_names() -> list[str]:
    """Return the names of all presets in alphabetical order."""
    return sorted(
        entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml")
    )


def preset_text(name: str) -> str:
    """Return a preset as YAML, comments included.

    Args:
        name: One of `preset_names`.

    Raises:
        ConfigError: There is no such preset; the message lists those there are.
    """
    if name not in preset_names():
        raise ConfigError(f"{name} is not a preset; {suggest_preset(name)}")
    return _folder().joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def preset_purpose(name: str) -> str:
    """Return the first line of a preset, which says what it is for."""
    return preset_text(name).partition("\n")[0].removeprefix("#").strip()


def suggest_preset(name: str) -> str:
    """Return the end of a sentence that names the preset most like ``name``, or all of them."""
    names = preset_names()
    close = get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"the presets are {', '.join(names)}."


def _folder() -> Traversable:
    """Return where presets lie: inside an installed package, or beside the package in a source checkout."""
    installed = files("medssl") / "presets"
    return installed if installed.is_dir() else Path(medssl.__file__).parents[1] / "configs"
