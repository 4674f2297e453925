import gzip
import os
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from medssl.config.schema import DataConfig
from medssl.errors import MedsslError
from medssl.progress import SilentProgress
from medssl.scans import prepare, prepare_label
from medssl.scans.case_crop import read_case_label, read_case_volume
from medssl.scans.cases import prepare_cases
from medssl.scans.datasets import find_labelled
from medssl.scans.fingerprint import data_fingerprint
from medssl.scans.label_store import MAX_PLACES, draw_place
from medssl.scans.labelled import LabelledCase
from medssl.scans.split import split_by_subject
from medssl.scans.store import ScanStore

HERE = DataConfig(prepare_workers=0)
ONE_MM = (1.0, 1.0, 1.0)


class Noting(SilentProgress):
    """Keeps what it was warned of."""

    def __init__(self):
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)


@pytest.fixture
def store(tmp_path):
    return ScanStore(tmp_path / "store")


@pytest.fixture
def labels():
    """Two classes of different size in a volume as large as `smooth_volume`."""
    volume = np.zeros((12, 14, 16), np.uint8)
    volume[2:7, 3:9, 4:12] = 1
    volume[8:10, 9:12, 5:8] = 5
    return volume


@pytest.fixture
def make_case(write_scan, smooth_volume, labels):
    """Return a function that writes a case of some channels: number 0 differs from name to name."""

    def make(name, *, n_channels=1, volume=None, label=labels, affine=None):
        rolled = np.roll(smooth_volume if volume is None else volume, ord(name[0]), axis=0)
        images = [
            write_scan(f"in/{name}_{channel}.nii.gz", volume=np.roll(rolled, channel, axis=1), affine=affine)
            for channel in range(n_channels)
        ]
        path = None
        if label is not None:
            path = write_scan(f"in/{name}_label.nii.gz", volume=label, affine=affine, dtype=label.dtype)
        return LabelledCase(name, f"sub-{name}", tuple(images), path)

    return make


def run(cases, store, *, data=HERE, spacing_mm=ONE_MM, progress=None):
    progress = progress or SilentProgress()
    return prepare_cases(cases, store=store, spacing_mm=spacing_mm, data=data, progress=progress)


def reason_of(cases, store):
    prepared, skipped = run(cases, store)
    assert len(skipped) == 1
    assert len(prepared) == len(cases) - 1
    return skipped[0].reason


@pytest.fixture
def reads(monkeypatch):
    """The names of all files whose voxels were read."""
    names = []

    def note(module, name):
        function = getattr(module, name)

        def noting(path, **settings):
            names.append(path.name)
            return function(path, **settings)

        monkeypatch.setattr(module, name, noting)

    note(prepare, "read_volume")
    note(prepare_label, "read_label_map")
    return names


class TestPreparing:
    def test_images_and_labels_share_the_grid(self, make_case, store, labels):
        cases = [make_case("a", n_channels=2), make_case("b", n_channels=2)]
        prepared, skipped = run(cases, store)
        assert not skipped
        assert [case.record for case in prepared] == cases
        assert prepared[0].class_voxels == {1: 240, 5: 18}
        assert prepared[0].shape == labels.shape
        np.testing.assert_array_equal(read_case_label(prepared[0]), labels)
        first, second = read_case_volume(prepared[0])
        np.testing.assert_allclose(np.roll(first, 1, axis=1), second, atol=1e-3)

    def test_all_are_resampled_together(self, make_case, store, labels):
        (case,), _ = run([make_case("a", n_channels=2)], store, spacing_mm=(2.0, 1.0, 0.5))
        assert read_case_volume(case).shape == (2, 6, 14, 32)
        resampled = read_case_label(case)
        assert resampled.shape == (6, 14, 32)
        np.testing.assert_array_equal(resampled[:, :, ::2][1:3, 4:8, 4:10], 1)
        assert case.class_voxels[1] == pytest.approx(240, rel=0.25)
        assert set(np.unique(resampled)) == {0, 1, 5}

    def test_the_first_channel_decides_what_is_cut_away(self, make_case, store, smooth_volume, write_scan):
        widths = [(15, 10), (0, 0), (8, 20)]
        padded = np.pad(np.roll(smooth_volume, ord("a"), axis=0) + 500, widths)
        case = make_case("a", n_channels=2, label=np.pad(np.ones((12, 14, 16), np.uint8), widths))
        write_scan("in/a_0.nii.gz", volume=padded)
        write_scan("in/a_1.nii.gz", volume=padded[::-1])
        (prepared,), _ = run([case], store)
        assert {channel.foreground for channel in prepared.channels} == {((12, 30), (0, 14), (5, 27))}
        assert read_case_volume(prepared).shape == (2, 18, 14, 22)
        expected = np.pad(np.ones((12, 14, 16), np.uint8), [(3, 3), (0, 0), (3, 3)])
        np.testing.assert_array_equal(read_case_label(prepared), expected)

    def test_a_label_map_in_another_axis_order(self, make_case, store, labels):
        case = make_case("a")
        image = nib.as_closest_canonical(nib.load(case.label)).as_reoriented([[2, -1], [0, 1], [1, -1]])
        image.to_filename(case.label)
        (prepared,), _ = run([case], store)
        np.testing.assert_array_equal(read_case_label(prepared), labels)

    def test_cases_without_a_label_map_or_without_classes(self, make_case, store):
        cases = [make_case("a", label=None), make_case("b", label=np.zeros((12, 14, 16), np.uint8))]
        (unlabelled, empty), _ = run(cases, store)
        assert (unlabelled.label_path, unlabelled.class_voxels) == (None, {})
        assert not read_case_label(empty).any()
        assert empty.class_voxels == {}

    def test_labels_that_are_cut_away_are_warned_of_once(self, make_case, store, smooth_volume):
        padded = np.pad(smooth_volume + 500, [(0, 0), (0, 0), (0, 40)])
        label = np.zeros(padded.shape, np.uint8)
        label[:2, :2, :6] = label[:2, :2, 40:42] = 1
        cases = [
            make_case("a", volume=padded, label=label),
            make_case("b", volume=padded, label=np.minimum(label, 0)),
        ]
        for _ in range(2):  # the second run reads no label map
            progress = Noting()
            run(cases, store, progress=progress)
            (warning,) = progress.warnings
            assert "cut away: 1, losing up to 25.0%" in warning

    def test_other_processes_prepare_the_same(self, make_case, store, tmp_path):
        cases = [make_case("a"), make_case("b")]
        alone, _ = run(cases, ScanStore(tmp_path / "alone"))
        together, skipped = run(cases, store, data=DataConfig(prepare_workers=1))
        assert not skipped
        for one, other in zip(alone, together, strict=True):
            assert one.class_voxels == other.class_voxels
            for suffix in (".b2nd", ".json", ".places"):
                paths = (case.label_path.with_suffix(suffix) for case in (one, other))
                assert len({path.read_bytes() for path in paths}) == 1


