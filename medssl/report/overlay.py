"""A segmentation for a quick look: slices of a scan with its classes in colour, alone or below the truth."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from medssl.atomic import atomic_path
from medssl.pretext.drawing import VIEWS, orthogonal_slices
from medssl.report.curves import to_png

OPACITY = 0.45
# Okabe & Ito's, without the black that would vanish on a scan, and those that look alike far apart.
CLASS_COLOURS = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2")
LEGEND_CLASSES = 12
"""So many names fit under the slices."""

CONVENTION = "radiological convention: the subject's right is on the left"


def draw_overlay(
    path: Path,
    volume: NDArray[np.floating],
    labels: NDArray[np.uint8],
    *,
    spacing_mm: Sequence[float],
    class_names: Mapping[int, str],
    title: str,
    vmin: float = 0.0,
    vmax: float = 1.0,
) -> None:
    """Write `overlay_figure` as a PNG; arguments as there."""
    figure = overlay_figure(
        volume, labels, spacing_mm=spacing_mm, class_names=class_names, title=title, vmin=vmin, vmax=vmax
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(to_png(figure))


def overlay_figure(
    volume: NDArray[np.floating],
    labels: NDArray[np.uint8],
    *,
    spacing_mm: Sequence[float],
    class_names: Mapping[int, str],
    title: str,
    vmin: float = 0.0,
    vmax: float = 1.0,
) -> Figure:
    """Draw a sagittal, a coronal and an axial slice, each where the classes cover the largest area.

    Args:
        volume: ``(X, Y, Z)``, RAS.
        labels: Label map on the same grid, 0 where there is no class.
        spacing_mm: Of the voxels; sets the aspect.
        class_names: By value in the label map, without the background.
        title: Over the slices.
        vmin: Intensity drawn in black.
        vmax: Intensity drawn in white.
    """
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    panels = figure.subplots(1, 3)
    centre = _largest_areas(labels > 0)
    orthogonal_slices(panels, volume, spacing_mm=spacing_mm, centre=centre, vmin=vmin, vmax=vmax)
    _add_classes(panels, labels, spacing_mm=spacing_mm, centre=centre, class_names=class_names)
    figure.suptitle(title, fontsize=10, parse_math=False)
    _add_legend(figure, class_names, [labels])
    return figure


def comparison_figure(
    volume: NDArray[np.floating],
    truth: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    *,
    spacing_mm: Sequence[float],
    class_names: Mapping[int, str],
    title: str,
    vmin: float = 0.0,
    vmax: float = 1.0,
) -> Figure:
    """Draw the true classes above the predicted ones, in the slices where the true ones are largest.

    Args:
        volume: ``(X, Y, Z)``, RAS.
        truth: True label map on the same grid, 0 where there is no class.
        prediction: Predicted label map on the same grid.
        spacing_mm: As in `overlay_figure`, like all that follows.
        class_names: By value in the label maps, without the background.
        title: Over the slices.
        vmin: Intensity drawn in black.
        vmax: Intensity drawn in white.
    """
    figure = Figure(figsize=(9, 7), layout="constrained")
    rows = figure.subplots(2, 3)
    centre = _largest_areas(truth > 0 if truth.any() else prediction > 0)
    for panels, labels, name in zip(rows, (truth, prediction), ("truth", "prediction"), strict=True):
        orthogonal_slices(
            panels, volume, spacing_mm=spacing_mm, centre=centre, title=name, vmin=vmin, vmax=vmax
        )
        _add_classes(panels, labels, spacing_mm=spacing_mm, centre=centre, class_names=class_names)
    figure.suptitle(title, fontsize=10, parse_math=False)
    _add_legend(figure, class_names, [truth, prediction])
    return figure


def _add_classes(
    panels: Sequence[Axes],
    labels: NDArray[np.uint8],
    *,
    spacing_mm: Sequence[float],
    centre: Sequence[int],
    class_names: Mapping[int, str],
) -> None:
    """Colour the classes in the slices of a scan that `orthogonal_slices` drew."""
    palette = _palette(_colours(class_names))
    for panel, view in zip(panels, VIEWS, strict=True):
        panel.autoscale(False)  # or the next image would undo the direction of the axes
        aspect = spacing_mm[view.upwards] / spacing_mm[view.leftwards]
        coloured = palette[labels.take(centre[view.normal], axis=view.normal).T]
        panel.imshow(coloured, origin="lower", aspect=aspect, interpolation="nearest")


def _largest_areas(is_class: NDArray[np.bool_]) -> list[int]:
    """Return across each axis the plane with the most labelled voxels, the middle one where there is none."""
    if not is_class.any():
        return [length // 2 for length in is_class.shape]
    others = ((1, 2), (0, 2), (0, 1))
    return [int(np.count_nonzero(is_class, axis=axes).argmax()) for axes in others]


def _colours(class_names: Mapping[int, str]) -> dict[int, str]:
    return dict(zip(class_names, cycle(CLASS_COLOURS), strict=False))


def _palette(colours: Mapping[int, str]) -> NDArray[np.float64]:
    """Return the colour of each possible value, ``(256, 4)``; transparent where it is no class."""
    palette = np.zeros((256, 4))
    for value, colour in colours.items():
        palette[value] = to_rgba(colour, OPACITY)
    return palette


def _add_legend(
    figure: Figure, class_names: Mapping[int, str], label_maps: Sequence[NDArray[np.uint8]]
) -> None:
    """Name the colours of the classes that are in any of the label maps."""
    found = set[int]().union(*(np.unique(labels).tolist() for labels in label_maps))
    classes = [
        (class_names[value], colour) for value, colour in _colours(class_names).items() if value in found
    ]
    handles = [
        Patch(color=colour, label=name, alpha=2 * OPACITY) for name, colour in classes[:LEGEND_CLASSES]
    ]
    left_out = len(classes) - len(handles)
    if left_out:
        handles.append(Patch(alpha=0, label=f"and {left_out} more"))
    if not classes:
        handles.append(Patch(alpha=0, label="no class was found"))
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=8, title=CONVENTION
    )
    legend.get_title().set(fontsize=7, color="dimgray")
    for text in legend.get_texts():
        text.set_parse_math(False)
