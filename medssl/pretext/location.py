"""Location: tell of every voxel of a crop where in the scan it lies."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from monai.config import KeysCollection
from torch import Tensor

from medssl.networks.decoder import UNetDecoder
from medssl.networks.encoder import Encoder
from medssl.pretext.cues import block_means, gradient_energies
from medssl.pretext.drawing import Box, orthogonal_slices
from medssl.pretext.probe import ridge_probe
from medssl.pretext.task import (
    Batch,
    CueReport,
    PretextTask,
    PretextTransform,
    Sample,
    TaskHead,
    TaskSettings,
)

BETA = 0.2
"""Error, in half crops, below which the loss is quadratic: far misses must not outweigh fine detail."""

Size3D = tuple[int, int, int]


@dataclass(frozen=True)
class Place:
    """Where a crop is cut.

    Attributes:
        start: Its first voxel in the window, along X, Y and Z; negative where it is padded.
        window_start: The window's first voxel in the scan.
        scan_shape: Voxels of the scan.
    """

    start: np.ndarray
    window_start: np.ndarray
    scan_shape: np.ndarray


class LocationPretextd(PretextTransform):
    """Cut a crop anywhere and keep where in the scan each of its voxels lies.

    Adds ``location_crop`` ``(C, *crop_size)``; ``location_target`` ``(3, *crop_size)``, each voxel's distance
    from the middle of the scan along X, Y and Z, in units of half the crop's length; ``location_mask``,
    boolean ``(1, *crop_size)``, True = padding, where the window is smaller than the crop; and
    ``location_start``, int64 ``(3,)``. The volume itself stays as it is.

    ``window_start`` and ``scan_shape``, int ``(3,)`` each, say which part of a scan the volume is; without
    them it is taken for a whole scan.
    """

    def __init__(self, keys: KeysCollection, crop_size: Size3D) -> None:
        """Set the size of the crop.

        Args:
            keys: Key of a channel-first volume ``(C, X, Y, Z)``.
            crop_size: Voxels along X, Y and Z.
        """
        super().__init__(keys)
        self.crop_size = crop_size

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Draw a place and cut there."""
        result = dict(data)
        for key in self.key_iterator(result):
            volume = np.asarray(data[key], dtype=np.float32)
            shape = volume.shape[1:]
            place = Place(
                self.draw(shape),
                np.asarray(data.get("window_start", (0, 0, 0))),
                np.asarray(data.get("scan_shape", shape)),
            )
            result.update(self.apply(volume, place, key=str(key)))
        return result

    def draw(self, shape: tuple[int, ...]) -> np.ndarray:
        """Draw the first voxel, uniformly where the crop fits; in the middle of axes that are too short."""
        room = np.subtract(shape, self.crop_size)
        return np.where(room > 0, self.R.randint(np.maximum(room, 0) + 1), room // 2)

    def apply(self, volume: np.ndarray, parameters: Place, *, key: str) -> dict[str, Any]:
        """Return the crop, padded with its mean, and where its voxels lie."""
        start, stop = parameters.start, parameters.start + self.crop_size
        first, last = np.maximum(start, 0), np.minimum(stop, volume.shape[1:])
        content = volume[:, *(slice(a, b) for a, b in zip(first, last, strict=True))]
        inside = tuple(slice(a, b) for a, b in zip(first - start, last - start, strict=True))
        crop = np.empty((len(volume), *self.crop_size), dtype=np.float32)
        crop[:] = content.mean(axis=(1, 2, 3), keepdims=True)
        crop[:, *inside] = content
        mask = np.ones((1, *self.crop_size), dtype=bool)
        mask[:, *inside] = False
        return {
            "location_crop": crop,
            "location_target": self._coordinates(start + parameters.window_start, parameters.scan_shape),
            "location_mask": mask,
            "location_start": start.astype(np.int64),
        }

    def _coordinates(self, start: np.ndarray, scan_shape: np.ndarray) -> np.ndarray:
        along = [
            (np.arange(first, first + side) - (length - 1) / 2) / (side / 2)
            for first, side, length in zip(start, self.crop_size, scan_shape, strict=True)
        ]
        return np.stack(np.meshgrid(*along, indexing="ij")).astype(np.float32)


class LocationHead(TaskHead):
    """A U-Net decoder with one channel an axis."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.decoder = UNetDecoder(encoder.channels, encoder.strides, out_channels=3)

    def forward(self, features: list[Tensor], batch: Batch) -> Tensor:
        """Return coordinates ``(B, 3, X, Y, Z)`` in units of half the crop's length."""
        coordinates: Tensor = self.decoder(features, batch["location_crop"].shape[2:])
        return coordinates


class LocationTask(PretextTask[TaskSettings]):
    """Dense regression of where one is in the body.

    For scans that show about the same region: what lies at the same place in them is the same anatomy, so a
    network that knows the place knows the anatomy. Lei et al. (MICCAI 2021, "Contrastive learning of relative
    position regression for one-shot object localization in 3D medical images") regress the offset between two
    crops from their embeddings; here every voxel is located, which trains a decoder as well.
    """

    name = "location"
    Settings = TaskSettings
    input_key = "location_crop"
    acts_on_window = True
    target_keys = ("location_target",)
    batch_keys = ("location_crop", "location_target", "location_mask")
    key_metric = "mae_mm"

    @property
    def window_size(self) -> Size3D:
        """The crop itself."""
        return self.context.crop_size

    def make_transform(self) -> LocationPretextd:
        """Return the transform that cuts the crop."""
        return LocationPretextd("image", self.context.crop_size)

    def make_head(self, encoder: Encoder) -> LocationHead:
        """Return a new decoder."""
        return LocationHead(encoder)

    def loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Return the smooth absolute error of each sample ``(B,)``, padding left out."""
        error = F.smooth_l1_loss(prediction.float(), batch["location_target"], beta=BETA, reduction="none")
        return _visible_mean(error, batch["location_mask"]).mean(dim=1)

    def metrics(self, prediction: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the mean absolute error in mm along an axis ``(B,)``, padding left out."""
        error = (prediction.detach().float() - batch["location_target"]).abs()
        along_axes = _visible_mean(error, batch["location_mask"])
        return {"mae_mm": (along_axes * along_axes.new_tensor(self._unit_mm())).mean(dim=1)}

    def trivial_cues(self, train: Iterable[Sample], val: Iterable[Sample]) -> CueReport:
        """Fit a linear model from coarse brightness to the place of the crop."""
        train_x, train_y = self._cues_and_places(train)
        val_x, val_y = self._cues_and_places(val)
        return CueReport(
            metric="mae_mm",
            chance=float(np.abs(val_y - train_y.mean(axis=0)).mean()),
            trivial=float(np.abs(val_y - ridge_probe(train_x, train_y, val_x)).mean()),
            higher_is_better=False,
            cues="27 block means and gradient energies, linear; chance guesses the mean place",
        )

    def picture(self, sample: Sample, prediction: Tensor) -> Figure:
        """Draw where the crop lies in the window, and where the network takes it to lie."""
        size = np.array(self.context.crop_size)
        start = np.asarray(sample["location_start"])
        missed = prediction[0].detach().float().cpu().numpy() - np.asarray(sample["location_target"])
        inside = ~np.asarray(sample["location_mask"])[0]
        off = missed[:, inside].mean(axis=1) * size / 2
        guess = np.round(start + off).astype(int)
        figure = Figure(figsize=(8, 3.4), dpi=100, layout="constrained")
        millimetres = np.linalg.norm(off * self.context.spacing_mm)
        figure.suptitle(f"the crop, and where it is taken to lie: {millimetres:.1f} mm off", fontsize=10)
        orthogonal_slices(
            figure.subplots(1, 3),
            np.asarray(sample["window"])[0],
            spacing_mm=self.context.spacing_mm,
            centre=np.clip(start + size // 2, 0, np.array(sample["window"].shape[1:]) - 1).tolist(),
            boxes=[
                Box(start.tolist(), size.tolist(), "deepskyblue", "crop"),
                Box(guess.tolist(), size.tolist(), "orange", "guess"),
            ],
        )
        return figure

    def _unit_mm(self) -> list[float]:
        crop_size, spacing_mm = self.context.crop_size, self.context.spacing_mm
        return [side / 2 * spacing for side, spacing in zip(crop_size, spacing_mm, strict=True)]

    def _cues_and_places(self, samples: Iterable[Sample]) -> tuple[np.ndarray, np.ndarray]:
        """Return features ``(N, F)``, and in mm where the middle of each crop lies ``(N, 3)``."""
        cues, middles = [], []
        for sample in samples:
            crop = np.asarray(sample["location_crop"])[0]
            cues.append(np.concatenate([block_means(crop), gradient_energies(crop)]))
            middles.append(np.asarray(sample["location_target"]).mean(axis=(1, 2, 3)))
        return np.array(cues), np.array(middles) * self._unit_mm()


def _visible_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean ``(B, 3)`` over the voxels that are no padding."""
    visible = ~mask
    return torch.where(visible, values, 0).sum(dim=(2, 3, 4)) / visible.sum(dim=(2, 3, 4))
