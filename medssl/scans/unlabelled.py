"""Find the cases to predict: scans without labels, of one channel or several."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medssl.errors import UsageError
from medssl.scans.datasets import find_labelled
from medssl.scans.find import find_scans
from medssl.scans.labelled import LabelledCase, LabelledDataset
from medssl.scans.layouts import are_channels, case_name
from medssl.scans.record import Found, ScanRecord, SkippedScan
from medssl.scans.table import TABLE_SUFFIXES


def find_unlabelled(source: Path, *, channel_names: Sequence[str]) -> LabelledDataset:
    """Find cases without opening an image; none has a label map, and test cases are as good as any.

    Args:
        source: For one channel, what `medssl.scans.find.find_scans` takes. For several, a folder in which
            nnU-Net's ``CASE_0000``, ``CASE_0001``, ... lie together, or a table with the columns ``image``,
            ``image_2``, ...; other columns of a table become the values of its cases.
        channel_names: Of the images that each case must have.

    Raises:
        UsageError: If ``source`` does not exist, cannot be read, or has other channels.
        NoUsableScanError: If there is no image file at all.
    """
    if source.suffix.lower() in TABLE_SUFFIXES and source.is_file():
        return _from_table(source, channel_names)
    found = find_scans(source)
    if len(channel_names) == 1:
        cases = [_case([record]) for record in found.scans]
        return _dataset(found, cases, channel_names)
    if not are_channels([record.scan_id for record in found.scans]):
        raise UsageError(
            f"The model takes {len(channel_names)} channels ({', '.join(channel_names)}), which {source} "
            "does not name: give a folder of CASE_0000.nii.gz, CASE_0001.nii.gz, ..., as nnU-Net has them, "
            "or a CSV with the columns image, image_2, ..."
        )
    return _dataset(found, _group_channels(found.scans), channel_names)


def _from_table(table: Path, channel_names: Sequence[str]) -> LabelledDataset:
    dataset = find_labelled(table, label_column=None)
    if len(dataset.channel_names) != len(channel_names):
        raise UsageError(
            f"{table} names {len(dataset.channel_names)} channels ({', '.join(dataset.channel_names)}), and "
            f"the model takes {len(channel_names)} ({', '.join(channel_names)}): name them in the columns "
            "image, image_2, ..."
        )
    return dataset


def _group_channels(records: Sequence[ScanRecord]) -> list[LabelledCase]:
    channels: defaultdict[str, list[ScanRecord]] = defaultdict(list)
    for record in records:
        channels[case_name(record.scan_id)].append(record)
    return [
        replace(_case(group), scan_id=name, subject_id=case_name(group[0].subject_id))
        for name, group in channels.items()
    ]


def _case(channels: Sequence[ScanRecord]) -> LabelledCase:
    first = channels[0]
    return LabelledCase(
        scan_id=first.scan_id,
        subject_id=first.subject_id,
        images=tuple(record.path for record in channels),
        label=None,
        split=first.split,
        session_id=first.session_id,
    )


def _dataset(found: Found, cases: Sequence[LabelledCase], channel_names: Sequence[str]) -> LabelledDataset:
    complete = [case for case in cases if len(case.images) == len(channel_names)]
    incomplete = [
        SkippedScan(
            case.path, f"It has {len(case.images)} channels where the model takes {len(channel_names)}."
        )
        for case in cases
        if len(case.images) != len(channel_names)
    ]
    return LabelledDataset(
        layout=found.layout,
        cases=tuple(complete),
        class_names={},
        channel_names=tuple(channel_names),
        skipped=(*found.skipped, *incomplete),
        notes=found.notes,
    )
