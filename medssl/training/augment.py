"""Random intensity changes, made on the device once the batch is there."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.config.schema import AugmentationConfig
from medssl.training.seeds import derive_seed

VIEWS_DIMENSIONS = 6
"""Dimensions of ``(B, V, C, X, Y, Z)``: several views of a sample."""


@dataclass(frozen=True)
class IntensityAugmentation:
    """Gamma, scale, shift and noise, drawn for each sample from its own seed.

    ``volume -> scale * volume ** gamma + shift``, the same for every input of a sample and for the
    intensities that are to be predicted from it, then noise on the inputs alone. Samples are independent of
    each other, so the result depends neither on the batch nor on the number of processes.

    Several views of one sample ``(B, V, C, X, Y, Z)`` get noise only: they are normalised each by itself,
    which undoes scale and shift, and leaves values below zero that have no power.

    Attributes:
        config: How strong each change is.
        inputs: Keys of what the encoder sees.
        targets: Keys that hold intensities of the same crops.
    """

    config: AugmentationConfig
    inputs: tuple[str, ...]
    targets: tuple[str, ...]

    @classmethod
    def of_tasks(cls, tasks: Iterable, config: AugmentationConfig) -> "IntensityAugmentation":
        """Return the augmentation of all that these pretext tasks name as input or intensities."""
        tasks = list(tasks)
        inputs = sorted({task.input_key for task in tasks})
        targets = sorted({key for task in tasks for key in task.intensity_keys} - set(inputs))
        return cls(config, tuple(inputs), tuple(targets))

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the batch with augmented intensities.

        Args:
            batch: Volumes ``(B, C, X, Y, Z)`` in [0, 1], or views ``(B, V, C, X, Y, Z)`` in any range, under
                `inputs` and `targets`, and ``seed`` ``(B,)``.
        """
        seeds = batch["seed"].tolist()
        gamma, scale, shift, noise = self._draw(seeds)
        changed = dict(batch)
        for key in (*self.inputs, *self.targets):
            if batch[key].dim() != VIEWS_DIMENSIONS:
                changed[key] = _change_contrast(batch[key], gamma, scale, shift)
        for key in self.inputs:
            changed[key] = _add_noise(changed[key], noise, seeds, key)
        return changed

    def _draw(self, seeds: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return gamma, scale, shift and the noise's standard deviation of each sample, ``(B,)`` each."""
        draws = torch.stack([torch.rand(4, generator=_generator("cpu", "contrast", seed)) for seed in seeds])
        centred = 2 * draws - 1
        return (
            1 + self.config.gamma * centred[:, 0],
            1 + self.config.scale * centred[:, 1],
            self.config.shift * centred[:, 2],
            self.config.noise * draws[:, 3],
        )


def _change_contrast(volumes: Tensor, gamma: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    gamma, scale, shift = (_as_column(values, volumes) for values in (gamma, scale, shift))
    return volumes.clamp(min=0).pow_(gamma).mul_(scale).add_(shift)


def _add_noise(volumes: Tensor, deviation: Tensor, seeds: list[int], key: str) -> Tensor:
    if not deviation.any():
        return volumes
    noise = [
        torch.randn(volumes.shape[1:], device=volumes.device, generator=_generator(volumes.device, key, seed))
        for seed in seeds
    ]
    return torch.stack(noise).mul_(_as_column(deviation, volumes)).add_(volumes)


def _as_column(values: Tensor, volumes: Tensor) -> Tensor:
    return values.to(volumes).reshape(-1, *[1] * (volumes.dim() - 1))


def _generator(device: torch.device | str, purpose: str, seed: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(derive_seed("augmentation", purpose, seed))
