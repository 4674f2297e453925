import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.scans.record import IntensityRecipe, PreparedScan, ScanHeader, ScanRecord
from medssl.scans.split import read_held_out, split_by_subject, write_split

SOURCE = ScanHeader((9, 9, 9), (1.0, 1.0, 1.0), "RAS", "int16", ())

cohorts = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 40)), max_size=40)


def scan(number, subject, content):
    record = ScanRecord(Path(f"/{number}.nii"), str(number), f"sub-{subject}")
    recipe = IntensityRecipe("mr", 0.0, 1.0)
    return PreparedScan(
        record,
        str(content),
        str(content),
        Path("/x"),
        (9, 9, 9),
        (1.0, 1.0, 1.0),
        recipe,
        SOURCE,
        ((0, 9),) * 3,
    )


def scans_of(pairs):
    return [scan(number, subject, content) for number, (subject, content) in enumerate(pairs)]


def subjects_of(scans):
    return {scan.record.subject_id for scan in scans}


@given(pairs=cohorts, val_fraction=st.floats(0, 0.99), seed=st.integers(0, 5))
def test_every_scan_lies_on_one_side_and_no_subject_or_content_on_both(pairs, val_fraction, seed):
    scans = scans_of(pairs)
    train, val = split_by_subject(scans, val_fraction=val_fraction, seed=seed)
    assert sorted([*train, *val], key=scans.index) == scans
    assert not subjects_of(train) & subjects_of(val)
    assert not {scan.voxels_hash for scan in train} & {scan.voxels_hash for scan in val}
    assert train or not scans


@given(pairs=cohorts, order=st.randoms(use_true_random=False))
def test_the_order_of_the_scans_does_not_matter(pairs, order):
    scans = scans_of(pairs)
    shuffled = order.sample(scans, len(scans))
    sides = [split_by_subject(some, val_fraction=0.3, seed=0) for some in (scans, shuffled)]
    assert [set(side) for side in sides[0]] == [set(side) for side in sides[1]]


@given(n_subjects=st.integers(2, 40), val_fraction=st.floats(0, 0.9), seed=st.integers(0, 20))
def test_adding_a_subject_moves_at_most_one_other(n_subjects, val_fraction, seed):
    scans = [scan(i, i, i) for i in range(n_subjects + 1)]
    before = subjects_of(split_by_subject(scans[:-1], val_fraction=val_fraction, seed=seed)[1])
    after = subjects_of(split_by_subject(scans, val_fraction=val_fraction, seed=seed)[1])
    assert len((before ^ after) - {f"sub-{n_subjects}"}) <= 1


@pytest.mark.parametrize(
    ("n_subjects", "val_fraction", "n_val"),
    [(20, 0.1, 2), (3, 0.01, 1), (2, 0.9, 1), (1, 0.5, 0), (20, 0, 0), (0, 0.1, 0)],
)
def test_share_of_held_out_subjects(n_subjects, val_fraction, n_val):
    scans = [scan(i, i // 2, i) for i in range(2 * n_subjects)]
    _, val = split_by_subject(scans, val_fraction=val_fraction, seed=0)
    assert len(subjects_of(val)) == n_val


def test_seeds_choose_different_splits():
    scans = [scan(i, i, i) for i in range(50)]
    held_out = {frozenset(split_by_subject(scans, val_fraction=0.2, seed=seed)[1]) for seed in range(10)}
    assert len(held_out) == 10


def test_every_subject_is_held_out_about_equally_often():
    scans = [scan(i, i, i) for i in range(10)]
    counts = np.zeros(10)
    for seed in range(400):
        for held_out in split_by_subject(scans, val_fraction=0.3, seed=seed)[1]:
            counts[int(held_out.record.scan_id)] += 1
    assert np.all(np.abs(counts / 400 - 0.3) < 0.1)


def test_the_table_names_the_side_of_each_scan(tmp_path):
    write_split(tmp_path / "split.csv", [scan(0, 0, 0), scan(1, 0, 1)], [scan(2, 1, 2)])
    with (tmp_path / "split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["scan_id"], row["subject_id"], row["split"]) for row in rows] == [
        ("0", "sub-0", "train"),
        ("1", "sub-0", "train"),
        ("2", "sub-1", "val"),
    ]
    assert read_held_out(tmp_path / "split.csv") == {"2"}
