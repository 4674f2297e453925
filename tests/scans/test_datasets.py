import json
from collections import Counter

import pytest

from medssl.errors import UsageError
from medssl.scans.datasets import find_labelled


@pytest.fixture
def lay_out(tmp_path):
    """Return a function that makes empty files and a ``dataset.json`` in the temporary folder."""

    def make(*files, about=None):
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        if about is not None:
            (tmp_path / "dataset.json").write_text(json.dumps(about))
        return tmp_path

    return make


@pytest.fixture
def table(tmp_path, lay_out):
    """Return a function that writes a table beside images and label maps of the cases a, b and c."""
    lay_out(*(f"{folder}/{name}.nii.gz" for folder in ("img", "seg") for name in "abc"))

    def write(text):
        (tmp_path / "cases.csv").write_text(text)
        return tmp_path / "cases.csv"

    return write


def pair(name):
    return {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}


def reasons(dataset):
    return {skipped.path.name: skipped.reason for skipped in dataset.skipped}


class TestDecathlon:
    @pytest.fixture
    def root(self, lay_out):
        about = {
            "labels": {"0": "background", "1": "liver"},
            "modality": {"0": "CT"},
            "training": [pair("b"), pair("sub-7_a"), pair("no_label"), pair("no_image")],
            "test": ["./imagesTs/t.nii.gz"],
        }
        files = ["imagesTr/b", "labelsTr/b", "imagesTr/sub-7_a", "labelsTr/sub-7_a", "imagesTr/no_label"]
        return lay_out(*(f"{file}.nii.gz" for file in files), "labelsTr/no_image.nii.gz", about=about)

    def test_cases_are_those_of_the_file_in_its_order(self, root):
        dataset = find_labelled(root)
        assert dataset.layout == "Decathlon"
        assert [(case.scan_id, case.subject_id) for case in dataset.cases] == [
            ("imagesTr/b", "b"),
            ("imagesTr/sub-7_a", "sub-7"),
        ]
        assert dataset.cases[0].images == (root / "imagesTr/b.nii.gz",)
        assert dataset.cases[0].path == root / "imagesTr/b.nii.gz"
        assert dataset.cases[0].label == root / "labelsTr/b.nii.gz"
        assert dataset.class_names == {0: "background", 1: "liver"}
        assert dataset.channel_names == ("CT",)

    def test_what_is_missing_is_skipped_and_told(self, root):
        dataset = find_labelled(root)
        assert reasons(dataset) == {
            "no_label.nii.gz": "Its label map no_label.nii.gz is not there.",
            "no_image.nii.gz": "The image file no_image.nii.gz is not there.",
        }
        assert dataset.notes == ("Test images without label maps, passed over: 1.",)

    def test_the_file_and_its_folder_are_the_same_source(self, root):
        assert find_labelled(root / "dataset.json") == find_labelled(root)

    def test_channels_in_one_file_are_skipped_with_the_way_out(self, lay_out):
        about = {"modality": {"0": "FLAIR", "1": "T1w"}, "training": [pair("a")]}
        root = lay_out("imagesTr/a.nii.gz", "labelsTr/a.nii.gz", about=about)
        with pytest.raises(UsageError, match=r"2 channels share one 4-D file.*CASE_0001"):
            find_labelled(root)

    def test_a_file_without_cases_is_a_usage_error(self, lay_out):
        with pytest.raises(UsageError, match="'training'"):
            find_labelled(lay_out(about={"labels": {}}))

    def test_the_image_as_its_own_label_map_is_a_usage_error(self, lay_out):
        about = {"training": [{"image": "./a.nii.gz", "label": "a.nii.gz"}]}
        with pytest.raises(UsageError, match=r"a\.nii\.gz is named as the image and as the label map"):
            find_labelled(lay_out("a.nii.gz", about=about))

    def test_no_complete_case_is_a_usage_error_with_the_first_reason(self, lay_out):
        with pytest.raises(UsageError, match=r"no labelled case .*a\.nii\.gz is not there"):
            find_labelled(lay_out("imagesTr/a.nii.gz", about={"training": [pair("a")]}))

    def test_the_real_task(self, shared_data):
        dataset = find_labelled(shared_data / "hippocampus")
        assert (len(dataset.cases), dataset.skipped, dataset.notes) == (260, (), ())
        assert dataset.class_names == {0: "background", 1: "Anterior", 2: "Posterior"}
        assert len({case.subject_id for case in dataset.cases}) == 260


