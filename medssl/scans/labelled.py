"""Labelled scans as a data set lists them, before any file is opened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medssl.scans.record import SkippedScan


@dataclass(frozen=True, slots=True)
class LabelledCase:
    """One case of a labelled data set.

    Attributes:
        scan_id: Unique within the data set and stable; the path of its image below it, without suffixes.
        subject_id: Whom it shows; cases of one subject never lie on both sides of a split.
        images: One image file a channel, in the order of the channel names.
        label: Its label map, or None.
        values: Every other column of a table: targets and covariates.
        split: What the data set sets it aside for, such as "test", or None.
        session_id: BIDS session, or None.
    """

    scan_id: str
    subject_id: str
    images: tuple[Path, ...]
    label: Path | None
    values: Mapping[str, str] = field(default_factory=dict, hash=False)
    split: str | None = None
    session_id: str | None = None

    @property
    def path(self) -> Path:
        """Image file of the first channel, by which the case is told in ``skipped.csv``."""
        return self.images[0]


@dataclass(frozen=True, slots=True)
class LabelledDataset:
    """Result of reading a labelled data set.

    Attributes:
        layout: "Decathlon", "nnU-Net raw" or "CSV".
        cases: In a stable order.
        class_names: Name of each value of the label maps, 0 for the background included; empty where the data
            set gives none.
        channel_names: One for each of a case's images.
        skipped: Cases that are left out, by what is missing of them.
        notes: Facts worth telling, one sentence each.
    """

    layout: str
    cases: tuple[LabelledCase, ...]
    class_names: Mapping[int, str] = field(hash=False)
    channel_names: tuple[str, ...]
    skipped: tuple[SkippedScan, ...] = ()
    notes: tuple[str, ...] = ()
