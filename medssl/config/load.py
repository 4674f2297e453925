"""From a preset or a YAML file, and overrides, to a checked config, and back to YAML."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from medssl.config import plain_yaml
from medssl.config.expected import SettingsTree, describe
from medssl.config.presets import preset_names, preset_text, suggest_preset
from medssl.config.schema import PretrainConfig, RunConfig, Section
from medssl.errors import ConfigError

SectionT = TypeVar("SectionT", bound=Section)
ConfigT = TypeVar("ConfigT", bound=RunConfig)


def load_config(source: str | Path | None, overrides: Sequence[str] = ()) -> PretrainConfig:
    """Read the config of a pretraining run, see `load_run_config`."""
    return load_run_config(PretrainConfig, source, overrides)


def load_run_config(kind: type[ConfigT], source: str | Path | None, overrides: Sequence[str] = ()) -> ConfigT:
    """Read a config and apply overrides to it.

    Args:
        kind: What is configured: `PretrainConfig` or `FinetuneConfig`.
        source: Name of a preset, path of a YAML file, or None for the schema's defaults. A preset wins over
            a file of the same name; ``./laptop`` is always a file.
        overrides: Assignments such as ``training.epochs=20``, applied in order, so that later ones win. The
            value is read as YAML.

    Raises:
        ConfigError: The file, a field or a value does not fit; the message is one sentence that names it.
    """
    values = {} if source is None else _read(source)
    config = validate_section(kind, values, where=str(source))
    if not overrides:
        return config
    # Without this, `tasks.rotation.weight=2` on a config that names no tasks would switch the others off.
    if isinstance(config, PretrainConfig):
        values.setdefault("tasks", config.model_dump()["tasks"])
    for override in overrides:
        _apply(override, values)
    return validate_section(kind, values, where="command line")


def validate_section(model: type[SectionT], values: Mapping[str, Any], *, where: str) -> SectionT:
    """Check ``values`` against a section's model.

    Args:
        model: The section.
        values: Settings by field name; fields that are left out take their defaults.
        where: What an error message starts with, such as a file name or ``tasks.rotation``.

    Raises:
        ConfigError: A field is unknown or a value does not fit.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = _explain(error, values, SettingsTree(model.model_json_schema()))
        raise ConfigError(f"{where}: {problem}") from error


def dump_yaml(config: RunConfig) -> str:
    """Return every field of ``config`` as YAML that `load_config` reads back to an equal config."""
    return plain_yaml.dump(config.model_dump(mode="json"))


def _read(source: str | Path) -> dict[str, Any]:
    values = plain_yaml.parse(_content(source), where=str(source))
    if values is None:
        raise ConfigError(f"{source}: the file is empty; `medssl config copy laptop FILE` writes a full one.")
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ConfigError(f"{source}: expected `section:` lines at the top level, not {_show(values)}.")
    # A section whose lines are all commented out is one with all its defaults.
    return {name: {} if value is None else value for name, value in values.items()}


def _content(source: str | Path) -> bytes:
    if source in preset_names():
        return preset_text(str(source)).encode()
    path = Path(source)
    if not path.exists():
        hint = suggest_preset(str(source))
        raise ConfigError(f"{source} is neither a config file nor a preset; {hint}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{source}: the file cannot be read ({error.strerror}).") from error


def _apply(override: str, values: dict[str, Any]) -> None:
    field, equals, text = override.partition("=")
    *section, name = field.strip().split(".")
    if not equals or not all((*section, name)):
        raise ConfigError(f"command line: write an override as field=value, not {override!r}.")
    for part in section:
        # What stands in the way is replaced, and then fails validation under its own name.
        if not isinstance(values.get(part), dict):
            values[part] = {}
        values = values[part]
    values[name] = plain_yaml.parse(text, where=f"command line, {field}")


def _explain(error: ValidationError, values: Mapping[str, Any], tree: SettingsTree) -> str:
    # A misspelt field first: it often explains the others.
    details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden")
    problem, *others = dict.fromkeys(_explain_one(detail, values, tree) for detail in details)
    return f"{problem} (and {len(others)} more)." if others else f"{problem}."


def _explain_one(detail: ErrorDetails, values: Mapping[str, Any], tree: SettingsTree) -> str:
    names, schema = tree.follow(detail["loc"])
    field = ".".join(names)
    match detail["type"]:
        case "extra_forbidden":
            return _explain_unknown(names, str(detail["loc"][-1]), tree)
        case "missing" if len(names) == len(detail["loc"]):
            return f"{field} is needed, {describe(schema)}"
        case "value_error" | "assertion_error":
            message = str(detail["ctx"]["error"]).rstrip(".")
            return f"{field}: {message}" if field else message
    return f"{field or 'this'} must be {describe(schema)}, not {_show(_value_at(values, names))}"


def _explain_unknown(section: tuple[str, ...], name: str, tree: SettingsTree) -> str:
    unknown = ".".join((*section, name))
    if nearest := tree.nearest(section, name):
        return f"{unknown} is not a setting; the nearest is {nearest}"
    return f"{unknown} is not a setting; choose from {', '.join(tree.fields(section))}"


def _value_at(values: Any, names: Sequence[str]) -> Any:
    for name in names:
        values = values[name]
    return values


def _show(value: Any) -> str:
    return shorten(json.dumps(value, default=str, ensure_ascii=False), 60, placeholder="...")
