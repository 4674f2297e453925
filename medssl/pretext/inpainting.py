"""Inpainting: rebuild the hidden voxels of a crop from the visible ones."""

from collections.abc import Iterable
from functools import partial
from itertools import islice
from typing import Annotated, Any, Literal

import numpy as np
import torch.nn.functional as F
from matplotlib.figure import Figure
from monai.config import KeysCollection
from pydantic import Field
from torch import Tensor

from medssl.config.schema import Auto, NonNegativeFloat, PositiveInt
from medssl.errors import ConfigError
from medssl.networks.encoder import Encoder
from medssl.pretext.drawing import orthogonal_slices
from medssl.pretext.fidelity import hidden_mean, hidden_psnr, ssim_map
from medssl.pretext.inpainting_head import (
    SMALLEST_JUDGED_SIDE,
    InpaintingHead,
    InpaintingPrediction,
    discriminator_loss,
    fill_hidden,
)
from medssl.pretext.interpolation import interpolate_visible
from medssl.pretext.masks import MaskShape, check_patch_size, draw_mask, fill_with_mean
from medssl.pretext.task import (
    Batch,
    CueReport,
    PretextTask,
    PretextTransform,
    Sample,
    TaskContext,
    TaskSettings,
)

CELLS_ALONG_CROP = 6
"""Automatic cells are a sixth of the crop's shortest side: 4 voxels of 24, 16 of 96.

Smoothing the visible voxels alone brings the error to 20 % of chance with cells of 4 voxels in a crop of 64
(brain MR at 1 mm), to 35 % with a sixth of the side; below that there is little anatomy left to learn.
"""

