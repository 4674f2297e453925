import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.errors import NoUsableScanError, UsageError
from medssl.scans.find import _unique_ids, find_scans
from medssl.scans.record import Found


def touch(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def ids(found: Found) -> list[str]:
    return [scan.scan_id for scan in found.scans]


def subjects(found: Found) -> list[str]:
    return [scan.subject_id for scan in found.scans]


def reasons(found: Found, root: Path) -> dict[str, str]:
    return {scan.path.relative_to(root).as_posix(): scan.reason for scan in found.skipped}


class TestFolder:
    def test_finds_images_in_any_depth_in_a_stable_order(self, tmp_path: Path) -> None:
        found = find_scans(touch(tmp_path, "b.nii.gz", "a/deep/er/c.NII", "a/d.nii", "notes.txt", "t.csv"))
        assert found.layout == "plain"
        assert ids(found) == ["a/d", "a/deep/er/c", "b"]
        assert [scan.path for scan in found.scans] == [
            tmp_path / "a/d.nii", tmp_path / "a/deep/er/c.NII", tmp_path / "b.nii.gz",
        ]  # fmt: skip
        assert found.skipped == ()

    def test_hidden_files_and_folders_are_passed_over(self, tmp_path: Path) -> None:
        found = find_scans(touch(tmp_path, "a.nii", "._a.nii", ".trash/b.nii"))
        assert ids(found) == ["a"]

    def test_a_scan_in_two_files_counts_once(self, tmp_path: Path) -> None:
        found = find_scans(touch(tmp_path, "a.nii", "b.nrrd", "d.img", "d.hdr", "e.MGZ", "f.mhd", "f.raw"))
        assert ids(found) == ["a", "b", "d", "e", "f"]

    @pytest.mark.parametrize(
        "label",
        [
            "labelsTr/a.nii.gz", "masks/a.nii.gz", "Segmentations/x/a.nii.gz", "a_seg.nii.gz", "a-seg.nii.gz",
            "a_mask.nii", "a_label.nii", "seg.nii.gz", "a_desc-brain_mask.nii.gz", "sub-1_dseg.nii.gz",
            "sub-1_label-GM_probseg.nii.gz", "aparc+aseg.nii.gz",
        ],
    )  # fmt: skip
    def test_label_maps_are_skipped_by_name(self, tmp_path: Path, label: str) -> None:
        found = find_scans(touch(tmp_path, "scan.nii.gz", label))
        assert ids(found) == ["scan"]
        assert "label map" in reasons(found, tmp_path)[label]

    @pytest.mark.parametrize(
        "scan",
        ["brainmask.nii", "masked_T1.nii", "unlabelled/a.nii", "a_segmented_brain.nii", "mask_1/a.nii"],
    )
    def test_names_that_only_resemble_labels_are_scans(self, tmp_path: Path, scan: str) -> None:
        assert len(find_scans(touch(tmp_path, scan)).scans) == 1

    def test_a_loop_of_links_ends_and_finds_each_scan_once(self, tmp_path: Path) -> None:
        touch(tmp_path, "a/one.nii", "elsewhere/two.nii")
        (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "a" / "side").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        assert ids(find_scans(tmp_path)) == ["a/one", "a/side/two"]

    def test_a_folder_that_cannot_be_opened_is_skipped(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touch(tmp_path, "a.nii", "locked/b.nii")
        scandir = os.scandir

        def guarded(path: str) -> object:
            if str(path).endswith("locked"):
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", guarded)
        found = find_scans(tmp_path)
        assert ids(found) == ["a"]
        assert reasons(found, tmp_path) == {"locked": "The folder cannot be opened: Permission denied."}

    def test_a_missing_source_is_a_usage_error(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="does not exist"):
            find_scans(tmp_path / "nothing")

    def test_a_folder_without_images_says_what_was_looked_for(self, tmp_path: Path) -> None:
        with pytest.raises(NoUsableScanError, match=r"DICOM or ends in \.nii\.gz"):
            find_scans(touch(tmp_path, "readme.txt"))

    def test_a_folder_of_damaged_dicom_is_found_but_all_skipped(self, tmp_path: Path) -> None:
        found = find_scans(touch(tmp_path, "a.dcm"))
        assert found.scans == ()
        assert len(found.skipped) == 1


class TestScanIds:
    def test_same_name_with_two_suffixes_stays_apart(self, tmp_path: Path) -> None:
        found = find_scans(touch(tmp_path, "a.nii", "a.nii.gz", "a.nii.nii.gz", "b.nii"))
        assert len(set(ids(found))) == 4
        assert "b" in ids(found)

    @given(st.sets(st.text(st.sampled_from("a./"), min_size=1, max_size=4), max_size=8), st.data())
    def test_ids_are_unique_whatever_the_names(self, stems: set[str], data: st.DataObject) -> None:
        suffixes = st.sampled_from([".nii", ".nii.gz", ".NII", ".nii.nii"])
        files = sorted({stem + data.draw(suffixes) for stem in stems} | {stem + ".nii" for stem in stems})
        assert len(set(_unique_ids(files))) == len(files)


class TestSubjects:
    def test_file_names_are_subjects(self, tmp_path: Path) -> None:
        found = find_scans(touch(tmp_path, "x/anna.nii", "y/ben.nii", "y/cleo.nii.gz"))
        assert subjects(found) == ["anna", "ben", "cleo"]
        assert found.notes == ()

    def test_folders_are_subjects_where_file_names_repeat(self, tmp_path: Path) -> None:
        files = [f"site/{name}/{kind}.nii" for name in ("anna", "ben", "cleo") for kind in ("T1", "T2")]
        found = find_scans(touch(tmp_path, *files))
        assert subjects(found) == ["anna", "anna", "ben", "ben", "cleo", "cleo"]
        assert "folder such as anna counts as one subject" in found.notes[0]

    def test_repeated_session_folders_are_climbed_over(self, tmp_path: Path) -> None:
        files = [f"{name}/{visit}/T1.nii" for name in ("anna", "ben", "cleo") for visit in ("base", "later")]
        assert subjects(find_scans(touch(tmp_path, *files))) == ["anna", "anna", "ben", "ben", "cleo", "cleo"]

    def test_a_copied_folder_does_not_change_who_is_who(self, tmp_path: Path) -> None:
        files = [f"all/s{number}.nii" for number in range(10)]
        found = find_scans(touch(tmp_path, *files, "copy/s3.nii", "copy/s4.nii"))
        assert subjects(found) == [f"s{number}" for number in range(10)] + ["s3", "s4"]

    def test_a_bids_subject_wins_anywhere_in_the_path(self, tmp_path: Path) -> None:
        found = find_scans(touch(tmp_path, "raw/sub-07/ses-2/x/scan_a.nii", "raw/other.nii"))
        assert [(scan.subject_id, scan.session_id) for scan in found.scans] == [
            ("other", None), ("sub-07", "ses-2"),
        ]  # fmt: skip


class TestLayouts:
    def test_bids(self, tmp_path: Path) -> None:
        touch(
            tmp_path,
            "dataset_description.json",
            "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
            "sub-02/anat/sub-02_T1w.nii.gz",
            "derivatives/seg/sub-02/anat/sub-02_dseg.nii.gz",
            "derivatives/prep/sub-02/anat/sub-02_desc-preproc_T1w.nii.gz",
        )
        found = find_scans(tmp_path)
        assert found.layout == "BIDS"
        assert [(scan.subject_id, scan.session_id) for scan in found.scans] == [
            ("sub-02", None), ("sub-01", "ses-a"), ("sub-02", None),
        ]  # fmt: skip
        assert list(reasons(found, tmp_path)) == ["derivatives/seg/sub-02/anat/sub-02_dseg.nii.gz"]

    def test_nnunet_raw(self, tmp_path: Path) -> None:
        root = "Dataset005_Prostate"
        touch(
            tmp_path,
            f"{root}/imagesTr/case_01_0000.nii.gz",
            f"{root}/imagesTr/case_01_0001.nii.gz",
            f"{root}/labelsTr/case_01.nii.gz",
            f"{root}/imagesTs/case_02_0000.nii.gz",
            f"{root}/imagesTs/case_02_0001.nii.gz",
        )
        (tmp_path / root / "dataset.json").write_text('{"channel_names": {"0": "T2", "1": "ADC"}}')
        found = find_scans(tmp_path)
        assert found.layout == "nnU-Net raw"
        assert subjects(found) == ["case_01", "case_01", "case_02", "case_02"]
        assert len(set(ids(found))) == 4
        assert list(reasons(found, tmp_path)) == [f"{root}/labelsTr/case_01.nii.gz"]
        assert "channel" in found.notes[0]

    def test_numbered_cases_are_not_taken_for_channels(self, tmp_path: Path) -> None:
        found = find_scans(touch(tmp_path, "imagesTr/amos_0001.nii.gz", "imagesTr/amos_0004.nii.gz"))
        assert found.layout == "plain"
        assert subjects(found) == ["amos_0001", "amos_0004"]

    def test_decathlon(self, tmp_path: Path) -> None:
        touch(tmp_path, "imagesTr/a.nii.gz", "imagesTr/._a.nii.gz", "truth/a.nii.gz", "imagesTs/b.nii.gz")
        cases = [
            {"image": "./imagesTr/a.nii.gz", "label": "./truth/a.nii.gz"},
            {"image": "./imagesTr/gone.nii.gz", "label": "./truth/gone.nii.gz"},
        ]
        dataset = {"training": cases, "test": ["./imagesTs/b.nii.gz"]}
        (tmp_path / "dataset.json").write_text(json.dumps(dataset))
        found = find_scans(tmp_path)
        assert found.layout == "Decathlon"
        assert subjects(found) == ["a", "b"]
        assert reasons(found, tmp_path) == {"truth/a.nii.gz": "It is a label map named in dataset.json."}
        assert found.notes == (
            "Images named in dataset.json but not there: 1, such as imagesTr/gone.nii.gz.",
        )

    @pytest.mark.parametrize(
        "content", ["", "[1]", '{"training": 3}', '{"training": [{"image": 1}]}', "\x00"]
    )
    def test_any_other_dataset_file_is_passed_over(self, tmp_path: Path, content: str) -> None:
        touch(tmp_path, "a.nii")
        (tmp_path / "dataset.json").write_text(content)
        assert find_scans(tmp_path).layout == "plain"

    def test_the_real_decathlon_task(self, shared_data: Path) -> None:
        found = find_scans(shared_data / "hippocampus")
        assert (found.layout, len(found.scans), len(found.skipped)) == ("Decathlon", 261, 260)


class TestTable:
    def test_paths_are_relative_and_columns_name_the_subject(self, tmp_path: Path) -> None:
        touch(tmp_path, "x/a.nii", "b.nii")
        table = tmp_path / "scans.csv"
        table.write_text("\ufeffimage;subject_id;session_id\nx/a.nii;S1;day 2\nb.nii;;\n", encoding="utf-8")
        found = find_scans(table)
        assert found.layout == "CSV"
        assert [(scan.path, scan.scan_id, scan.subject_id, scan.session_id) for scan in found.scans] == [
            (tmp_path / "x/a.nii", "x/a", "S1", "day 2"),
            (tmp_path / "b.nii", "b", "b", None),
        ]

    def test_images_elsewhere_keep_unique_ids(self, tmp_path: Path) -> None:
        table = tmp_path / "tables" / "scans.csv"
        touch(tmp_path, "a.nii", "tables/a.nii")
        table.write_text(f"image\n../a.nii\na.nii\n{tmp_path / 'c.nii'}\n")
        found = find_scans(table)
        assert [scan.path for scan in found.scans] == [
            tmp_path / "a.nii", tmp_path / "tables/a.nii", tmp_path / "c.nii",
        ]  # fmt: skip
        assert len(set(ids(found))) == 3
        assert all(".." not in scan_id and not scan_id.startswith("/") for scan_id in ids(found))

    @pytest.mark.parametrize(
        ("table", "rows"),
        [
            ("study/scans.csv", "../data/x/a.nii\n../data/b.nii"),
            ("study/deep/scans.csv", "../../data/x/a.nii"),
        ],
    )
    def test_ids_depend_neither_on_the_working_directory_nor_on_where_all_lies(
        self, table: str, rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []
        for home in (tmp_path / "one", tmp_path / "other" / "place"):
            (home / table).parent.mkdir(parents=True)
            (home / table).write_text(f"image\n{rows}\n")
            monkeypatch.chdir(home)
            seen += [ids(find_scans(Path(table))), ids(find_scans(Path("study/..") / table))]
            seen.append(ids(find_scans(home / table)))
        assert all(names == seen[0] for names in seen)
        assert "place" not in str(seen)

    def test_images_elsewhere_keep_the_subject_that_their_folder_names(self, tmp_path: Path) -> None:
        (tmp_path / "tables").mkdir()
        table = tmp_path / "tables" / "scans.csv"
        table.write_text("image\n../sub-07/ses-1/T1.nii\n../sub-07/ses-2/T1.nii\n")
        assert subjects(find_scans(table)) == ["sub-07", "sub-07"]

    def test_repeated_and_empty_rows_are_counted(self, tmp_path: Path) -> None:
        table = tmp_path / "scans.csv"
        table.write_text("image,site\na.nii,1\n,2\na.nii,3\n")
        found = find_scans(table)
        assert ids(found) == ["a"]
        assert found.notes == (
            "Rows of scans.csv passed over, as they name no image or an earlier row's: 2.",
        )

    def test_rows_that_end_early_name_nobody(self, tmp_path: Path) -> None:
        table = tmp_path / "scans.csv"
        table.write_text("image,subject_id,site\na.nii\n")
        assert subjects(find_scans(table)) == ["a"]

    @pytest.mark.parametrize("content", [b"path,label\na.nii,1\n", b"\xff\xfe\x00", b""])
    def test_a_table_without_images_is_a_usage_error(self, tmp_path: Path, content: bytes) -> None:
        table = tmp_path / "scans.csv"
        table.write_bytes(content)
        with pytest.raises(UsageError, match=r"scans\.csv"):
            find_scans(table)

    def test_a_table_without_rows_is_no_usable_scan(self, tmp_path: Path) -> None:
        table = tmp_path / "scans.csv"
        table.write_text("image\n")
        with pytest.raises(NoUsableScanError):
            find_scans(table)

    def test_the_real_table_names_patients(self, shared_data: Path) -> None:
        found = find_scans(shared_data / "lidc_nodules" / "nodules.csv")
        assert (len(found.scans), len(set(subjects(found)))) == (994, 551)


class TestFile:
    def test_one_file(self, tmp_path: Path) -> None:
        found = find_scans(touch(tmp_path, "sub-3_T1w.nii.gz") / "sub-3_T1w.nii.gz")
        assert (found.layout, ids(found), subjects(found)) == ("file", ["sub-3_T1w"], ["sub-3"])

    def test_any_other_file_is_no_scan(self, tmp_path: Path) -> None:
        with pytest.raises(NoUsableScanError, match=r"a\.txt"):
            find_scans(touch(tmp_path, "a.txt") / "a.txt")
