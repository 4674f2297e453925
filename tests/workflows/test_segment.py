from dataclasses import replace
from itertools import combinations
from math import prod

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from medssl.config.schema import DataConfig
from medssl.finetune.segmentation import Segmentation
from medssl.progress import SilentProgress
from medssl.scans.case_crop import read_case_volume
from medssl.scans.cases import prepare_cases
from medssl.scans.geometry import as_ras
from medssl.scans.store import ScanStore
from medssl.scans.unlabelled import find_unlabelled
from medssl.workflows.segment import segment


@pytest.fixture
def prepare(tmp_path):
    def run(source, *, spacing_mm=(1.0, 1.0, 1.0)):
        found = find_unlabelled(source, channel_names=["image"])
        cases, skipped = prepare_cases(
            found.cases,
            store=ScanStore(tmp_path / "store"),
            spacing_mm=spacing_mm,
            data=DataConfig(modality="mr", prepare_workers=0),
            progress=SilentProgress(),
            keep_copies=True,
        )
        assert not skipped
        return cases

    return run


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def test_without_resampling_the_label_map_is_the_thresholded_scan(threshold, prepare, write_scan):
    turned = np.array([[0, -1, 0, 3], [0, 0, 1, -2], [1, 0, 0, 5], [0, 0, 0, 1.0]])
    path = write_scan("scans/a.nii.gz", affine=turned)
    (case,) = prepare(path)
    labels = segment(threshold(), case)
    assert labels.shape == nib.load(path).shape
    expected = np.where(read_case_volume(case)[0] > 0.5, 3, 0)
    inside = tuple(slice(*sides) for sides in case.channels[0].foreground)
    np.testing.assert_array_equal(as_ras(labels, case.source)[inside], expected)
    assert np.count_nonzero(labels) == np.count_nonzero(expected)
    stored = np.asarray(nib.load(path).dataobj)
    assert stored[labels == 3].min() >= stored[labels == 0].max()


def test_slabs_change_nothing(threshold, prepare, write_scan):
    (case,) = prepare(write_scan("scans/a.nii.gz", shape=(70, 20, 18)), spacing_mm=(1.2, 0.9, 1.5))
    whole, whole_probabilities = np.zeros((2, 2, *case.source.shape), np.float32)
    in_one_piece = replace(threshold(), crop_size=(80, 80, 80))
    expected = segment(in_one_piece, case, probabilities=whole_probabilities)
    np.testing.assert_array_equal(segment(threshold(), case, probabilities=whole), expected)
    np.testing.assert_allclose(whole, whole_probabilities, atol=1e-5)
    assert 0 < np.count_nonzero(expected) < prod(case.source.shape)


def test_probabilities_of_networks_are_averaged(threshold, prepare, write_scan):
    (case,) = prepare(write_scan("scans/a.nii.gz"))
    both, one, other = np.zeros((3, 2, *case.source.shape), np.float32)
    for predictor, place in [
        (threshold(0.3, 0.6), both),
        (threshold(0.3), one),
        (threshold(0.6), other),
    ]:
        segment(predictor, case, probabilities=place)
    np.testing.assert_allclose(both, (one + other) / 2, atol=1e-5)
    assert np.abs(one - other).max() > 0.5


class Ramp(nn.Module):
    """Says class 1 in the half of a window where an axis ends."""

    def __init__(self, axis):
        super().__init__()
        self.axis = axis

    def forward(self, batch):
        image = batch["image"]
        ramp = torch.linspace(-5, 5, image.shape[2 + self.axis])
        ramp = ramp.reshape([-1 if axis == 2 + self.axis else 1 for axis in range(5)]).expand(image.shape)
        return {"segmentation": torch.cat([-ramp, ramp], dim=1)}


@pytest.mark.parametrize(
    ("axis", "name", "is_flipped"), [(0, "spleen", True), (1, "spleen", False), (0, "left kidney", False)]
)
def test_mirror_images_are_those_of_training(threshold, prepare, write_scan, axis, name, is_flipped):
    """Left and right are exchanged unless a class has a side; no other mirror image was ever seen."""
    (case,) = prepare(write_scan("scans/a.nii.gz"))
    goal = Segmentation({0: "background", 1: name})
    predictor = replace(threshold(), models=[Ramp(axis)], goal=goal, crop_size=(24, 20, 18), flips=True)
    probabilities = np.zeros((2, *case.source.shape), np.float32)
    segment(predictor, case, probabilities=probabilities)
    is_even = np.allclose(probabilities, 0.5, atol=1e-3)
    assert is_even == is_flipped


def test_one_brain_in_eight_axis_orders(threshold, prepare, shared_data):
    cases = prepare(shared_data / "messy" / "orientations", spacing_mm=(3.0, 3.0, 3.0))
    assert len(cases) == 8
    maps = []
    for case in cases:
        labels = segment(threshold(), case)
        image = nib.load(case.record.path)
        assert labels.shape == image.shape
        in_ras = nib.as_closest_canonical(nib.Nifti1Image(labels, image.affine))
        maps.append(np.asarray(in_ras.dataobj) == 3)
    assert maps[0].any()
    assert min(dice(one, other) for one, other in combinations(maps, 2)) > 0.98