class TestNnunet:
    FILES = (
        "imagesTr/x_01_0000.nii.gz",
        "imagesTr/x_01_0001.nii.gz",
        "imagesTr/x_02_0000.nii.gz",
        "imagesTr/x_02_0001.nii.gz",
        "labelsTr/x_01.nii.gz",
        "labelsTr/x_02.nii.gz",
        "imagesTs/x_03_0000.nii.gz",
        "imagesTs/x_03_0001.nii.gz",
    )
    ABOUT = {"channel_names": {"0": "T2", "1": "ADC"}, "labels": {"background": 0, "gland": 1}}  # noqa: RUF012

    def test_channels_and_label_map_make_one_case(self, lay_out):
        root = lay_out(*self.FILES, about=self.ABOUT)
        dataset = find_labelled(root)
        assert dataset.layout == "nnU-Net raw"
        assert dataset.channel_names == ("T2", "ADC")
        assert [(case.scan_id, case.subject_id, case.split) for case in dataset.cases] == [
            ("imagesTr/x_01", "x_01", None),
            ("imagesTr/x_02", "x_02", None),
        ]
        assert dataset.cases[0].images == tuple(root / file for file in self.FILES[:2])
        assert dataset.cases[0].label == root / "labelsTr/x_01.nii.gz"
        assert dataset.notes == ("Test images without label maps, passed over: 1.",)

    def test_labelled_test_cases_are_marked_as_such(self, lay_out):
        dataset = find_labelled(lay_out(*self.FILES, "labelsTs/x_03.nii.gz", about=self.ABOUT))
        assert [(case.scan_id, case.split) for case in dataset.cases][2:] == [("imagesTs/x_03", "test")]
        assert dataset.notes == ()

    def test_the_older_form_of_the_dataset_file(self, lay_out):
        about = {"modality": {"0": "T2", "1": "ADC"}, "training": [pair("x_01"), pair("x_02")]}
        dataset = find_labelled(lay_out(*self.FILES, about=about | {"labels": {"0": "bg", "1": "gland"}}))
        assert (dataset.layout, len(dataset.cases)) == ("nnU-Net raw", 2)
        assert dataset.class_names == {0: "bg", 1: "gland"}

    def test_without_a_dataset_file_channels_are_numbered(self, lay_out):
        dataset = find_labelled(lay_out(*self.FILES))
        assert (dataset.channel_names, dataset.class_names) == (("0000", "0001"), {})

    def test_a_missing_channel_is_a_reason(self, lay_out):
        files = [file for file in self.FILES if file != "imagesTr/x_02_0001.nii.gz"]
        dataset = find_labelled(lay_out(*files, about=self.ABOUT))
        assert [case.subject_id for case in dataset.cases] == ["x_01"]
        assert reasons(dataset) == {"x_02_0000.nii.gz": "It has 1 channels where the data set has 2."}

    def test_hidden_files_are_no_cases(self, lay_out):
        dataset = find_labelled(lay_out(*self.FILES, "imagesTr/._x_01_0000.nii.gz", about=self.ABOUT))
        assert (len(dataset.cases), dataset.skipped) == (2, ())


class TestTable:
    def test_every_column_has_its_place(self, table, tmp_path):
        dataset = find_labelled(
            table(
                "image,label,image_2,subject_id,split,age\n"
                "img/a.nii.gz,seg/a.nii.gz,img/b.nii.gz,anna,test,61\n"
            )
        )
        (case,) = dataset.cases
        assert case.images == (tmp_path / "img/a.nii.gz", tmp_path / "img/b.nii.gz")
        assert case.label == tmp_path / "seg/a.nii.gz"
        assert (case.scan_id, case.subject_id, case.split) == ("img/a", "anna", "test")
        assert case.values == {"age": "61"}
        assert (dataset.layout, dataset.channel_names) == ("CSV", ("image", "image_2"))

    def test_without_a_label_column_all_else_is_values(self, table):
        source = table("image,label,mask\nimg/a.nii.gz,benign,seg/a.nii.gz\n")
        (case,) = find_labelled(source, label_column=None).cases
        assert case.label is None
        assert case.values == {"label": "benign", "mask": "seg/a.nii.gz"}

    def test_rows_may_end_early_and_lack_a_label_map(self, table):
        cases = find_labelled(table("image,label,age\nimg/a.nii.gz,seg/a.nii.gz,3\nimg/b.nii.gz\n")).cases
        assert [case.label and case.label.name for case in cases] == ["a.nii.gz", None]
        assert cases[1].values == {"age": ""}

    def test_missing_channels_and_files_are_reasons(self, table):
        dataset = find_labelled(
            table(
                "image,image_2,label\nimg/a.nii.gz,,seg/a.nii.gz\nimg/b.nii.gz,img/x.nii.gz,seg/b.nii.gz\n"
                "img/c.nii.gz,img/a.nii.gz,seg/c.nii.gz\n"
            )
        )
        assert [case.scan_id for case in dataset.cases] == ["img/c"]
        assert reasons(dataset) == {
            "a.nii.gz": "Its row names no image_2.",
            "b.nii.gz": "The image file x.nii.gz is not there.",
        }

    def test_words_in_the_label_column_point_to_classification(self, table):
        source = table("image,kind\nimg/a.nii.gz,benign\n")
        with pytest.raises(UsageError, match=r"'benign'.*finetune classification --target kind"):
            find_labelled(source, label_column="kind")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("image,mask\nimg/a.nii.gz,seg/a.nii.gz\n", "no column 'label'.* image, mask"),
            ("scan,label\nimg/a.nii.gz,seg/a.nii.gz\n", "no column 'image'"),
            ("image,label\nimg/a.nii.gz,img/a.nii.gz\n", "as the image and as the label map"),
            ("image,label\nimg/a.nii.gz,\n", "no labelled case"),
            ("image,label\n", "no labelled case"),
        ],
    )
    def test_mistakes_are_usage_errors(self, table, text, message):
        with pytest.raises(UsageError, match=message):
            find_labelled(table(text))

    def test_the_real_split_survives(self, shared_data):
        cases = find_labelled(shared_data / "hippocampus" / "split.csv").cases
        assert Counter(case.split for case in cases) == {"pool": 200, "test": 60}

    def test_the_real_nodules(self, shared_data):
        source = shared_data / "lidc_nodules" / "nodules.csv"
        cases = find_labelled(source, label_column="mask").cases
        assert len(cases) == 994
        assert Counter(case.values["label"] for case in cases) == {"benign": 650, "malignant": 344}
        with pytest.raises(UsageError, match="classification"):
            find_labelled(source)


def test_a_source_of_no_known_kind_says_what_would_do(lay_out, tmp_path):
    with pytest.raises(UsageError, match=r"dataset\.json nor the imagesTr"):
        find_labelled(lay_out("scans/a.nii.gz"))
    with pytest.raises(UsageError, match="does not exist"):
        find_labelled(tmp_path / "nothing")
