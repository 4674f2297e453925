"""What a ``dataset.json`` says of labelled scans: that of the Decathlon and both forms of nnU-Net's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.errors import UsageError


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """The content of a ``dataset.json``.

    Attributes:
        class_names: Name of each value of the label maps; empty where the file gives none.
        channel_names: One a channel, in order; empty where the file gives none.
        training: Pairs of image and label map, relative to the file; None where it lists no cases, as
            nnU-Net's newer form.
        unlabelled: Number of images that it lists as test cases, which have no label map.
    """

    class_names: Mapping[int, str]
    channel_names: tuple[str, ...]
    training: tuple[tuple[str, str], ...] | None
    unlabelled: int


def read_dataset_file(path: Path) -> DatasetFile:
    """Read a ``dataset.json``.

    Raises:
        UsageError: If it is no JSON object, or its entries are not those of a data set.
    """
    content = _load(path)
    try:
        return DatasetFile(
            class_names=_class_names(content.get("labels") or {}, path),
            channel_names=_channel_names(content.get("channel_names") or content.get("modality") or {}),
            training=_training(content["training"]) if "training" in content else None,
            unlabelled=len(content.get("test") or []),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} is not what the Decathlon or nnU-Net write (at {error}); compare it with one of theirs."
        ) from error


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} describes no data set: it holds a {type(content).__name__}, not an object.")
    return content


def _training(cases: list[dict[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((case["image"], case["label"]) for case in cases)


def _channel_names(channels: dict[str, str]) -> tuple[str, ...]:
    return tuple(channels[number] for number in sorted(channels, key=int))


def _class_names(labels: dict[str, Any], path: Path) -> dict[int, str]:
    """Return names by value from ``{"0": "background"}`` or from nnU-Net's ``{"background": 0}``.

    Of nnU-Net's regions, such as ``{"whole tumour": [1, 2, 3]}``, only the values are known: each counts as a
    class of its own, named by its number.
    """
    if "ignore" in labels:
        raise UsageError(
            f"{path} names a label 'ignore' for voxels that nobody judged, which is not supported; "
            "label them, or leave those cases out."
        )
    if all(key.isdecimal() for key in labels):
        named = {int(value): str(name) for value, name in labels.items()}
    else:
        regions = [values if isinstance(values, list) else [values] for values in labels.values()]
        named = {int(value): str(value) for values in regions for value in values}
        named |= {int(value): name for name, value in labels.items() if not isinstance(value, list)}
    return dict(sorted(named.items()))
