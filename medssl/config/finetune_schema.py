"""What fine-tuning and a study can be told, with every default and its reason."""

from typing import Annotated, Literal

from pydantic import Field

from medssl.config.schema import (
    Auto,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    RunConfig,
    Section,
    TrainingConfig,
)

TransferMode = Literal["full", "frozen", "linear_probe", "from_scratch"]


class TransferConfig(Section):
    """What becomes of the pretrained encoder."""

    mode: TransferMode = Field(
        "full",
        description="full trains everything; frozen the decoder or head alone; linear_probe one linear layer "
        "on the frozen features; from_scratch everything from random weights.",
    )
    freeze_fraction: Fraction = Field(
        0.25,
        description="Share of the steps at the start in which a pretrained encoder is frozen; a quarter "
        "measured better than none (bin/evidence transfer).",
    )
    encoder_rate: Annotated[float, Field(gt=0, le=10)] = Field(
        1.0, description="Learning rate of a pretrained encoder's coarsest level as a multiple of the head's."
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Factor of the learning rate from each level of a pretrained encoder to the finer."
    )
    carry_decoder: bool = Field(
        True,
        description="Begin with the decoder of correspondence, location or inpainting, where pretraining "
        "trained one.",
    )


class SpatialConfig(Section):
    """Random changes of geometry, made alike to image and label."""

    probability: Annotated[float, Field(ge=0, le=1)] = Field(
        0.7, description="Share of the crops that are turned and scaled."
    )
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = Field(
        20.0, description="Largest turn about each axis; only in the finest plane where slices are thick."
    )
    scale: Fraction = Field(0.2, description="Factor drawn from [1 - scale, 1 + scale].")
    flip_axes: tuple[Literal["x", "y", "z"], ...] | Auto = Field(
        "auto",
        description="Axes flipped half of the time; auto is x, left-right, unless a class is named after a "
        "side.",
    )


class UnlabelledConfig(Section):
    """How scans without labels take part in fine-tuning, for segmentation."""

    method: Literal["none", "mean_teacher", "pseudo_labels"] = Field(
        "none",
        description="none leaves them out; mean_teacher asks for the probabilities of a slowly moving "
        "average of the network; pseudo_labels for the classes that average is sure of.",
    )
    source: str | None = Field(
        None, description="Folder, file or CSV of those scans; a study takes the images of its labelled pool."
    )
    weight: NonNegativeFloat = Field(1.0, description="Of their loss beside that of the labelled crops.")
    ramp_fraction: Fraction = Field(
        0.3, description="Share of the steps in which that weight rises, while the average learns."
    )
    batch_size: PositiveInt = Field(
        2, description="Crops of unlabelled scans in a step, beside the labelled."
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.99, description="Decay of the average where optimiser.ema_decay sets none."
    )
    confidence: Fraction = Field(
        0.9, description="Probability from which a class counts as sure, for pseudo_labels."
    )


class FinetuneTrainingConfig(TrainingConfig):
    """Training on labelled scans: an epoch is a number of steps, however few scans there are."""

    epochs: PositiveInt = 20
    batch_size: PositiveInt = Field(2, description="Crops in one optimiser step.")
    steps_per_epoch: PositiveInt = Field(25, description="Optimiser steps in an epoch.")
    foreground_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="Share of the crops placed around a labelled voxel, its class drawn uniformly."
    )
    checkpoint_every_s: NonNegativeFloat = 300.0


class FinetuneDataConfig(Section):
    """Which labelled scans are used; how they are prepared is the encoder's to say."""

    label_column: str = Field(
        "label", description="Column of a table that names the label map, for segmentation."
    )
    targets: tuple[str, ...] = Field(
        ("label",),
        description="What to tell apart, for classification: a column of the table, or a comparison such as "
        "texture<5.",
    )
    covariates: tuple[str, ...] = Field(
        (), description="Columns of numbers, such as age, given to the classifier beside the scan."
    )
    labels: PositiveInt | None = Field(
        None, description="How many labelled cases to learn from; null for all that are not test cases."
    )
    val_fraction: Fraction = Field(
        0.2,
        description="Share of their subjects held out to choose the best epoch by; with 0 the last is kept.",
    )
    folds: PositiveInt = Field(1, description="Models to train, each with other subjects held out.")


class FinetuneConfig(RunConfig):
    """Everything a fine-tuning run depends on, apart from the labelled scans and the pretrained encoder.

    ``data``, ``crop_size`` and ``encoder`` are those of the pretrained encoder; what is set for them counts
    from scratch, and a ``crop_size`` in both cases.
    """

    goal: Literal["segmentation", "classification"] = "segmentation"
    cases: FinetuneDataConfig = FinetuneDataConfig()
    transfer: TransferConfig = TransferConfig()
    spatial: SpatialConfig = SpatialConfig()
    unlabelled: UnlabelledConfig = UnlabelledConfig()
    training: FinetuneTrainingConfig = FinetuneTrainingConfig()


class ArmConfig(Section):
    """One way of making a model, in a study."""

    encoder: str | None = Field(
        None, description="Run of pretraining or its weights; null for the encoder the study was given."
    )
    mode: Literal["full", "frozen", "linear_probe", "from_scratch", "covariates_only"] = Field(
        "full",
        description="As transfer.mode; covariates_only is a logistic regression without any scan.",
    )
    transfer: TransferConfig | None = Field(
        None, description="What becomes of the encoder; null for the study's own settings with this mode."
    )
    unlabelled: Literal["none", "mean_teacher", "pseudo_labels"] = Field(
        "none", description="How the pool's images without their labels take part."
    )
    has_covariates: bool = Field(
        False, description="Whether the classifier is given the covariates beside the scan."
    )


class StudySection(Section):
    """Which models a study compares, and how their learning rates are tuned."""

    arms: dict[str, ArmConfig] = Field(
        {"pretrained": ArmConfig(), "scratch": ArmConfig(mode="from_scratch")},
        description="Ways of making a model by name; scratch is what the others are compared with.",
    )
    labels: tuple[PositiveInt | Literal["all"], ...] = Field(
        (2, 4, 8, "all"), description="Numbers of labelled cases to learn from."
    )
    seeds: PositiveInt = Field(5, description="Labelled subsets, and models, at each of these numbers.")
    seeds_all: PositiveInt = Field(2, description="Models at all labels, where there is but one subset.")
    learning_rates: tuple[PositiveFloat, ...] = Field(
        (1e-3, 2e-3, 4e-3, 8e-3), description="Tried for each arm on the tuning cases."
    )
    tuning_cases: PositiveInt = Field(
        20, description="Labelled cases set aside to choose learning rates on; never learned from or tested."
    )
    tuning_seeds: PositiveInt = Field(1, description="Models a learning rate is judged by.")
    tune_at: tuple[PositiveInt, ...] | Auto = Field(
        "auto",
        description="Label numbers the rates are tuned at, the others taking that of the nearest; auto tunes "
        "at each.",
    )
    workers: PositiveInt | Auto = Field(
        "auto", description="Models trained at once; auto is one a GPU, or one a core."
    )


class StudyConfig(FinetuneConfig):
    """Everything a label-efficiency study depends on: the fine-tuning that all arms share, and the arms."""

    study: StudySection = StudySection()
