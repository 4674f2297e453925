"""Several pretext tasks trained together on one encoder."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medssl.errors import ConfigError
from medssl.networks.encoder import Encoder
from medssl.networks.model import Model
from medssl.pretext.crop import CropOrPadd
from medssl.pretext.task import Batch, Prediction, PretextTask, SeededCompose

Predictions = Mapping[str, Prediction]


class PretextMixture:
    """The tasks of a run: one transform, one weighted loss, and all metrics.

    Attributes:
        tasks: In the user's order.
        crop_size: Voxels of the shared crop under ``image``, along X, Y and Z.
    """

    def __init__(self, tasks: Sequence[PretextTask], crop_size: tuple[int, int, int]) -> None:
        self.tasks = tuple(tasks)
        self.crop_size = crop_size

    @property
    def window_size(self) -> tuple[int, int, int]:
        """Voxels along X, Y and Z to read of a scan, so that the crop and every task have room."""
        sizes = [self.crop_size, *(task.window_size for task in self.tasks)]
        x, y, z = (max(along) for along in zip(*sizes, strict=True))
        return x, y, z

    @property
    def batch_keys(self) -> tuple[str, ...]:
        """Every key of a transformed sample that some task needs in the batch."""
        return tuple(dict.fromkeys(key for task in self.tasks for key in task.batch_keys))

    def make_transform(self) -> SeededCompose:
        """Return the transform from ``{"image": window (1, X, Y, Z)}`` to a sample of all tasks.

        Tasks that need the whole window come first, then the crop, then the tasks that change the crop in
        place: those that move voxels before those that hide them. ``set_random_state`` on the result seeds
        all of them, and a deep copy works in another thread.
        """
        on_window = [task for task in self.tasks if task.acts_on_window]
        on_crop = sorted(
            (task for task in self.tasks if not task.acts_on_window), key=lambda task: task.hides_voxels
        )
        crop = CropOrPadd("image", self.crop_size, spacing_mm=self.tasks[0].context.spacing_mm)
        return SeededCompose(
            [
                *(task.make_transform() for task in on_window),
                crop,
                *(task.make_transform() for task in on_crop),
            ]
        )

    def losses(self, predictions: Predictions, batch: Batch) -> dict[str, Tensor]:
        """Return each task's loss of each sample ``(B,)``, before weighting."""
        return {task.name: task.loss(predictions[task.name], batch) for task in self.tasks}

    def total_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the mean of the tasks' mean losses, weighted: a scalar.

        Dividing by the sum of the weights keeps the gradient's size, and with it the meaning of the learning
        rate and the clipping norm, the same whether one task is trained or several.
        """
        weighted = [task.settings.weight * losses[task.name].mean() for task in self.tasks]
        return torch.stack(weighted).sum() / sum(task.settings.weight for task in self.tasks)

    def metrics(self, predictions: Predictions, batch: Batch) -> dict[str, Tensor]:
        """Return every metric of each sample ``(B,)`` as "task/metric", such as "rotation/accuracy"."""
        return {
            f"{task.name}/{name}": values
            for task in self.tasks
            for name, values in task.metrics(predictions[task.name], batch).items()
        }

    def shuffle_targets(self, batch: Batch) -> dict[str, Tensor]:
        """Give each sample the answer of the one before it: a control in which nothing can be learned.

        Raises:
            ConfigError: The batch holds one sample, whose answer would stay its own.
        """
        targets = {key for task in self.tasks for key in task.target_keys}
        if any(len(batch[key]) < 2 for key in targets):
            raise ConfigError(
                "shuffle_targets needs batches of two crops or more; raise training.batch_size or lower "
                "optimiser.accumulate."
            )
        return {key: value.roll(1, dims=0) if key in targets else value for key, value in batch.items()}


class PretextModel(Model):
    """An encoder and the heads of all tasks.

    Attributes:
        encoder: What pretraining is for.
        heads: One a task, by name.
    """

    def __init__(self, encoder: Encoder, mixture: PretextMixture) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict({task.name: task.make_head(encoder) for task in mixture.tasks})
        self._input_keys = {task.name: task.input_key for task in mixture.tasks}

    def forward(self, batch: Batch) -> dict[str, Prediction]:
        """Predict for every task; tasks with the same input share one pass through the encoder.

        Args:
            batch: Holds the tasks' `batch_keys`. Inputs are ``(B, C, X, Y, Z)``, or ``(B, V, C, X, Y, Z)``
                for V views a sample, which the encoder sees as a batch of B * V.

        Returns:
            Predictions by task name.
        """
        inputs = set(self._input_keys.values())
        features = {key: self.encoder(_flatten_views(batch[key])) for key in sorted(inputs)}
        return {name: head(features[self._input_keys[name]], batch) for name, head in self.heads.items()}


def _flatten_views(volume: Tensor) -> Tensor:
    return volume.flatten(0, 1) if volume.ndim == 6 else volume