INTERPOLATION_WIDTHS = (0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Standard deviations of the trivial interpolation, in voxels of the finest axis."""

WIDTH_CHOSEN_ON = 32
"""Training crops: enough to choose one of a few widths, in a fraction of the time that all would take."""

LARGEST_DRAWN_ERROR = 0.5
"""Where the colours of the error picture end: half the intensity range."""


class InpaintingSettings(TaskSettings):
    """Settings of the inpainting task."""

    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.6, description="Share of the cells that is hidden (of the voxels for a hole)."
    )
    patch_size: PositiveInt | Auto = Field(
        "auto", description="Side of a hidden cell in voxels; auto is a sixth of the crop's shortest side."
    )
    shape: MaskShape = Field("cubes", description="cubes, slabs of whole planes, or one large hole.")
    loss: Literal["l1", "l2"] = Field("l1", description="Absolute or squared error on hidden voxels.")
    adversarial_weight: NonNegativeFloat = Field(
        0.0,
        description="Factor of the context encoder's adversarial loss, 0.001 in its paper; 0 for none.",
    )


class InpaintingPretextd(PretextTransform):
    """Hide voxels and keep the answer.

    Hidden voxels are filled with the mean of the visible ones. Adds ``inpainting_target``, the volume as it
    was ``(C, X, Y, Z)``, and ``inpainting_mask``, boolean ``(1, X, Y, Z)``, True = hidden.
    """

    takes_float16 = True

    def __init__(
        self,
        keys: KeysCollection,
        *,
        mask_ratio: float = 0.6,
        patch_size: int = 4,
        shape: MaskShape = "cubes",
    ) -> None:
        """Set how masks are drawn; see `medssl.pretext.masks.draw_mask`.

        Args:
            keys: Key of a channel-first volume ``(C, X, Y, Z)``.
            mask_ratio: Hidden share in (0, 1).
            patch_size: Side of a hidden cell in voxels.
            shape: "cubes", "slabs" or "hole".
        """
        super().__init__(keys)
        self.mask_ratio = mask_ratio
        self.patch_size = patch_size
        self.shape = shape

    def draw(self, shape: tuple[int, ...]) -> np.ndarray:
        """Draw the mask ``(X, Y, Z)``, True = hidden."""
        return draw_mask(
            shape, shape=self.shape, mask_ratio=self.mask_ratio, patch_size=self.patch_size, random=self.R
        )

    def apply(self, volume: np.ndarray, parameters: np.ndarray, *, key: str) -> dict[str, Any]:
        """Return the masked volume under ``key``, the target and the mask."""
        return {
            key: fill_with_mean(volume, parameters),
            "inpainting_target": volume,
            "inpainting_mask": parameters[None],
        }


class InpaintingTask(PretextTask[InpaintingSettings]):
    """Masked modelling with a convolutional decoder, or the context encoder in 3D.

    The loss is the error on hidden voxels. The adversarial term follows the joint min-max of Pathak et al.
    2016, "Context encoders". Their code alternates updates of two optimisers and trains the generator on a
    non-saturating variant; here gradient reversal lets one optimiser step do both, as their equation reads,
    so that a checkpoint has one optimiser to resume exactly. Evaluation leaves the term out: a validation
    loss that rises with the discriminator's skill says nothing about the encoder.
    """

    name = "inpainting"
    Settings = InpaintingSettings
    hides_voxels = True
    target_keys = ("inpainting_target",)
    batch_keys = ("image", "inpainting_target", "inpainting_mask")
    intensity_keys = ("inpainting_target",)
    key_metric = "mae"

    def __init__(self, settings: InpaintingSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        automatic = max(1, round(min(context.crop_size) / CELLS_ALONG_CROP))
        self.patch_size = automatic if settings.patch_size == "auto" else settings.patch_size
        check_patch_size(context.crop_size, shape=settings.shape, patch_size=self.patch_size)
        if settings.adversarial_weight > 0 and min(context.crop_size) < SMALLEST_JUDGED_SIDE:
            raise ConfigError(
                f"tasks.inpainting.adversarial_weight needs crops of at least {SMALLEST_JUDGED_SIDE} voxels "
                "along each axis; set it to 0, or crop_size higher."
            )

    @property
    def window_size(self) -> tuple[int, int, int]:
        """The crop itself."""
        return self.context.crop_size

    def make_transform(self) -> InpaintingPretextd:
        """Return the masking transform."""
        return InpaintingPretextd(
            "image",
            mask_ratio=self.settings.mask_ratio,
            patch_size=self.patch_size,
            shape=self.settings.shape,
        )

    def make_head(self, encoder: Encoder) -> InpaintingHead:
        """Return a new decoder."""
        return InpaintingHead(encoder, is_adversarial=self.settings.adversarial_weight > 0)

    def loss(self, prediction: InpaintingPrediction, batch: Batch) -> Tensor:
        """Return the mean error over hidden voxels, with the adversarial term in training ``(B,)``."""
        distance = F.l1_loss if self.settings.loss == "l1" else F.mse_loss
        error = distance(prediction.volume.float(), batch["inpainting_target"], reduction="none")
        loss = hidden_mean(error, batch["inpainting_mask"])
        if prediction.real_logits is None or prediction.fake_logits is None:
            return loss
        game = discriminator_loss(prediction.real_logits, prediction.fake_logits)
        return loss + self.settings.adversarial_weight * game

    def metrics(self, prediction: InpaintingPrediction, batch: Batch) -> dict[str, Tensor]:
        """Return MAE, PSNR in dB and SSIM over hidden voxels, each ``(B,)``."""
        target, mask = batch["inpainting_target"], batch["inpainting_mask"]
        rebuilt = fill_hidden(prediction.volume.detach().float(), batch)
        return {
            "mae": hidden_mean((rebuilt - target).abs(), mask),
            "psnr": hidden_psnr(rebuilt, target, mask),
            "ssim": hidden_mean(ssim_map(rebuilt, target), mask),
        }

    def trivial_cues(self, train: Iterable[Sample], val: Iterable[Sample]) -> CueReport:
        """Score smooth interpolation from the visible voxels, its width chosen on some of ``train``."""
        finest = min(self.context.spacing_mm)
        unit = np.array([finest / spacing for spacing in self.context.spacing_mm])
        errors = [
            [_interpolation_mae(sample, width * unit) for width in INTERPOLATION_WIDTHS]
            for sample in islice(train, WIDTH_CHOSEN_ON)
        ]
        width = INTERPOLATION_WIDTHS[int(np.mean(errors, axis=0).argmin())]
        scored = [
            (_hidden_mae(sample, sample["image"]), _interpolation_mae(sample, width * unit)) for sample in val
        ]
        chance, trivial = np.mean(scored, axis=0).tolist()
        return CueReport(
            metric="mae",
            chance=chance,
            trivial=trivial,
            higher_is_better=False,
            cues="Gaussian interpolation from the visible voxels; chance predicts their mean",
        )

    def picture(self, sample: Sample, prediction: InpaintingPrediction) -> Figure:
        """Draw input, hidden voxels, what was rebuilt, and the error."""
        target = np.asarray(sample["inpainting_target"])[0]
        mask = np.asarray(sample["inpainting_mask"])[0]
        rebuilt = np.where(mask, prediction.volume[0, 0].detach().float().cpu().numpy(), target)
        error = np.abs(rebuilt - target)
        figure = Figure(figsize=(8.4, 6), dpi=100, layout="constrained")
        panels = figure.subplots(3, 4)
        draw = partial(
            orthogonal_slices,
            spacing_mm=self.context.spacing_mm,
            orientation=sample.get("orientation", "RAS"),
        )
        draw(panels[:, 0], target, title="input")
        draw(panels[:, 1], target, title=f"{mask.mean():.0%} hidden", mask=mask)
        draw(panels[:, 2], rebuilt, title="rebuilt")
        title = f"error, mean {error[mask].mean():.3f}"
        images = draw(panels[:, 3], error, title=title, vmax=LARGEST_DRAWN_ERROR, cmap="inferno")
        figure.colorbar(images[0], ax=panels[:, 3], shrink=0.6, label="absolute error")
        return figure

    def facts(self) -> dict[str, float | int | str]:
        """Return the side of a hidden cell."""
        return {"patch_size": self.patch_size}


def _interpolation_mae(sample: Sample, sigma: np.ndarray) -> float:
    image, mask = np.asarray(sample["image"]), np.asarray(sample["inpainting_mask"])[0]
    return _hidden_mae(sample, np.stack([interpolate_visible(channel, mask, sigma) for channel in image]))


def _hidden_mae(sample: Sample, guess: np.ndarray) -> float:
    mask = np.asarray(sample["inpainting_mask"])[0]
    error = np.abs(np.asarray(guess) - np.asarray(sample["inpainting_target"]))
    return float((error * mask).sum() / (len(error) * np.count_nonzero(mask)))
