"""Words for what a config field may hold, taken from the JSON schema that pydantic writes."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

JsonSchema = Mapping[str, Any]

_COUNTS = {1: "one", 2: "two", 3: "three", 4: "four"}
_NOUNS = {"integer": "whole number", "number": "number", "string": "text"}
_BOUNDS = {
    "exclusiveMinimum": "above",
    "minimum": "of at least",
    "exclusiveMaximum": "below",
    "maximum": "of at most",
}


class SettingsTree:
    """The fields of a config model and of the sections in it.

    Args:
        schema: JSON schema of the outermost model, as ``model_json_schema()`` returns it.
    """

    def __init__(self, schema: JsonSchema) -> None:
        self._root = schema
        self._definitions: JsonSchema = schema.get("$defs", {})

    def follow(self, location: Sequence[str | int]) -> tuple[tuple[str, ...], JsonSchema]:
        """Go along a pydantic error location as far as it names fields.

        Args:
            location: Field names, then possibly tags of union members and indices of list elements.

        Returns:
            The names of the deepest field that the location passes through, and that field's schema.
        """
        names: list[str] = []
        node = self._root
        for part in location:
            child = self._child(node, part)
            if child is None:
                break
            names.append(str(part))
            node = child
        return tuple(names), node

    def nearest(self, section: Sequence[str], name: str) -> str | None:
        """Return the dotted path of the field most likely meant by ``name``, or None.

        Fields of the same section come first, then fields of that name in any section.
        """
        _, node = self.follow(section)
        siblings = {field: ".".join((*section, field)) for field in node.get("properties", {})}
        everywhere = {path.rpartition(".")[2]: path for path in self._paths(self._root, "")}
        for candidates in (siblings, everywhere):
            if close := get_close_matches(name, candidates, n=1):
                return candidates[close[0]]
        return None

    def fields(self, section: Sequence[str]) -> list[str]:
        """Return the names of the fields in a section."""
        return list(self.follow(section)[1].get("properties", {}))

    def _child(self, node: JsonSchema, part: str | int) -> JsonSchema | None:
        child = node.get("properties", {}).get(part) or node.get("additionalProperties")
        return self._resolve(child) if isinstance(child, Mapping) else None

    def _resolve(self, node: JsonSchema) -> JsonSchema:
        reference = node.get("$ref")
        return self._definitions[reference.rpartition("/")[2]] if reference else node

    def _paths(self, node: JsonSchema, prefix: str) -> Iterator[str]:
        for name, child in node.get("properties", {}).items():
            yield prefix + name
            yield from self._paths(self._resolve(child), f"{prefix}{name}.")


def describe(schema: JsonSchema) -> str:
    """Say in words which values a field takes, such as "a list of three numbers above 0 or auto"."""
    *others, last = _options(schema)
    return f"{', '.join(others)} or {last}" if others else last


def _options(schema: JsonSchema) -> list[str]:
    if options := schema.get("anyOf"):
        return [words for option in options for words in _options(option)]
    if "const" in schema:
        return [str(schema["const"])]
    if choices := schema.get("enum"):
        return [str(choice) for choice in choices]
    match schema.get("type"):
        case "boolean":
            return ["true", "false"]
        case "array":
            return [_list(schema)]
        case "integer" | "number":
            return [f"a {_noun(schema)}"]
        case "object":
            return ["a mapping of settings"]
        case "string":
            return ["text"]
        case other:
            return [str(other)]


def _list(schema: JsonSchema) -> str:
    items = schema.get("prefixItems") or [schema.get("items", {})]
    count = schema.get("maxItems") if schema.get("maxItems") == schema.get("minItems") else None
    words = f"{_noun(items[0], plural='s')}"
    return f"a list of {_COUNTS.get(count, count)} {words}" if count else f"a list of {words}"


def _noun(schema: JsonSchema, *, plural: str = "") -> str:
    noun = _NOUNS.get(schema.get("type", ""), "value") + plural
    bounds = [f"{word} {schema[key]:g}" for key, word in _BOUNDS.items() if key in schema]
    return " ".join([noun, " and ".join(bounds)]) if bounds else noun
