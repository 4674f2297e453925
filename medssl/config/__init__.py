"""Typed, checked configuration: the schema, YAML files with ``--set`` overrides, and shipped presets."""
