"""Hold out subjects for validation."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from medssl.scans.manifest import read_table, write_table
from medssl.scans.record import Prepared

P = TypeVar("P", bound=Prepared)

SPLIT_COLUMNS = ("scan_id", "subject_id", "split")


def split_by_subject(scans: Sequence[P], *, val_fraction: float, seed: int) -> tuple[list[P], list[P]]:
    """Part scans into training and validation, never a subject on both sides.

    Subjects that share a scan of the same content are taken for one person. Subjects are ordered by a hash of
    seed and name, and the first ones are held out, so the split does not depend on the order of the scans,
    and adding a subject moves at most one other.

    Args:
        scans: What to split; both sides keep their order.
        val_fraction: Share of the subjects to hold out, in [0, 1). Above zero at least one is held out and
            one kept, unless there is only one subject, which is then trained on.
        seed: Chooses another split.

    Returns:
        Training and validation scans.
    """
    person_of = _join_subjects(scans)
    people = sorted(set(person_of.values()), key=lambda person: _place(person, seed))
    n_val = round(val_fraction * len(people))
    if val_fraction > 0:
        n_val = min(max(n_val, 1), len(people) - 1)
    held_out = set(people[:n_val])
    train = [scan for scan in scans if person_of[scan.record.subject_id] not in held_out]
    val = [scan for scan in scans if person_of[scan.record.subject_id] in held_out]
    return train, val


def write_split(path: Path, train: Sequence[Prepared], val: Sequence[Prepared]) -> None:
    """Write a CSV that says of each scan on which side of the split it lies: "train" or "val"."""
    sides = [("train", train), ("val", val)]
    write_table(
        path,
        SPLIT_COLUMNS,
        [
            {"scan_id": scan.record.scan_id, "subject_id": scan.record.subject_id, "split": side}
            for side, scans in sides
            for scan in scans
        ],
    )


def read_held_out(path: Path) -> set[str]:
    """Return the ``scan_id`` of each validation scan in a file that `write_split` wrote."""
    return {row["scan_id"] for row in read_table(path) if row["split"] == "val"}


def _join_subjects(scans: Sequence[Prepared]) -> dict[str, str]:
    """Name each subject after the first of all that it shares content with, directly or through others."""
    person_of = {scan.record.subject_id: scan.record.subject_id for scan in scans}
    subjects_with: dict[str, set[str]] = {}
    for scan in scans:
        subjects_with.setdefault(scan.voxels_hash, set()).add(scan.record.subject_id)
    for sharing in subjects_with.values():
        people = {person_of[subject] for subject in sharing}
        if len(people) > 1:
            joined = min(people)
            person_of = {
                subject: joined if person in people else person for subject, person in person_of.items()
            }
    return person_of


def _place(person: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}/{person}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
