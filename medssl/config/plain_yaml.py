"""YAML that holds plain values only: read strictly, written the way people write it."""

from typing import Any

import yaml

from medssl.errors import ConfigError


def parse(text: str | bytes, *, where: str) -> Any:
    """Read YAML; a key that is given twice, or a tag that would make an object, is an error.

    Args:
        text: The YAML.
        where: What an error message starts with, such as the file's name.

    Raises:
        ConfigError: The text is not plain YAML.
    """
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
        reason = f"{problem} in line {mark.line + 1}" if mark else " ".join(str(error).split())
        raise ConfigError(f"{where}: this is not plain YAML ({reason}).") from error


def dump(values: dict[str, Any]) -> str:
    """Write mappings in several lines and in the order they have, lists in one line."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is an error; PyYAML would let the last one win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"{key.value!r} is given twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """Safe YAML with lists in one line."""


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


_Dumper.add_representer(list, _represent_list)
