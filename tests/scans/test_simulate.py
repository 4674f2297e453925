import json
import sys

import nibabel as nib
import numpy as np
import pytest

from medssl.errors import UsageError
from medssl.progress import SilentProgress
from medssl.scans.check_headers import check_scans
from medssl.scans.check_voxels import check_voxels
from medssl.scans.find import find_scans
from medssl.scans.read import read_volume
from medssl.scans.simulate import ORIENTATIONS, simulate_cohort


def simulate(folder, **settings):
    simulate_cohort(folder, **{"spacing_mm": 5.0, **settings}, progress=SilentProgress())


def image_path(folder, subject):
    return folder / subject / "anat" / f"{subject}_T1w.nii.gz"


def labels_path(folder, subject):
    return folder / "derivatives" / "labels" / subject / "anat" / f"{subject}_dseg.nii.gz"


def in_ras(path):
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    simulate(folder, count=4)
    return folder


def test_the_cohort_is_found_as_bids_without_its_labels(cohort):
    found = find_scans(cohort)
    scans, _ = check_scans(found, progress=SilentProgress())
    assert found.layout == "BIDS"
    assert [scan.record.subject_id for scan in scans] == ["sub-001", "sub-002", "sub-003", "sub-004"]
    for scan in scans:
        check_voxels(read_volume(scan.record.path)[0])


def test_it_says_that_it_is_simulated_from_a_real_template(cohort):
    about = json.loads((cohort / "dataset_description.json").read_text())
    assert "simulated from a real template" in about["Name"]


@pytest.mark.parametrize("subject", ["sub-001", "sub-002", "sub-003", "sub-004"])
def test_labels_fit_the_image(cohort, subject):
    image, labels = in_ras(image_path(cohort, subject)), in_ras(labels_path(cohort, subject))
    assert image.shape == labels.shape
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    means = [image[labels == tissue].mean() for tissue in range(4)]
    assert means == sorted(means)
    assert 0.1 < np.mean(labels == 2) + np.mean(labels == 3) < 0.6


def test_the_brain_stands_upright_in_ras(cohort):
    """White matter lies above the brain's middle, and its two halves are about alike."""
    labels = in_ras(labels_path(cohort, "sub-001"))
    brain_z, white_z = (np.argwhere(mask)[:, 2].mean() for mask in (labels > 0, labels == 3))
    assert white_z > brain_z
    left, right = np.array_split(labels == 3, 2, axis=0)
    assert 0.5 < left.sum() / right.sum() < 2


def test_heads_differ_in_contrast(cohort):
    ratios = []
    for subject in ("sub-001", "sub-002", "sub-003", "sub-004"):
        image, labels = in_ras(image_path(cohort, subject)), in_ras(labels_path(cohort, subject))
        ratios.append(image[labels == 2].mean() / image[labels == 3].mean())
    assert max(ratios) - min(ratios) > 0.05


def test_heads_differ_in_shape_scale_and_orientation(cohort):
    images = [nib.load(image_path(cohort, f"sub-00{number}")) for number in (1, 2, 3, 4)]
    assert len({nib.aff2axcodes(image.affine) for image in images}) > 1
    volumes = [np.asarray(nib.as_closest_canonical(image).dataobj, dtype=float) for image in images]
    assert max(volume.max() for volume in volumes) > 1.5 * min(volume.max() for volume in volumes)
    for other in volumes[1:]:
        assert np.corrcoef(volumes[0].ravel(), other.ravel())[0, 1] < 0.95


def test_a_subject_depends_on_seed_and_number_alone(cohort, tmp_path):
    simulate(tmp_path / "same", count=2)
    simulate(tmp_path / "other", count=1, seed=1)
    for subject in ("sub-001", "sub-002"):
        expected = image_path(cohort, subject).read_bytes()
        assert image_path(tmp_path / "same", subject).read_bytes() == expected
    assert not np.array_equal(
        in_ras(image_path(tmp_path / "other", "sub-001")), in_ras(image_path(cohort, "sub-001"))
    )


def test_size_and_spacing_are_as_asked(tmp_path):
    simulate(tmp_path, count=1, size=(24, 20, 8), spacing_mm=(6.0, 7.0, 12.0))
    image = nib.as_closest_canonical(nib.load(image_path(tmp_path, "sub-001")))
    assert image.shape == (24, 20, 8)
    assert image.header.get_zooms() == pytest.approx((6.0, 7.0, 12.0))
    assert np.mean(in_ras(labels_path(tmp_path, "sub-001")) > 0) > 0.2


def test_all_48_orientations_are_used():
    assert len(set(ORIENTATIONS)) == 48
    for orientation in ORIENTATIONS:
        assert sorted(nib.orientations.axcodes2ornt(orientation)[:, 0]) == [0, 1, 2]


def test_without_nilearn_the_message_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(UsageError, match=r'pip install "medssl\[demo\]"'):
        simulate(tmp_path, count=1)
