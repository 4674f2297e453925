import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from medssl.errors import UsageError
from medssl.finetune.classification import Classification
from medssl.finetune.model import FinetuneModel
from medssl.finetune.saliency import Saliency, draw_saliency, explain
from medssl.finetune.targets import parse_targets
from medssl.pretext.drawing import figure_to_rgb
from medssl.training.settings import StepSettings

CROP = (16, 16, 8)
CPU = StepSettings("cpu")
PLACE = (20, 6, 3)


class BrightVoxels(FinetuneModel):
    """The more bright voxels, the surer of the second class; its only parameters are unused."""

    def forward(self, batch):
        count = (batch["image"] > 0.8).float().sum(dim=(1, 2, 3, 4))
        zeros = torch.zeros_like(count)
        return {"classification": torch.stack([zeros, count / 10, zeros, zeros + 1, zeros], dim=1)}


@pytest.fixture
def goal(make_row):
    rows = [make_row(str(grade), label="ab"[grade % 2], grade=str(grade)) for grade in range(3)]
    return Classification.fit(parse_targets(["label", "grade"], rows), rows)


@pytest.fixture
def case(put_case):
    """A thin scan, larger than a crop in plane, with a bright spot."""
    volume = np.random.default_rng(0).random((1, 26, 20, 6)) * 0.5
    volume[0, PLACE[0] - 1 : PLACE[0] + 2, PLACE[1] - 1 : PLACE[1] + 2, 2:5] = 1
    return put_case("c", volume)


@pytest.fixture
def model(goal, small_encoder):
    return BrightVoxels(small_encoder, goal.make_head(small_encoder, is_linear=False), name=goal.name).eval()


def explained(model, goal, case, **wishes):
    return explain(model, goal, case, crop_size=CROP, settings=CPU, **wishes)


def test_evidence_lies_where_the_network_looks(model, goal, case):
    saliency = explained(model, goal, case)
    assert saliency.evidence.shape == case.shape
    assert (saliency.target, saliency.class_name) == ("label", "b")
    peak = np.unravel_index(saliency.evidence.argmax(), case.shape)
    assert np.abs(np.subtract(peak, PLACE)).max() <= 4
    far = saliency.evidence[:12]
    np.testing.assert_allclose(far, 0, atol=1e-4)
    # Log-odds fall by a tenth for each bright voxel that is hidden, and there are 27.
    assert 1 < saliency.evidence.max() <= 2.7


def test_what_speaks_for_one_class_speaks_against_the_other(model, goal, case):
    one, other = (explained(model, goal, case, class_name=name) for name in "ab")
    np.testing.assert_allclose(one.evidence, -other.evidence, atol=1e-5)
    assert one.probability + other.probability == pytest.approx(1)


def test_log_odds_show_what_a_sure_network_looks_at(model, goal, put_case):
    volume = np.full((1, 16, 16, 8), 0.1)
    volume[0, 4:12, 4:12] = 1
    saliency = explained(model, goal, put_case("sure", volume))
    assert saliency.probability > 0.999999
    assert saliency.evidence.max() > 1


@pytest.mark.parametrize(("bright", "other", "copies"), [(0, 2, 3), (2, 0, 4)])
def test_with_the_rim_of_a_thin_scan_its_copies_in_the_padding_are_hidden(
    model, goal, put_case, bright, other, copies
):
    volume = np.zeros((1, 16, 16, 3))
    volume[0, 6:10, 6:10, bright] = 1
    evidence = explained(model, goal, put_case("rim", volume)).evidence
    assert evidence[7, 7, bright] == pytest.approx(copies * 16 / 10)
    assert evidence[7, 7, other] == 0


def test_each_channel_is_hidden_by_its_own_mean(model, goal, put_case):
    flat = np.stack([np.full((16, 16, 8), 0.9), np.zeros((16, 16, 8))])
    assert not explained(model, goal, put_case("flat", flat)).evidence.any()


def test_a_target_that_does_not_look_at_the_scan_gives_nothing(model, goal, case):
    saliency = explained(model, goal, case, target="grade")
    assert saliency.class_name == "1"
    assert not saliency.evidence.any()


def test_an_actual_network_can_be_explained_on_scans_thinner_than_a_crop(goal, small_encoder, put_case):
    head = goal.make_head(small_encoder, is_linear=False)
    network = FinetuneModel(small_encoder, head, name=goal.name).eval()
    volume = np.random.default_rng(0).random((1, 13, 20, 3))
    saliency = explained(network, goal, put_case("thin", volume))
    assert saliency.evidence.shape == (13, 20, 3)
    assert np.isfinite(saliency.evidence).all()
    assert saliency.evidence.std() > 0


def test_unknown_targets_and_classes_are_refused(model, goal, case):
    with pytest.raises(UsageError, match="choose from label, grade"):
        explained(model, goal, case, target="size")
    with pytest.raises(UsageError, match="choose from a, b"):
        explained(model, goal, case, class_name="c")


@pytest.fixture
def figure() -> Figure:
    evidence = np.zeros((26, 20, 6), dtype=np.float32)
    evidence[18:23, 4:9, 2:5] = 2
    evidence[0, 0, 0] = -1
    saliency = Saliency(evidence, "label", "malignant", 0.912)
    x, y, z = np.indices(evidence.shape)
    return draw_saliency(saliency, x + 100 * y + 10000 * z, spacing_mm=(1.0, 1.0, 2.5), name="nodule 7")


def test_the_picture_says_what_it_shows(figure):
    assert figure.get_suptitle() == "nodule 7: label is malignant with probability 0.91"
    *panels, bar = figure.axes
    assert bar.get_ylabel() == "Fall of the log-odds when hidden"
    for panel in panels:
        assert len({text.get_text() for text in panel.texts} & set("RALPSI")) == 4


def test_slices_go_through_the_middle_of_the_highest_evidence_in_true_aspect(figure):
    slices = [panel.images[0].get_array() for panel in figure.axes[:3]]
    assert [np.unique(slices[0] % 100), np.unique(slices[1] // 100 % 100)] == [20, 6]
    assert np.unique(slices[2] // 10000) == 3
    sagittal, coronal, axial = (panel.images[0] for panel in figure.axes[3:6])
    for image, extent in ((sagittal, (3, 5)), (coronal, (3, 5)), (axial, (5, 5))):
        shown = np.argwhere(image.get_array() == 2)
        assert tuple(np.ptp(shown, axis=0) + 1) == extent
        assert image.get_clim() == (-2, 2)
    assert axial.axes.get_aspect() == 1
    assert coronal.axes.get_aspect() == 2.5
    assert figure_to_rgb(figure).std() > 0


def test_a_map_of_nothing_is_drawn_through_the_middle():
    saliency = Saliency(np.zeros((7, 9, 5), dtype=np.float32), "label", "a", 0.5)
    figure = draw_saliency(saliency, np.zeros((7, 9, 5)), spacing_mm=(1, 1, 1), name="c")
    assert figure_to_rgb(figure).std() > 0
