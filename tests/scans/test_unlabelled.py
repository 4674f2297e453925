import pytest

from medssl.errors import UsageError
from medssl.scans.unlabelled import find_unlabelled

TWO = ("T1", "T2")


@pytest.fixture
def put(tmp_path):
    def touch(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return touch


def cases(dataset):
    return {case.scan_id: [image.name for image in case.images] for case in dataset.cases}


def test_every_scan_of_a_folder_is_a_case_of_one_channel(put):
    found = find_unlabelled(put("a.nii.gz", "b/c.nii", "labels/a.nii.gz"), channel_names=["image"])
    assert cases(found) == {"a": ["a.nii.gz"], "b/c": ["c.nii"]}
    assert [scan.path.parent.name for scan in found.skipped] == ["labels"]
    assert all(case.label is None for case in found.cases)


@pytest.mark.parametrize("folder", ["", "imagesTs/", "imagesTr/", "deep/er/"])
def test_channels_are_grouped(put, folder):
    root = put(*(f"{folder}{name}_000{n}.nii.gz" for name in ("b", "a") for n in (1, 0)))
    found = find_unlabelled(root, channel_names=TWO)
    assert cases(found) == {
        f"{folder}{name}": [f"{name}_0000.nii.gz", f"{name}_0001.nii.gz"] for name in "ab"
    }
    assert [case.subject_id for case in found.cases] == ["a", "b"]


def test_a_case_without_all_its_channels_is_skipped(put):
    found = find_unlabelled(put("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz"), channel_names=TWO)
    assert list(cases(found)) == ["a"]
    assert [scan.reason for scan in found.skipped] == ["It has 1 channels where the model takes 2."]


def test_channels_in_a_table(put):
    root = put("a.nii.gz", "b.nii.gz", "c.nii.gz")
    table = root / "scans.csv"
    table.write_text("image,image_2,subject_id,split,age\na.nii.gz,b.nii.gz,x,test,40\n")
    (case,) = find_unlabelled(table, channel_names=TWO).cases
    assert [image.name for image in case.images] == ["a.nii.gz", "b.nii.gz"]
    assert (case.subject_id, dict(case.values)) == ("x", {"age": "40"})
    with pytest.raises(UsageError, match=r"names 2 channels \(image, image_2\), and the model takes 1"):
        find_unlabelled(table, channel_names=["image"])


@pytest.mark.parametrize("source", [".", "a.nii.gz"])
def test_channels_that_no_name_tells(put, source):
    with pytest.raises(UsageError, match=r"2 channels \(T1, T2\).*CASE_0001"):
        find_unlabelled(put("a.nii.gz", "b.nii.gz") / source, channel_names=TWO)
