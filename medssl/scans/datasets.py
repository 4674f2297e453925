"""Find the cases of a labelled data set: a Decathlon or nnU-Net raw folder, or a table."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medssl.errors import UsageError
from medssl.scans.dataset_file import DatasetFile, read_dataset_file
from medssl.scans.dicom.places import on_disk
from medssl.scans.find import find_in_table, name_scans
from medssl.scans.labelled import LabelledCase, LabelledDataset
from medssl.scans.layouts import DATASET_FILE, NNUNET, are_channels, case_name, without_suffix
from medssl.scans.read import image_suffix
from medssl.scans.record import ScanRecord, SkippedScan
from medssl.scans.table import TABLE_SUFFIXES, TableRow

TEST = "test"


def find_labelled(source: Path, *, label_column: str | None = "label") -> LabelledDataset:
    """Find the cases of a labelled data set without opening an image.

    A case whose image, channel or label map is not there is skipped with the reason.

    Args:
        source: A Decathlon ``dataset.json`` or its folder; an nnU-Net raw folder (``imagesTr``, ``labelsTr``
            and, as test cases, ``imagesTs`` with ``labelsTs``); or a table with a column ``image``, for
            further channels ``image_2``, ``image_3``, ..., and perhaps ``subject_id`` and ``split``. Paths in
            a table are relative to it.
        label_column: Column of a table that names the label map, whose cell may be empty; None where cases
            have none, as in classification.

    Raises:
        UsageError: If ``source`` is none of these, contradicts itself, or has no labelled case.
    """
    if not source.exists():
        raise UsageError(f"{source} does not exist.")
    if source.suffix.lower() in TABLE_SUFFIXES:
        dataset = _from_table(source, label_column)
    else:
        dataset = _from_folder(source)
    if not dataset.cases or (label_column and not any(case.label for case in dataset.cases)):
        raise UsageError(_none_labelled(source, dataset))
    return dataset


def _from_folder(source: Path) -> LabelledDataset:
    root = source if source.is_dir() else source.parent
    file = root / DATASET_FILE if source.is_dir() else source
    images = _images_in(root / "imagesTr")
    is_nnunet = are_channels([without_suffix(image) for image in images])
    if not is_nnunet and not file.is_file():
        raise UsageError(
            f"{source} holds neither a {DATASET_FILE} nor the imagesTr of nnU-Net; "
            "name the folder of one data set, or a CSV with the columns image and label."
        )
    about = read_dataset_file(file) if file.is_file() else DatasetFile({}, (), None, 0)
    return _from_nnunet(root, about) if is_nnunet else _from_decathlon(root, file, about)


def _from_decathlon(root: Path, file: Path, about: DatasetFile) -> LabelledDataset:
    if about.training is None:
        raise UsageError(
            f"{file} lists no cases under 'training', and there are no nnU-Net channels beside it."
        )
    pairs = {os.path.normpath(image): os.path.normpath(label) for image, label in about.training}
    records, notes = name_scans(root, list(pairs), is_nnunet=False)
    cases = [
        _case(record, (record.path,), root / label)
        for record, label in zip(records, pairs.values(), strict=True)
    ]
    kept, skipped = _sort_out(cases)
    if len(about.channel_names) > 1:
        reason = (
            f"Its {len(about.channel_names)} channels share one 4-D file; write each to a file of its own "
            "(CASE_0000.nii.gz, CASE_0001.nii.gz, ...), as an nnU-Net raw folder has them."
        )
        kept, skipped = [], [*skipped, *(SkippedScan(case.path, reason) for case in kept)]
    return LabelledDataset(
        layout="Decathlon",
        cases=tuple(kept),
        class_names=about.class_names,
        channel_names=about.channel_names or ("image",),
        skipped=tuple(skipped),
        notes=(*notes, *_note_unlabelled(about.unlabelled)),
    )


def _from_nnunet(root: Path, about: DatasetFile) -> LabelledDataset:
    training = _nnunet_cases(root, "Tr")
    testing = [replace(case, split=TEST) for case in _nnunet_cases(root, "Ts")]
    has_test_labels = (root / "labelsTs").is_dir()
    cases = [*training, *testing] if has_test_labels else training
    n_channels = len(about.channel_names) or max(len(case.images) for case in training)
    kept, skipped = _sort_out(cases, n_channels=n_channels)
    return LabelledDataset(
        layout=NNUNET,
        cases=tuple(kept),
        class_names=about.class_names,
        channel_names=about.channel_names or tuple(f"{number:04}" for number in range(n_channels)),
        skipped=tuple(skipped),
        notes=() if has_test_labels else _note_unlabelled(len(testing)),
    )


def _nnunet_cases(root: Path, part: str) -> list[LabelledCase]:
    """Return the cases of ``imagesTr`` or ``imagesTs``, each with the label map that it should have."""
    channels = defaultdict(list)
    for image in _images_in(root / f"images{part}"):
        channels[case_name(without_suffix(image))].append(f"images{part}/{image}")
    records, _ = name_scans(root, [images[0] for images in channels.values()], is_nnunet=True)
    return [
        replace(
            _case(record, tuple(root / image for image in images), root / f"labels{part}" / label),
            scan_id=f"images{part}/{name}",
        )
        for record, (name, images) in zip(records, channels.items(), strict=True)
        for label in [name + (image_suffix(images[0]) or "")]
    ]


def _from_table(table: Path, label_column: str | None) -> LabelledDataset:
    listed, notes = find_in_table(table)
    rows = [row for _, row in listed]
    channels = _channel_columns(rows)
    if label_column:
        _check_label_column(table, rows, label_column)
    cases, incomplete = [], []
    for record, row in listed:
        if missing := [name for name in channels if not row.values[name]]:
            incomplete.append(SkippedScan(row.path, f"Its row names no {missing[0]}."))
            continue
        images = (row.path, *(_beside(table, row.values[name]) for name in channels))
        label = row.values[label_column] if label_column else ""
        values = {name: row.values[name] for name in row.values if name not in (*channels, label_column)}
        cases.append(replace(_case(record, images, _beside(table, label) if label else None), values=values))
    kept, skipped = _sort_out(cases)
    return LabelledDataset(
        layout="CSV",
        cases=tuple(kept),
        class_names=_names_beside(table) if label_column else {},
        channel_names=("image", *channels),
        skipped=(*incomplete, *skipped),
        notes=notes,
    )


def _names_beside(table: Path) -> Mapping[int, str]:
    """Return the class names of the data set that a table lies in, as one that only adds a split does."""
    file = table.parent / DATASET_FILE
    return read_dataset_file(file).class_names if file.is_file() else {}


def _check_label_column(table: Path, rows: Sequence[TableRow], column: str) -> None:
    if rows and column not in rows[0].values:
        names = ", ".join(["image", *rows[0].values])
        raise UsageError(f"{table} has no column {column!r}; beside names and split its columns are {names}.")
    cells = [row.values[column] for row in rows if row.values[column]]
    if cells and not any(image_suffix(cell) for cell in cells):
        raise UsageError(
            f"Column {column!r} of {table} holds words such as {cells[0]!r} rather than files of label maps, "
            f"which looks like classification: use `medssl finetune classification --target {column}`."
        )


def _channel_columns(rows: Sequence[TableRow]) -> list[str]:
    """Return the columns ``image_2``, ``image_3``, ... as far as they go on without a gap."""
    names: Mapping[str, str] = rows[0].values if rows else {}
    channels: list[str] = []
    while (name := f"image_{len(channels) + 2}") in names:
        channels.append(name)
    return channels


def _case(record: ScanRecord, images: tuple[Path, ...], label: Path | None) -> LabelledCase:
    if label in images:
        raise UsageError(f"{label} is named as the image and as the label map of one case; name both.")
    return LabelledCase(
        scan_id=record.scan_id,
        subject_id=record.subject_id,
        images=images,
        label=label,
        split=record.split,
        session_id=record.session_id,
    )


def _sort_out(
    cases: Sequence[LabelledCase], *, n_channels: int | None = None
) -> tuple[list[LabelledCase], list[SkippedScan]]:
    """Part the cases that are there in full from those of which a file is missing."""
    kept, skipped = [], []
    for case in cases:
        if reason := _missing(case, n_channels or len(case.images)):
            skipped.append(SkippedScan(case.path, reason))
        else:
            kept.append(case)
    return kept, skipped


def _missing(case: LabelledCase, n_channels: int) -> str | None:
    if len(case.images) != n_channels:
        return f"It has {len(case.images)} channels where the data set has {n_channels}."
    if gone := [image for image in case.images if not on_disk(image).exists()]:
        return f"The image file {gone[0].name} is not there."
    if case.label and not case.label.is_file():
        return f"Its label map {case.label.name} is not there."
    return None


def _images_in(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    names = (path.name for path in folder.iterdir())
    return sorted(name for name in names if not name.startswith(".") and image_suffix(name))


def _beside(table: Path, file: str) -> Path:
    return Path(os.path.normpath(table.parent / file))


def _note_unlabelled(count: int) -> tuple[str, ...]:
    return (f"Test images without label maps, passed over: {count}.",) if count else ()


def _none_labelled(source: Path, dataset: LabelledDataset) -> str:
    if not dataset.skipped:
        return f"{source} has no labelled case."
    first = dataset.skipped[0]
    return f"{source} has no labelled case that can be used; the first, {first.path.name}: {first.reason}"