class TestOnlyOnce:
    def test_a_second_run_reads_nothing(self, make_case, store, reads):
        cases = [make_case("a", n_channels=2), make_case("b", n_channels=2)]
        first = run(cases, store)
        assert len(reads) == 6
        assert run(cases, store) == first
        assert len(reads) == 6

    def test_a_changed_label_map_alone_is_read_again(self, make_case, store, reads, labels):
        cases = [make_case("a"), make_case("b")]
        run(cases, store)
        make_case("b", label=labels[::-1])
        os.utime(cases[1].label, ns=(0, 1))
        (_, changed), _ = run(cases, store)
        assert reads[4:] == ["b_label.nii.gz"]
        np.testing.assert_array_equal(read_case_label(changed), labels[::-1])

    @pytest.mark.parametrize("suffix", [".b2nd", ".json", ".places"])
    def test_a_damaged_entry_is_made_again(self, make_case, store, reads, suffix):
        case = make_case("a")
        first = run([case], store)
        path = first[0][0].label_path.with_suffix(suffix)
        path.write_bytes(path.read_bytes()[:-3])
        assert run([case], store) == first
        assert reads[2:] == ["a_label.nii.gz"]

    def test_the_same_file_as_a_scan_and_as_a_second_channel(self, make_case, store, smooth_volume):
        padded = np.pad(smooth_volume + 500, [(0, 0), (0, 0), (0, 40)])
        both = make_case("a", n_channels=2, label=None, volume=padded)
        alone = LabelledCase("alone", "sub-a", both.images[1:], None)
        (as_channel, as_scan), _ = run([both, alone], store)
        assert as_channel.channels[1].store_path != as_scan.channels[0].store_path


