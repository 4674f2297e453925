"""What a pretext task is: a MONAI transform, a head, a loss, metrics beside chance, and a picture."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from matplotlib.figure import Figure
from monai.transforms import Compose, MapTransform, Randomizable
from torch import Tensor, nn

from medssl.config.schema import NonNegativeFloat, Section
from medssl.networks.encoder import Encoder
from medssl.scans.store import widen

Batch = Mapping[str, Tensor]
Sample = Mapping[str, Any]
Prediction = Any


class TaskSettings(Section):
    """Base of each task's own settings.

    Attributes:
        weight: Factor of this task's loss in the sum over all tasks.
    """

    weight: NonNegativeFloat = 1.0


@dataclass(frozen=True)
class TaskContext:
    """What a task is told about the data before it is built.

    Attributes:
        crop_size: Voxels of a network input along X, Y and Z.
        spacing_mm: Spacing of every prepared scan along the same axes.
        scan_shapes: Shapes of the prepared scans, for tasks that need room.
        smallest_input: Fewest voxels the encoder takes along each axis.
    """

    crop_size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    scan_shapes: tuple[tuple[int, int, int], ...]
    smallest_input: tuple[int, int, int]


@dataclass(frozen=True)
class CueReport:
    """How far one can get on a task without looking at anatomy.

    Attributes:
        metric: The task metric that is compared, such as "accuracy".
        chance: That metric for a guess that ignores the crop.
        trivial: That metric for a simple model on cues that need no anatomy, on scans it was not fitted to.
        higher_is_better: Direction of the metric.
        cues: The cues the trivial model saw, in words.
    """

    metric: str
    chance: float
    trivial: float
    higher_is_better: bool
    cues: str


class TaskHead(nn.Module, ABC):
    """From an encoder's feature maps to a task's prediction."""

    @abstractmethod
    def forward(self, features: list[Tensor], batch: Batch) -> Prediction:
        """Predict from feature maps, fine to coarse; ``batch`` is there for heads that need more."""


SettingsT = TypeVar("SettingsT", bound=TaskSettings)


class PretextTask(ABC, Generic[SettingsT]):
    """One way to make a learning problem out of unlabelled scans.

    A subclass sets the class attributes and is found by `medssl.pretext.registry` through its name.

    Attributes:
        name: What the user calls it in ``--tasks`` and in ``tasks:`` of a config.
        Settings: Its settings model.
        input_key: Which key of the batch is encoded for it. Tasks with the same key share one forward pass.
            A value ``(B, V, C, X, Y, Z)`` holds V views a sample and is encoded as a batch of B * V.
        acts_on_window: True when the transform needs the whole window that was read from the scan; False
            when it works in place on the crop under ``image``.
        hides_voxels: True when the transform loses voxels of the crop. Such tasks act after those that only
            move voxels, so that all targets live in the moved frame.
        target_keys: Keys of the batch that hold the answer; a shuffled control permutes these.
        batch_keys: Every key of a transformed sample that must reach the batch, `input_key` and
            `target_keys` included.
        intensity_keys: Keys that hold intensities of the same crop as `input_key` and so get the same
            intensity augmentation, noise left out.
        key_metric: The metric that stands beside chance and trivial cue.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[TaskSettings]]
    input_key: ClassVar[str] = "image"
    acts_on_window: ClassVar[bool] = False
    hides_voxels: ClassVar[bool] = False
    target_keys: ClassVar[tuple[str, ...]]
    batch_keys: ClassVar[tuple[str, ...]]
    intensity_keys: ClassVar[tuple[str, ...]] = ()
    key_metric: ClassVar[str]

    def __init__(self, settings: SettingsT, context: TaskContext) -> None:
        self.settings = settings
        self.context = context

    @property
    @abstractmethod
    def window_size(self) -> tuple[int, int, int]:
        """Voxels along X, Y and Z that the transform wants to see of a scan; scans may hold fewer."""

    @abstractmethod
    def make_transform(self) -> "PretextTransform":
        """Return the MONAI dictionary transform that makes this task's inputs and targets."""

    @abstractmethod
    def make_head(self, encoder: Encoder) -> TaskHead:
        """Return a new head for the encoder's feature maps."""

    @abstractmethod
    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        """Return the loss of each sample ``(B,)``; 0 where the task does not apply to a sample."""

    @abstractmethod
    def metrics(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return named metrics of each sample ``(B,)``; NaN where the task does not apply to a sample."""

    @abstractmethod
    def trivial_cues(self, train: Iterable[Sample], val: Iterable[Sample]) -> CueReport:
        """Fit a simple model to cues that need no anatomy on ``train`` and score it on ``val``.

        Samples are drawn while they are gone through, once and the training ones first, because all at once
        they might take gigabytes: of each, only what the model needs is kept.

        Args:
            train: Transformed samples of training scans.
            val: Transformed samples of validation scans.
        """

    @abstractmethod
    def picture(self, sample: Sample, prediction: Prediction) -> Figure:
        """Draw one sample beside its prediction.

        Args:
            sample: A transformed sample, not batched, with ``window`` as it was read from the scan. A task
                that turned ``image`` says under ``orientation`` where its axes point to now, such as "LPS".
            prediction: This task's prediction for a batch of that one sample.
        """

    def facts(self) -> dict[str, float | int | str]:
        """Return what was settled from the data, such as the number of classes, for the run's record."""
        return {}


class Reseeded(Randomizable):
    """A source of randomness that is seeded anew for every crop.

    Draws what MONAI's own would, but seeds the generator that is there: to make another one each time takes
    fifty times as long.
    """

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        """Make the next draws a function of ``seed``, or take them from ``state``."""
        if seed is None or "R" not in vars(self):  # until then the generator is one that all share
            super().set_random_state(seed, state)
        else:
            self.R.seed(seed % 2**32)
        return self


class SeededCompose(Compose, Reseeded):
    """MONAI's composition, seeded quickly, and applied without asking at each step for lazy resampling."""

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Apply one transform after the other."""
        result = dict(data)
        for transform in self.transforms:
            result = transform(result)
        return result


class PretextTransform(MapTransform, Reseeded, ABC):
    """Base of the tasks' transforms: drawing parameters is apart from applying them.

    A subclass implements `draw`, which uses only ``self.R`` and the shape, and `apply`, a pure function of
    the volume and the drawn parameters, which can therefore be tested and replayed exactly.

    Attributes:
        takes_float16: Whether `apply` takes voxels of 16 bits, as they are stored, as well as float32. So it
            is where voxels are only moved; to compute with them, they are widened.
    """

    takes_float16: ClassVar[bool] = False

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Draw parameters once and apply them to each key.

        Args:
            data: Holds channel-first volumes ``(C, X, Y, Z)`` of one grid under this transform's keys.

        Returns:
            A copy of ``data`` with the transform's inputs and targets added.
        """
        result = dict(data)
        volumes = {str(key): self._as_taken(data[key]) for key in self.key_iterator(result)}
        if not volumes:  # the keys may be missing, if the caller allowed it
            return result
        parameters = self.draw(next(iter(volumes.values())).shape[1:])
        for key, volume in volumes.items():
            result.update(self.apply(volume, parameters, key=key))
        return result

    def _as_taken(self, volume: Any) -> np.ndarray:
        array = np.asarray(volume)
        return array if self.takes_float16 and array.dtype == np.float16 else widen(array)

    @abstractmethod
    def draw(self, shape: tuple[int, ...]) -> Any:
        """Draw this transform's parameters for a volume of ``shape`` (X, Y, Z) from ``self.R``."""

    @abstractmethod
    def apply(self, volume: np.ndarray, parameters: Any, *, key: str) -> dict[str, Any]:
        """Return the entries that ``parameters`` make of ``volume`` ``(C, X, Y, Z)``, changing nothing."""
