import json

import pytest

from medssl.errors import UsageError
from medssl.scans.dataset_file import read_dataset_file


@pytest.fixture
def read(tmp_path):
    """Return a function that reads what it wrote."""

    def write_and_read(content):
        path = tmp_path / "dataset.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_dataset_file(path)

    return write_and_read


def test_the_decathlon_form(read):
    about = read(
        {
            "modality": {"0": "MRI"},
            "labels": {"2": "Posterior", "0": "background", "1": "Anterior"},
            "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
            "test": ["./imagesTs/b.nii.gz", "./imagesTs/c.nii.gz"],
        }
    )
    assert list(about.class_names.items()) == [(0, "background"), (1, "Anterior"), (2, "Posterior")]
    assert about.channel_names == ("MRI",)
    assert about.training == (("./imagesTr/a.nii.gz", "./labelsTr/a.nii.gz"),)
    assert about.unlabelled == 2


def test_the_form_of_nnunet(read):
    channels = {"10": "late", "0": "T1", "1": "FLAIR"}
    about = read({"channel_names": channels, "labels": {"background": 0, "edema": 2, "core": 1}})
    assert about.class_names == {0: "background", 1: "core", 2: "edema"}
    assert about.channel_names == ("T1", "FLAIR", "late")
    assert about.training is None


def test_values_of_regions_are_classes_named_by_number(read):
    about = read({"labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}})
    assert about.class_names == {0: "background", 1: "1", 2: "2", 3: "enhancing"}


def test_names_may_be_missing(read):
    about = read({"training": []})
    assert (about.class_names, about.channel_names, about.unlabelled) == ({}, (), 0)


def test_an_ignored_label_is_refused(read):
    with pytest.raises(UsageError, match="'ignore'"):
        read({"labels": {"background": 0, "liver": 1, "ignore": 2}})


@pytest.mark.parametrize("content", ["", "{", "\x00", "[1]"])
def test_what_is_no_json_object_is_a_usage_error(read, content):
    with pytest.raises(UsageError, match=r"dataset\.json .*(JSON|object)"):
        read(content)


@pytest.mark.parametrize(
    "content",
    [
        {"training": [{"image": "a.nii.gz"}]},
        {"training": [3]},
        {"training": 3},
        {"channel_names": {"T1": 0}},
        {"labels": ["liver"]},
        {"labels": {"liver": "one"}},
    ],
)
def test_other_entries_than_those_of_a_data_set_are_a_usage_error(read, content):
    with pytest.raises(UsageError, match="Decathlon or nnU-Net"):
        read(content)
