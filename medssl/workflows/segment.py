"""One case, segmented: its label map on its own grid, and what is written of it."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import torch
from numpy.typing import NDArray

from medssl.finetune.predictor import Predictor
from medssl.finetune.segmentation import Segmentation
from medssl.report.overlay import draw_overlay
from medssl.scans.cases import PreparedCase
from medssl.scans.geometry import along_ras, to_ras
from medssl.scans.grid import label_map_on_source
from medssl.scans.label_map import write_label_map, write_probabilities
from medssl.scans.read import read_volume
from medssl.workflows.predictions import PredictionFolder, Values

LABEL_MAP = ".nii.gz"
PROBABILITIES = "_probabilities.nii.gz"
OVERLAY = ".png"
OVERLAYS = "overlays/"


def segment(
    predictor: Predictor, case: PreparedCase, *, probabilities: NDArray[np.float32] | None = None
) -> NDArray[np.uint8]:
    """Return the label map of a case on the grid of its file.

    Memory holds the label map, the case's prepared image and, of the probabilities, a slab at a time.

    Args:
        predictor: Its goal is a `Segmentation`; several networks are averaged.
        case: Prepared as the training cases were.
        probabilities: ``(classes, I, J, K)``, filled with the probabilities on the same grid.

    Returns:
        ``(I, J, K)``, the axes as the first channel's file stores them, with the values of the label maps
        that the network was trained on.
    """
    goal = predictor.goal
    assert isinstance(goal, Segmentation)
    plan = goal.plan_slabs(case, crop_size=predictor.crop_size)
    each = [
        goal.predict_slabs(model, case, plan=plan, settings=predictor.settings, flips=predictor.flips)
        for model in predictor.models
    ]
    channels = label_map_on_source(
        (torch.stack(slabs).mean(dim=0).numpy() for slabs in zip(*each, strict=True)),
        axis=plan.axis,
        shape=case.shape,
        header=case.source,
        foreground=case.channels[0].foreground,
        probabilities=probabilities,
    )
    return np.array(goal.classes, dtype=np.uint8)[channels]


@dataclass(frozen=True)
class SegmentationResults:
    """The files of each segmented scan.

    Attributes:
        predictor: What segments.
        folder: Where they are written.
        has_probabilities: Whether those of each class are written too.
        drawn: The scan_ids of which a picture is drawn.
    """

    predictor: Predictor
    folder: PredictionFolder
    has_probabilities: bool
    drawn: Collection[str]

    def files(self, case: PreparedCase) -> list[Path]:
        """Return where the results of a scan lie."""
        scan_id = case.record.scan_id
        files = [self.folder.file(scan_id, LABEL_MAP)]
        if self.has_probabilities:
            files.append(self.folder.file(scan_id, PROBABILITIES))
        if scan_id in self.drawn:
            files.append(self.folder.file(OVERLAYS + scan_id, OVERLAY))
        return files

    def write(self, case: PreparedCase) -> Values:
        """Write the results of a scan, and return the volume of each class in ml.

        Raises:
            ScanError: If its file can no longer be read.
        """
        scan_id = case.record.scan_id
        for file in self.files(case):
            file.parent.mkdir(parents=True, exist_ok=True)
        if self.has_probabilities:
            labels = self._write_probabilities(case, self.folder.file(scan_id, PROBABILITIES))
        else:
            labels = segment(self.predictor, case)
        write_label_map(self.folder.file(scan_id, LABEL_MAP), labels, like=case.record.path)
        if scan_id in self.drawn:
            self._draw(case, labels, self.folder.file(OVERLAYS + scan_id, OVERLAY))
        voxel_ml = prod(case.source.spacing_mm) / 1000
        return {
            f"{name}_ml": round(np.count_nonzero(labels == value) * voxel_ml, 4)
            for value, name in self._foreground().items()
        }

    def _write_probabilities(self, case: PreparedCase, path: Path) -> NDArray[np.uint8]:
        with _on_disk((len(self._goal.classes), *case.source.shape), beside=path) as probabilities:
            labels = segment(self.predictor, case, probabilities=probabilities)
            write_probabilities(path, probabilities, like=case.record.path)
        return labels

    def _draw(self, case: PreparedCase, labels: NDArray[np.uint8], path: Path) -> None:
        volume, _ = read_volume(case.record.path, time_point=case.channels[0].record.time_point)
        _, (x, y, z) = along_ras(case.source)
        draw_overlay(
            path,
            volume,
            to_ras(labels, np.array(case.source.affine))[0],
            spacing_mm=(x, y, z),
            class_names=self._foreground(),
            title=case.record.scan_id,
            vmin=case.recipe.lower,
            vmax=case.recipe.upper,
        )

    @property
    def _goal(self) -> Segmentation:
        assert isinstance(self.predictor.goal, Segmentation)
        return self.predictor.goal

    def _foreground(self) -> dict[int, str]:
        return {value: self._goal.class_names[value] for value in self._goal.classes[1:]}


@contextmanager
def _on_disk(shape: tuple[int, ...], *, beside: Path) -> Iterator[NDArray[np.float32]]:
    """Yield an array in a nameless file, as probabilities of many classes on the source can exceed memory."""
    with TemporaryFile(dir=beside.parent) as file:
        yield np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
