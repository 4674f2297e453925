import io
from concurrent.futures import ThreadPoolExecutor

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from medssl.pretext.drawing import Box, figure_to_png, figure_to_rgb, orthogonal_slices

VIEW_AXES = {"sagittal": (1, 2), "coronal": (0, 2), "axial": (0, 1)}
"""Which axes run along the width and the height of each picture."""


def draw(volume: np.ndarray, **settings) -> Figure:
    figure = Figure(figsize=(6, 6), dpi=100)
    orthogonal_slices(figure.subplots(1, 3), volume, **({"spacing_mm": (1, 1, 1)} | settings))
    return figure


def bright_spot(figure: Figure, panel: int) -> np.ndarray:
    """Centre of the bright pixels inside one panel, in pixels from the lower left."""
    rgb = figure_to_rgb(figure)[::-1].astype(float).mean(axis=2)
    (left, bottom), (right, top) = figure.axes[panel].get_window_extent().get_points().astype(int)
    inside = rgb[bottom + 2 : top - 2, left + 2 : right - 2]
    up, across = np.argwhere(inside > 200).mean(axis=0)
    return np.array([left + 2 + across, bottom + 2 + up])


def letters(figure: Figure, panel: int) -> dict[str, np.ndarray]:
    figure_to_rgb(figure)
    return {
        text.get_text(): text.get_window_extent().get_points().mean(axis=0)
        for text in figure.axes[panel].texts
    }


@pytest.mark.parametrize("view", [0, 1, 2])
@pytest.mark.parametrize(
    ("corner", "names"), [((11, 15, 19), "RAS"), ((0, 0, 0), "LPI"), ((11, 0, 19), "RPS")]
)
def test_each_letter_stands_on_its_side_of_the_patient(view, corner, names):
    phantom = np.zeros((12, 16, 20))
    phantom[tuple(slice(max(at - 3, 0), at + 4) for at in corner)] = 1
    figure = draw(phantom, centre=corner)
    spot, where = bright_spot(figure, view), letters(figure, view)
    opposite = dict(zip("RASLPI", "LPIRAS", strict=True))
    across, up = list(VIEW_AXES.values())[view]
    for axis, coordinate in ((across, 0), (up, 1)):
        near, far = where[names[axis]], where[opposite[names[axis]]]
        assert abs(near - spot)[coordinate] < abs(far - spot)[coordinate]


def test_the_convention_is_radiological():
    figure = draw(np.zeros((8, 8, 8)))
    sagittal, coronal, axial = (letters(figure, panel) for panel in range(3))
    assert coronal["R"][0] < coronal["L"][0]
    assert axial["R"][0] < axial["L"][0]
    assert sagittal["A"][0] < sagittal["P"][0]
    assert axial["A"][1] > axial["P"][1]
    assert coronal["S"][1] > coronal["I"][1]


def test_letters_follow_a_turned_volume():
    where = letters(draw(np.zeros((8, 8, 8)), orientation="PSL"), 2)
    assert set(where) == {"P", "A", "S", "I"}
    assert where["P"][0] < where["A"][0]
    assert where["S"][1] > where["I"][1]


def test_the_aspect_is_true():
    shape, spacing_mm = (10, 20, 6), (1.0, 0.5, 4.0)
    figure = draw(np.zeros(shape), spacing_mm=spacing_mm)
    figure_to_rgb(figure)
    for panel, (across, up) in zip(figure.axes, VIEW_AXES.values(), strict=True):
        box = panel.get_window_extent()
        expected = shape[across] * spacing_mm[across] / (shape[up] * spacing_mm[up])
        assert box.width / box.height == pytest.approx(expected, rel=0.01)


def test_hidden_voxels_are_tinted_and_visible_ones_are_not():
    mask = np.zeros((10, 10, 10), dtype=bool)
    mask[:5] = True
    figure = draw(np.full((10, 10, 10), 0.5), mask=mask)
    rgb = figure_to_rgb(figure)[::-1].astype(int)
    (left, bottom), (right, top) = figure.axes[2].get_window_extent().get_points().astype(int)
    row = rgb[(bottom + top) // 2, left + 3 : right - 3]
    is_tinted = np.ptp(row, axis=1) > 20
    assert not is_tinted[: len(row) // 2 - 3].any()
    assert is_tinted[len(row) // 2 + 3 :].all()  # low X is the patient's left, drawn on the right


def test_boxes_are_solid_only_where_the_slice_cuts_them():
    figure = draw(
        np.zeros((20, 20, 20)), boxes=[Box((2, 3, 8), (4, 5, 6), "red", "patch")], centre=(10, 10, 10)
    )
    outlines = [panel.patches[0] for panel in figure.axes]
    assert [outline.get_linestyle() for outline in outlines] == ["dashed", "dashed", "solid"]
    axial = outlines[2]
    assert axial.get_xy() == (1.5, 2.5)
    assert (axial.get_width(), axial.get_height()) == (4, 5)
    assert "patch" in letters(figure, 2)


def test_png_and_pixels_show_the_same():
    figure = draw(np.random.RandomState(0).rand(8, 8, 8), title="noise")
    png = matplotlib.image.imread(io.BytesIO(figure_to_png(figure)))
    assert np.array_equal((png[..., :3] * 255).round().astype(np.uint8), figure_to_rgb(figure))


def test_threads_draw_what_one_thread_draws():
    volumes = [np.random.RandomState(seed).rand(8, 8, 8) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda volume: figure_to_rgb(draw(volume)), volumes))
    for volume, rgb in zip(volumes, together, strict=True):
        assert np.array_equal(rgb, figure_to_rgb(draw(volume)))
