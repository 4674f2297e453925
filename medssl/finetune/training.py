"""One fine-tuning, from labelled cases and an encoder to a trained network."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from medssl.config.finetune_schema import FinetuneConfig
from medssl.errors import UsageError
from medssl.finetune.consistency import MixedStream, TaughtSegmentation, augment_student
from medssl.finetune.geometry import make_transform
from medssl.finetune.goal import Goal, Size3D
from medssl.finetune.layers import plan_layers
from medssl.finetune.model import FinetuneModel
from medssl.finetune.segmentation import Segmentation, SegmentationHead
from medssl.finetune.transfer import Pretrained
from medssl.networks.build import build_encoder
from medssl.networks.weights import LoadReport
from medssl.progress import Progress
from medssl.scans.cases import PreparedCase
from medssl.training.augment import IntensityAugmentation
from medssl.training.checkpoint import load_model
from medssl.training.devices import choose_device, choose_loader_threads
from medssl.training.loop import Extent, TrainingResult, Watch, run_loop
from medssl.training.precision import choose_step_settings
from medssl.training.run_folder import RunFolder
from medssl.training.seeds import derive_seed
from medssl.training.settings import StepSettings, recorded_settings
from medssl.training.state import TrainingState, start_state
from medssl.training.stream import CropStream


@dataclass(frozen=True)
class Start:
    """A network before its first step.

    Attributes:
        model: Encoder and head.
        loads: What was loaded into which part, by its name; empty from scratch.
    """

    model: FinetuneModel
    loads: dict[str, LoadReport]


def build_model(
    goal: Goal,
    *,
    pretrained: Pretrained | None,
    config: FinetuneConfig,
    in_channels: int,
    crop_size: Size3D,
    spacing_mm: tuple[float, float, float],
) -> Start:
    """Build the network that a run starts from; what is not loaded depends on the run's seed alone.

    Args:
        goal: What it is for.
        pretrained: Whose architecture it has and, unless trained from scratch, whose weights; None builds
            the encoder that the config names.
        config: Of the run.
        in_channels: Images of a case.
        crop_size: Voxels of a crop, for which a new encoder is planned.
        spacing_mm: Of the prepared cases, likewise.
    """
    transfer = config.transfer
    torch.manual_seed(derive_seed("weights", config.training.seed))
    loads = {}
    if pretrained is None:
        encoder = build_encoder(
            config.encoder.name,
            config.encoder.size,
            in_channels=in_channels,
            crop_size=crop_size,
            spacing_mm=spacing_mm,
        )
    elif transfer.mode == "from_scratch":
        encoder = pretrained.build_encoder(in_channels=in_channels)
    else:
        encoder, loads["encoder"] = pretrained.load_encoder(in_channels=in_channels)
    torch.manual_seed(derive_seed("head", config.training.seed))
    head = goal.make_head(encoder, is_linear=transfer.mode == "linear_probe")
    if pretrained and transfer.carry_decoder and transfer.mode in ("full", "frozen"):
        report = pretrained.load_decoder(head.decoder) if isinstance(head, SegmentationHead) else None
        loads |= {"decoder": report} if report else {}
    is_frozen = transfer.mode in ("frozen", "linear_probe")
    return Start(FinetuneModel(encoder, head, name=goal.name, is_frozen=is_frozen), loads)


def open_stream(
    cases: Sequence[PreparedCase],
    *,
    goal: Goal,
    config: FinetuneConfig,
    crop_size: Size3D,
    progress: Progress,
) -> CropStream[PreparedCase]:
    """Return the endless batches of a run."""
    keys = ["image", *goal.label_keys]
    return CropStream(
        cases,
        read_window=lambda case, *, rng: goal.read(case, crop_size, rng),
        transform=make_transform(
            keys,
            crop_size=crop_size,
            spacing_mm=cases[0].spacing_mm,
            spatial=config.spatial,
            class_names=goal.side_names,
        ),
        batch_keys=goal.batch_keys,
        batch_size=config.training.batch_size,
        crops_per_scan=1,
        seed=config.training.seed,
        threads=choose_loader_threads(config.speed.loader_threads),
        on_unreadable=lambda case, reason: progress.warn(
            f"{case.record.path} is left out from here on: {reason}"
        ),
    )


def settle_step(
    run: RunFolder,
    model: FinetuneModel,
    stream: CropStream[PreparedCase],
    *,
    goal: Goal,
    config: FinetuneConfig,
) -> StepSettings:
    """Return how steps are computed: as the run did so far, or the fastest that the config leaves open."""
    device = choose_device(config.speed.device)
    record = run.read_status().get("step_settings")
    recorded = recorded_settings(record, speed=config.speed, device=device)
    return recorded or fastest_settings(model, first_batch(stream), goal=goal, config=config)


def fastest_settings(
    model: FinetuneModel, batch: dict[str, Tensor], *, goal: Goal, config: FinetuneConfig
) -> StepSettings:
    """Return the fastest settings that the config leaves open, by timing a few steps."""
    settings, _ = choose_step_settings(
        model,
        batch,
        objective=goal,
        speed=config.speed,
        optimiser=config.optimiser,
        device=choose_device(config.speed.device),
        total_steps=config.training.steps_per_epoch * config.training.epochs,
    )
    return settings


def first_batch(stream: CropStream[PreparedCase]) -> dict[str, Tensor]:
    """Return the batch of step 0."""
    with closing(stream.batches(0)) as batches:
        return next(batches)


def train(
    model: FinetuneModel,
    stream: CropStream[PreparedCase],
    *,
    goal: Goal,
    val: Sequence[PreparedCase],
    unlabelled: Sequence[PreparedCase],
    crop_size: Size3D,
    config: FinetuneConfig,
    settings: StepSettings,
    run: RunFolder,
    progress: Progress,
    resume: bool,
    continue_command: str,
) -> TrainingResult:
    """Train a network; it holds the weights to keep afterwards.

    Those are of the epoch with the best validation, or without held-out cases of the last one.

    Args:
        model: At its start.
        stream: Of the training cases.
        goal: What it is for.
        val: Cases of other subjects, perhaps none.
        unlabelled: Scans that take part without labels; none where the config leaves them out.
        crop_size: Voxels of a crop.
        config: Of the run.
        settings: How a step is computed.
        run: Where everything is written.
        progress: Who is told.
        resume: Whether to go on from the last checkpoint.
        continue_command: The command that continues this run.

    Raises:
        MedsslError: As `run_loop` tells.
    """
    training = config.training
    total_steps = training.steps_per_epoch * training.epochs
    state = start_state(
        model,
        settings=settings,
        config=_with_teacher(config).optimiser,
        choose_layers=plan_layers(config.transfer, total_steps=total_steps),
    )
    augment = IntensityAugmentation(config.augmentation, inputs=("image",), targets=())
    course: dict[str, Any] = {"objective": goal, "stream": stream, "prepare_batch": augment}
    if is_taught(config):
        assert isinstance(goal, Segmentation)
        others = _open_unlabelled(
            unlabelled, goal=goal, config=config, crop_size=crop_size, progress=progress
        )
        course = {
            "objective": TaughtSegmentation(goal, state, config.unlabelled, total_steps=total_steps),
            "stream": MixedStream(stream, others),
            "prepare_batch": partial(augment_student, augment),
        }
    result = run_loop(
        state,
        **course,
        extent=Extent(training.steps_per_epoch, training.epochs),
        watch=Watch(
            measure=(lambda: measure(state, goal, val, crop_size=crop_size)) if val else None,
            draw=None,
            cues={},
        ),
        config=config,
        run=run,
        progress=progress,
        resume=resume,
        continue_command=continue_command,
    )
    kept = run.best_checkpoint if run.best_checkpoint.exists() else run.last_checkpoint
    load_model(kept, model)
    return result


def is_taught(config: FinetuneConfig) -> bool:
    """Return whether scans without labels take part."""
    return config.unlabelled.method != "none"


def _with_teacher(config: FinetuneConfig) -> FinetuneConfig:
    """Return the config with a moving average, which is the teacher, where one is needed."""
    if not is_taught(config) or config.optimiser.ema_decay is not None:
        return config
    averaged = config.optimiser.model_copy(update={"ema_decay": config.unlabelled.ema_decay})
    return config.model_copy(update={"optimiser": averaged})


def _open_unlabelled(
    cases: Sequence[PreparedCase],
    *,
    goal: Goal,
    config: FinetuneConfig,
    crop_size: Size3D,
    progress: Progress,
) -> CropStream[PreparedCase]:
    """Return batches of cases whose labels are not looked at."""
    if not cases:
        raise UsageError(f"unlabelled.method is {config.unlabelled.method}: name scans without labels.")
    blind = [replace(case, label_path=None, class_voxels={}) for case in cases]
    training = config.training.model_copy(
        update={
            "batch_size": config.unlabelled.batch_size,
            "seed": derive_seed("unlabelled", config.training.seed),
        }
    )
    own = config.model_copy(update={"training": training})
    return open_stream(blind, goal=goal, config=own, crop_size=crop_size, progress=progress)


def measure(
    state: TrainingState, goal: Goal, cases: Sequence[PreparedCase], *, crop_size: Size3D
) -> dict[str, float]:
    """Return the metrics of whole held-out cases with the weights of the moment."""
    model: Any = state.best_weights
    model.eval()

    def predicted() -> Iterator[tuple[PreparedCase, Tensor]]:
        for case in cases:
            yield case, goal.predict(model, case, crop_size=crop_size, settings=state.settings, flips=False)

    values = goal.measure(predicted())
    model.train()
    return values
