import numpy as np
import pytest

from medssl.pretext.drawing import figure_to_rgb
from medssl.report.overlay import CLASS_COLOURS, comparison_figure, draw_overlay, overlay_figure

NAMES = {1: "anterior", 3: "posterior"}


@pytest.fixture
def labels():
    labels = np.zeros((10, 12, 8), np.uint8)
    labels[2:4, 3:9, 5] = 1
    labels[3, 4, 1:7] = 3
    return labels


def draw(labels, **options):
    settings = {"spacing_mm": (1.0, 1.0, 3.0), "class_names": NAMES, "title": "scan"} | options
    return overlay_figure(np.zeros(labels.shape, np.float32), labels, **settings)


def test_each_slice_goes_through_the_largest_area(labels):
    sagittal, coronal, axial = (panel.images[1].get_array() for panel in draw(labels).axes)
    for drawn, expected in [(sagittal, labels[3]), (coronal, labels[:, 4]), (axial, labels[:, :, 5])]:
        np.testing.assert_array_equal(drawn[..., 3] > 0, expected.T > 0)


def test_classes_have_their_own_colours(labels):
    (panel, _, _) = draw(labels).axes
    coloured = panel.images[1].get_array()
    first, second = (tuple(int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)) for code in CLASS_COLOURS[:2])
    np.testing.assert_allclose(coloured[5, 8, :3], first)
    np.testing.assert_allclose(coloured[1, 4, :3], second)


def test_scan_and_classes_lie_on_one_another(labels):
    """Both images of a panel have the same extent, aspect and direction: right on the left, superior up."""
    for panel in draw(labels).axes:
        scan, classes = panel.images
        assert scan.get_extent() == classes.get_extent()
        assert panel.get_xlim()[0] > panel.get_xlim()[1]
        assert panel.get_ylim()[0] < panel.get_ylim()[1]
    assert [panel.get_aspect() for panel in draw(labels).axes] == [3, 3, 1]


def test_the_patients_right_is_on_the_left_of_the_picture():
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[8:, 4:6, 4:6] = 1  # +X is right
    picture = figure_to_rgb(draw(labels, spacing_mm=(1.0, 1.0, 1.0))).astype(int)
    coronal = picture[:, picture.shape[1] // 3 : 2 * picture.shape[1] // 3]
    is_orange = (coronal[..., 0] - coronal[..., 2]) > 60
    columns = np.flatnonzero(is_orange[: int(0.8 * len(coronal))].any(axis=0))
    assert columns.max() < coronal.shape[1] / 2


def test_the_legend_names_what_is_there_and_the_convention(labels):
    (legend,) = draw(labels * (labels == 3)).legends
    assert [text.get_text() for text in legend.get_texts()] == ["posterior"]
    assert "right is on the left" in legend.get_title().get_text()


def test_a_scan_without_any_class_is_drawn_through_its_middle():
    figure = draw(np.zeros((4, 6, 8), np.uint8))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["no class was found"]


def test_many_classes_leave_room_for_the_picture():
    labels = np.arange(1, 101, dtype=np.uint8).reshape(4, 5, 5)
    (legend,) = draw(labels, class_names={value: f"class {value}" for value in range(1, 101)}).legends
    assert [text.get_text() for text in legend.get_texts()][-1] == "and 88 more"


def test_names_that_look_like_formulas(labels, tmp_path):
    path = tmp_path / "a.png"
    scan = np.zeros(labels.shape, np.float32)
    names = {1: "$x^{$", 3: "_b"}
    (legend,) = draw(labels, class_names=names).legends
    assert [text.get_text() for text in legend.get_texts()] == ["$x^{$", "_b"]
    draw_overlay(path, scan, labels, spacing_mm=(1, 1, 1), class_names=names, title="$x^{$")
    assert path.read_bytes().startswith(b"\x89PNG")


def compare(truth, prediction):
    scan = np.zeros(truth.shape, np.float32)
    return comparison_figure(
        scan, truth, prediction, spacing_mm=(1.0, 1.0, 3.0), class_names=NAMES, title="scan"
    )


def test_truth_and_prediction_are_drawn_in_the_same_slices(labels):
    """Those where the truth is largest, wherever the prediction is."""
    prediction = np.zeros_like(labels)
    prediction[7:9, 4, :] = 1
    figure = compare(labels, prediction)
    above, below = figure.axes[:3], figure.axes[3:]
    assert above[0].get_title() == "truth"
    assert below[0].get_title() == "prediction"
    for panels, expected in ((above, labels), (below, prediction)):
        sagittal, coronal, axial = (panel.images[1].get_array()[..., 3] > 0 for panel in panels)
        np.testing.assert_array_equal(sagittal, expected[3].T > 0)
        np.testing.assert_array_equal(coronal, expected[:, 4].T > 0)
        np.testing.assert_array_equal(axial, expected[:, :, 5].T > 0)
    assert [panel.get_aspect() for panel in figure.axes] == [3, 3, 1] * 2


def test_a_class_of_either_map_is_in_the_legend_of_a_comparison(labels):
    (legend,) = compare(labels * (labels == 3), np.minimum(labels, 1)).legends
    assert [text.get_text() for text in legend.get_texts()] == ["anterior", "posterior"]


def test_a_prediction_where_nothing_is_true_is_shown(labels):
    figure = compare(np.zeros_like(labels), labels)
    assert (figure.axes[3].images[1].get_array()[..., 3] > 0).any()