class TestSkipping:
    def test_a_faulty_case_is_skipped_and_the_others_go_on(self, make_case, store, labels):
        cases = [make_case(name) for name in "abc"]
        cases[1].path.write_bytes(b"")
        prepared, skipped = run(cases, store)
        assert [case.record.scan_id for case in prepared] == ["a", "c"]
        assert [(scan.path, scan.reason) for scan in skipped] == [(cases[1].path, "The file is empty.")]

    def test_a_faulty_label_map_is_named_as_such(self, make_case, store, labels):
        cases = [make_case("a"), make_case("b", label=labels + np.float32(0.5))]
        assert reason_of(cases, store).startswith("Label map: It holds values that are not whole numbers")

    def test_a_label_map_on_another_grid(self, make_case, store, labels):
        cases = [make_case("a"), make_case("b", label=labels[1:])]
        assert "Label map: Along R, A and S it has 11 x 14 x 16 voxels" in reason_of(cases, store)

    def test_a_label_map_that_vanished(self, make_case, store):
        cases = [make_case("a"), make_case("b")]
        cases[0].label.unlink()
        assert reason_of(cases, store).startswith("Label map: It is no longer there")

    def test_a_channel_on_another_grid(self, make_case, store, write_scan, smooth_volume):
        cases = [make_case("a", n_channels=2), make_case("b", n_channels=3)]
        write_scan("in/b_2.nii.gz", volume=smooth_volume, affine=np.diag([1.0, 1.0, 2.0, 1.0]))
        reason = reason_of(cases, store)
        assert reason.startswith("Channel 3 (b_2.nii.gz): It lies up to 15.0 voxels away from the first")

    def test_a_channel_with_a_broken_header_or_broken_voxels(self, make_case, store, write_scan):
        cases = [make_case(name, n_channels=2) for name in "abc"]
        cases[1].images[1].write_bytes(b"")
        write_scan("in/c_1.nii.gz", volume=np.full((12, 14, 16), 7))
        prepared, skipped = run(cases, store)
        assert len(prepared) == 1
        assert [scan.reason for scan in skipped] == [
            "Channel 2 (b_1.nii.gz): The file is empty.",
            "Channel 2 (c_1.nii.gz): All its voxels have the same value (7).",
        ]

    def test_the_same_image_twice(self, make_case, store, tmp_path):
        cases = [make_case("a"), make_case("b")]
        copy = tmp_path / "in" / "copy.nii"
        copy.write_bytes(gzip.decompress(cases[0].path.read_bytes()))
        cases.append(replace(cases[0], scan_id="copy", images=(copy,)))
        assert reason_of(cases, store) == "It has the same content as a."

    def test_a_store_that_cannot_be_written_ends_the_run(self, make_case, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(MedsslError, match="cannot be written to"):
            run([make_case("a")], ScanStore(tmp_path / "file" / "store"))


class TestPlaces:
    def test_every_voxel_of_a_small_class_is_drawn_and_no_other(self, make_case, store, labels):
        (case,), _ = run([make_case("a")], store)
        rng = np.random.default_rng(0)
        drawn = [tuple(draw_place(case.label_path, case.class_voxels, rng)) for _ in range(1500)]
        by_class = {label: {place for place in drawn if labels[place] == label} for label in (0, 1, 5)}
        assert not by_class[0]
        assert by_class[5] == set(map(tuple, np.argwhere(labels == 5)))
        assert len(by_class[1]) > 200
        assert np.mean([labels[place] == 5 for place in drawn]) == pytest.approx(0.5, abs=0.05)

    def test_of_large_classes_a_part_is_kept(self, make_case, store):
        smooth = np.add.outer(np.add.outer(np.arange(30) * 60, np.arange(30) * 7), np.arange(30) * 3)
        label = np.ones((30, 30, 30), np.uint8)
        label[:2] = 2
        (case,), _ = run([make_case("a", volume=smooth, label=label)], store)
        assert case.class_voxels == {1: 25200, 2: 1800}
        assert case.label_path.with_suffix(".places").stat().st_size == (MAX_PLACES + 1800) * 6
        rng = np.random.default_rng(0)
        places = np.array([draw_place(case.label_path, case.class_voxels, rng) for _ in range(2000)])
        of_one = places[places[:, 0] >= 2]
        assert len(of_one) == pytest.approx(1000, abs=100)
        np.testing.assert_allclose(of_one.mean(axis=0), (15.5, 14.5, 14.5), atol=1)


class TestUse:
    def test_cases_split_and_fingerprint_as_scans_do(self, make_case, store):
        cases, _ = run([make_case(name) for name in "abcde"], store)
        train, val = split_by_subject(cases, val_fraction=0.4, seed=0)
        assert (len(train), len(val)) == (3, 2)
        firsts = [case.channels[0] for case in cases]
        assert data_fingerprint(cases) == data_fingerprint(firsts)

    def test_real_cases(self, shared_data, store):
        dataset = find_labelled(shared_data / "hippocampus" / "split.csv")
        cases, skipped = run(dataset.cases[:12], store)
        assert (len(cases), skipped) == (12, [])
        for case in cases:
            assert set(case.class_voxels) == {1, 2}
            stored = np.asarray(nib.as_closest_canonical(nib.load(case.record.label)).dataobj)
            cut = stored[tuple(slice(*sides) for sides in case.channels[0].foreground)]
            np.testing.assert_array_equal(read_case_label(case), cut)

    def test_real_nodules_are_resampled_with_their_masks(self, shared_data, store):
        dataset = find_labelled(shared_data / "lidc_nodules" / "nodules.csv", label_column="mask")
        cases, skipped = run(dataset.cases[:40:4], store, spacing_mm=(0.7, 0.7, 1.5))
        assert (len(cases), skipped) == (10, [])
        for case in cases:
            mask = nib.load(case.record.label)
            volume_mm3 = np.count_nonzero(mask.dataobj) * np.prod(mask.header.get_zooms())
            prepared_mm3 = case.class_voxels[1] * np.prod(case.spacing_mm)
            assert prepared_mm3 == pytest.approx(volume_mm3, rel=0.15)
