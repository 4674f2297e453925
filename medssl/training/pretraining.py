"""Pretraining: the pretext tasks in the training loop."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from torch import Tensor

from medssl.config.schema import PretrainConfig
from medssl.progress import Progress
from medssl.training.augment import IntensityAugmentation
from medssl.training.handlers.validation import EmbeddingHealth, PretextMeasure
from medssl.training.loop import Extent, TrainingResult, Watch, run_loop
from medssl.training.predict import predict_sample
from medssl.training.run_folder import RunFolder
from medssl.training.settings import StepSettings
from medssl.training.state import TrainingState, start_state
from medssl.training.stream import CropStream

if TYPE_CHECKING:
    from medssl.pretext.mixture import PretextMixture, PretextModel
    from medssl.pretext.task import CueReport


def train(
    model: "PretextModel",
    *,
    mixture: "PretextMixture",
    train_stream: CropStream,
    val_batches: Callable[[], Iterator[dict[str, Tensor]]] | None,
    picture_samples: Sequence[Mapping[str, Any]],
    config: PretrainConfig,
    run: RunFolder,
    cues: Mapping[str, "CueReport"],
    embedding_health: EmbeddingHealth,
    settings: StepSettings,
    progress: Progress,
    resume: bool,
    continue_command: str,
) -> TrainingResult:
    """Train ``model`` until its epochs are done, it stops improving, or someone asks it to stop.

    Args:
        model: Encoder and heads, newly initialised; holds the last weights afterwards. Those to keep are
            loaded with `medssl.training.checkpoint.load_model`.
        mixture: The tasks.
        train_stream: Makes the batches of any step.
        val_batches: Makes the same validation batches each time; None where no scan is held out, and then no
            epoch is the best.
        picture_samples: Transformed validation samples, not collated.
        config: Of the whole run.
        run: Where everything is written.
        cues: How far guessing and trivial cues get, by task name.
        embedding_health: Measures embeddings ``(N, D)``.
        settings: How a step is computed.
        progress: Who is told.
        resume: Whether to go on from ``last.pt``.
        continue_command: The command that continues this run.

    Raises:
        MedsslError: As `run_loop` tells.
    """
    state = start_state(model, settings=settings, config=config.optimiser)
    augment = IntensityAugmentation.of_tasks(mixture.tasks, config.augmentation)

    def prepare_batch(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        batch = augment(batch)
        return mixture.shuffle_targets(batch) if config.training.shuffle_targets else batch

    measure = None
    if val_batches is not None:
        measure = PretextMeasure(state, mixture, val_batches, embedding_health)
    return run_loop(
        state,
        objective=mixture,
        stream=train_stream,
        prepare_batch=prepare_batch,
        extent=Extent(train_stream.steps_per_epoch, config.training.epochs),
        watch=Watch(measure, lambda: _draw(state, mixture, picture_samples, train_stream), cues),
        config=config,
        run=run,
        progress=progress,
        resume=resume,
        continue_command=continue_command,
    )


def _draw(
    state: TrainingState,
    mixture: "PretextMixture",
    samples: Sequence[Mapping[str, Any]],
    stream: CropStream,
) -> Iterator[tuple[str, int, Figure]]:
    """Yield the picture of each task on each sample."""
    for number, sample in enumerate(samples, start=1):
        predictions = predict_sample(state.best_weights, stream.collate([sample]), state.settings)
        for task in mixture.tasks:
            yield task.name, number, task.picture(sample, predictions[task.name])
