"""Three orthogonal slices as a radiologist expects them, and figures as pixels.

Figures are made with `matplotlib.figure.Figure` alone, because pyplot's global state is not safe in threads.
"""

import io
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

OPPOSITE = dict(zip("RASLPI", "LPIRAS", strict=True))
"""The other end of the direction that a letter names."""

HIDDEN_TINT = ListedColormap(["#e8710a"])


class View(NamedTuple):
    """One slice direction: the axis it is taken across, and those that run leftwards and upwards."""

    normal: int
    leftwards: int
    upwards: int


VIEWS = (View(0, 1, 2), View(1, 0, 2), View(2, 0, 1))
"""Sagittal, coronal, axial."""


class Box(NamedTuple):
    """A box to outline: solid where the slice cuts it, dashed where it lies in front or behind.

    Attributes:
        start: First voxel along X, Y and Z.
        size: Voxels along the same axes.
        colour: Any matplotlib colour.
        label: Short text at the box.
    """

    start: Sequence[int]
    size: Sequence[int]
    colour: str
    label: str = ""


def orthogonal_slices(
    axes: Sequence[Axes],
    volume: np.ndarray,
    *,
    spacing_mm: Sequence[float],
    orientation: str = "RAS",
    title: str = "",
    centre: Sequence[int] | None = None,
    mask: np.ndarray | None = None,
    vmin: float = 0.0,
    vmax: float = 1.0,
    cmap: str = "gray",
    boxes: Sequence[Box] = (),
) -> list[AxesImage]:
    """Draw a sagittal, a coronal and an axial slice in radiological convention.

    The patient's right is on the left of the picture, anterior is left in sagittal slices, and superior or
    anterior is up. Letters at the edges say so: A/P, R/L, S/I.

    Args:
        axes: Three matplotlib axes, for the sagittal, coronal and axial slice.
        volume: ``(X, Y, Z)``.
        spacing_mm: Distance of voxel centres along X, Y and Z; sets the aspect.
        orientation: Where X, Y and Z point to in the patient. A volume that was turned is drawn as it lies,
            and the letters tell.
        title: Text over the first slice.
        centre: Voxel that all three slices go through; the middle where None.
        mask: Boolean ``(X, Y, Z)``, True = hidden; hidden voxels are tinted.
        vmin: Intensity drawn in the first colour.
        vmax: Intensity drawn in the last colour.
        cmap: Matplotlib colour map.
        boxes: What to outline.

    Returns:
        The three drawn images, for a colour bar.
    """
    at = [size // 2 for size in volume.shape] if centre is None else list(centre)
    images = []
    for panel, view in zip(axes, VIEWS, strict=True):
        aspect = spacing_mm[view.upwards] / spacing_mm[view.leftwards]
        show = partial(panel.imshow, origin="lower", aspect=aspect, interpolation="nearest")
        images.append(show(_slice(volume, view, at), vmin=vmin, vmax=vmax, cmap=cmap))
        if mask is not None:
            hidden = _slice(mask, view, at)
            show(np.ma.masked_where(~hidden, hidden), cmap=HIDDEN_TINT, alpha=0.35)
        for box in boxes:
            _outline(panel, box, view, at)
        panel.invert_xaxis()
        panel.set(xticks=[], yticks=[])
        _name_sides(panel, left=orientation[view.leftwards], top=orientation[view.upwards])
    axes[0].set_title(title, fontsize=9, pad=14)
    return images


def figure_to_rgb(figure: Figure) -> np.ndarray:
    """Return the figure's pixels, uint8 ``(height, width, 3)``."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def figure_to_png(figure: Figure) -> bytes:
    """Return the figure as the content of a PNG file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _slice(volume: np.ndarray, view: View, at: Sequence[int]) -> np.ndarray:
    return volume.take(at[view.normal], axis=view.normal).T


def _name_sides(panel: Axes, *, left: str, top: str) -> None:
    # In a monospaced font a capital I does not look like a stroke.
    font = {"family": "monospace", "fontsize": 8, "color": "dimgray"}
    style: dict[str, Any] = {"transform": panel.transAxes, **font}
    panel.text(-0.03, 0.5, left, ha="right", va="center", **style)
    panel.text(1.03, 0.5, OPPOSITE[left], ha="left", va="center", **style)
    panel.text(0.5, 1.02, top, ha="center", va="bottom", **style)
    panel.text(0.5, -0.03, OPPOSITE[top], ha="center", va="top", **style)


def _outline(panel: Axes, box: Box, view: View, at: Sequence[int]) -> None:
    is_cut = box.start[view.normal] <= at[view.normal] < box.start[view.normal] + box.size[view.normal]
    # Pixel edges lie half a voxel before voxel centres.
    right, bottom = box.start[view.leftwards] - 0.5, box.start[view.upwards] - 0.5
    width, height = box.size[view.leftwards], box.size[view.upwards]
    line: dict[str, Any] = {"edgecolor": box.colour, "linestyle": "solid" if is_cut else "dashed"}
    panel.add_patch(Rectangle((right, bottom), width, height, fill=False, linewidth=1.2, **line))
    panel.annotate(
        box.label,
        (right + width, bottom + height),
        xytext=(0, 2),
        textcoords="offset points",
        color=box.colour,
        fontsize=7,
        path_effects=[withStroke(linewidth=1.5, foreground="black")],
    )
