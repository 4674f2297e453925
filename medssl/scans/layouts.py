"""How folders of scans are organised: nnU-Net raw, Decathlon, BIDS or any other way."""

import json
import posixpath
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.scans.read import image_suffix

DATASET_FILE = "dataset.json"
NNUNET = "nnU-Net raw"

_LABEL_FOLDERS = {
    "label", "labels", "labelstr", "labelsts", "mask", "masks", "segmentation", "segmentations",
    "annotations",
}  # fmt: skip
_LABEL_NAME = re.compile(
    r"(?:^|[_+-])(?:labels?|labelmap|masks?|seg|segmentation|dseg|aseg|probseg|gt)$", re.IGNORECASE
)
_BIDS_SCAN = re.compile(r"(?:^|/)sub-[^/]+/(?:ses-[^/]+/)?[a-z]+/sub-[^/]+$")
_TRAINING_IMAGE = re.compile(r"(?:^|/)images(?:Tr|Ts)/[^/]+$")
_CHANNEL = re.compile(r"_00\d\d$")


@dataclass(frozen=True, slots=True)
class Layout:
    """The organisation of one folder.

    Attributes:
        name: "nnU-Net raw", "Decathlon", "BIDS" or "plain".
        label_files: Label maps that a ``dataset.json`` names, relative to the folder.
        notes: Facts worth telling.
    """

    name: str
    label_files: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def recognise_layout(root: Path, files: Sequence[str]) -> Layout:
    """Tell a folder's layout from the names in it and from each ``dataset.json``.

    Args:
        root: The folder.
        files: Image and dataset files below it, relative to it.
    """
    stems = [without_suffix(file) for file in files if image_suffix(file)]
    training_stems = {stem for stem in stems if _TRAINING_IMAGE.search(stem)}
    if are_channels(training_stems):
        return Layout(NNUNET, notes=_note_channels(training_stems))
    images, labels = _decathlon_files(root, files)
    if images:
        return Layout("Decathlon", label_files=labels, notes=_note_missing(images - set(files)))
    is_bids = any(_BIDS_SCAN.search(stem) for stem in stems)
    return Layout("BIDS" if is_bids else "plain")


def label_map_reason(file: str, layout: Layout) -> str | None:
    """Return why a file counts as a label map by its name alone, or None for a scan."""
    *folders, stem = without_suffix(file).split("/")
    if file in layout.label_files:
        return f"It is a label map named in {DATASET_FILE}."
    if label_folder := next((name for name in folders if name.lower() in _LABEL_FOLDERS), None):
        return f"It lies in a folder of label maps ({label_folder})."
    if _LABEL_NAME.search(stem):
        return "Its name says that it is a label map."
    return None


def without_suffix(file: str) -> str:
    """Return a file name or path without the ending that marks an image."""
    return file[: len(file) - len(image_suffix(file) or "")]


def case_name(stem: str) -> str:
    """Return the name of an nnU-Net case: a file name without suffix and channel number."""
    return _CHANNEL.sub("", stem)


def are_channels(stems: Collection[str]) -> bool:
    """Tell nnU-Net's ``CASE_0000`` from files that are merely numbered: every case has a channel 0."""
    return bool(stems) and all(_CHANNEL.search(stem) and f"{case_name(stem)}_0000" in stems for stem in stems)


def _decathlon_files(root: Path, files: Sequence[str]) -> tuple[set[str], frozenset[str]]:
    """Return the images and label maps that the Decathlon-like dataset files name."""
    images: set[str] = set()
    labels: set[str] = set()
    for file in files:
        if posixpath.basename(file) != DATASET_FILE:
            continue
        folder = posixpath.dirname(file)
        for case in _training_cases(root / file):
            images.add(posixpath.normpath(posixpath.join(folder, case["image"])))
            labels.add(posixpath.normpath(posixpath.join(folder, case["label"])))
    return images, frozenset(labels)


def _training_cases(path: Path) -> list[dict[str, str]]:
    """Return the pairs of image and label in a Decathlon dataset file; none for any other file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    cases = content.get("training") if isinstance(content, dict) else None
    if not isinstance(cases, list):
        return []
    return [
        case
        for case in cases
        if isinstance(case, dict) and _is_text(case, "image") and _is_text(case, "label")
    ]


def _is_text(case: dict[str, object], key: str) -> bool:
    return isinstance(case.get(key), str)


def _note_channels(stems: set[str]) -> tuple[str, ...]:
    if all(stem.endswith("_0000") for stem in stems):
        return ()
    return ("Each channel of a case (_0000, _0001, ...) counts as a scan of its own, all of one subject.",)


def _note_missing(missing: set[str]) -> tuple[str, ...]:
    if not missing:
        return ()
    return (f"Images named in {DATASET_FILE} but not there: {len(missing)}, such as {min(missing)}.",)
