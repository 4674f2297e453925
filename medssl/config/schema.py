"""What a run can be told, with every default and its reason."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Auto = Literal["auto"]
PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Size3D = tuple[PositiveInt, PositiveInt, PositiveInt]
Spacing3D = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class Section(BaseModel):
    """Base of every config section: unknown fields are errors, values cannot change later."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DataConfig(Section):
    """Which scans are used and how they are prepared, once, before training."""

    spacing_mm: Spacing3D | Auto = Field(
        "auto", description="Voxel spacing all scans are resampled to; auto plans it from the data."
    )
    modality: Literal["auto", "ct", "mr", "other"] = Field(
        "auto",
        description="Which intensity recipe applies; auto guesses for each scan and records the guess.",
    )
    ct_window_hu: tuple[float, float] = Field(
        (-1000.0, 1000.0), description="Hounsfield units mapped to 0 and 1 for CT."
    )
    percentiles: tuple[float, float] = Field(
        (0.5, 99.5), description="Foreground percentiles mapped to 0 and 1 for MR and other modalities."
    )
    crop_to_foreground: bool = Field(
        True, description="Cut away the empty border of each scan before storing it."
    )
    val_fraction: Fraction = Field(0.1, description="Share of the subjects held out for validation.")
    time_points: Literal["skip", "first", "mean", "all"] = Field(
        "skip",
        description="What a 4-D scan counts as: nothing, its first volume, their mean, or each volume as a "
        "scan of the same subject.",
    )
    max_scan_gb: PositiveFloat = Field(
        8.0,
        description="Size of a scan as float32 in GB above which it is skipped; preparing takes up to four "
        "times as much memory in each process.",
    )
    verify_store: bool = Field(
        True,
        description="Whether what lies in the store is compared with its checksum: while pretraining goes "
        "on, or when another command begins.",
    )
    compress: bool | Auto = Field(
        "auto",
        description="Whether voxels in the store are compressed; auto does so where it saves a quarter, as "
        "crops of plain ones are made 1.4 times as fast.",
    )
    prepare_workers: NonNegativeInt | Auto = Field(
        "auto", description="Processes that prepare scans; auto is one a core."
    )

    @field_validator("ct_window_hu", "percentiles")
    @classmethod
    def _check_ascending(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] < value[1]:
            raise ValueError("the first value must be below the second")
        return value


class EncoderConfig(Section):
    """Which network is pretrained."""

    name: Literal["residual_unet", "segresnet", "swin_unetr", "resnet18", "resnet50"] = "residual_unet"
    size: Literal["tiny", "small", "base", "large"] = Field(
        "small", description="tiny for tests, small for a laptop, base and large for a GPU."
    )


class AugmentationConfig(Section):
    """Random intensity changes made on the device to each crop; zero switches one off."""

    gamma: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="Exponent drawn from [1 - gamma, 1 + gamma]."
    )
    scale: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="Factor drawn from [1 - scale, 1 + scale]."
    )
    shift: NonNegativeFloat = Field(
        0.1, description="Offset drawn from [-shift, shift], in units of the [0, 1] intensity range."
    )
    noise: NonNegativeFloat = Field(
        0.02, description="Largest standard deviation of additive Gaussian noise, same units."
    )


class OptimiserConfig(Section):
    """AdamW, its schedule and the guards around a step."""

    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-2
    warmup_fraction: Fraction = Field(
        0.05, description="Share of all steps in which the learning rate rises linearly from zero."
    )
    clip_norm: PositiveFloat | None = Field(
        1.0, description="Gradient norm above which gradients are scaled down; null for no clipping."
    )
    accumulate: PositiveInt = Field(
        1,
        description="Forward passes whose gradients make one optimiser step; "
        "each takes batch_size / accumulate crops.",
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="Decay of an exponential moving average of the weights; null for none."
    )


class SpeedConfig(Section):
    """How fast a step is, not what it means; auto times a few steps and keeps the fastest."""

    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    channels_last: bool | Auto = "auto"
    compile: bool | Auto = Field(
        "auto", description="torch.compile; auto tries it on a GPU only, where its start-up pays."
    )
    loader_threads: PositiveInt | Auto = Field(
        "auto", description="Pairs of threads that make crops: one computes, one reads and fills the batch."
    )


class TrainingConfig(Section):
    """How long, how large, how often, and what to watch: what every kind of run has."""

    epochs: PositiveInt = 100
    batch_size: PositiveInt = Field(8, description="Crops in one optimiser step over all processes.")
    seed: NonNegativeInt = 0
    validate_every_epochs: PositiveInt = 1
    checkpoint_every_s: NonNegativeFloat = Field(
        120.0,
        description="Seconds between saves inside an epoch, each of which ends with one as well; "
        "0 saves after every step.",
    )
    log_every_steps: PositiveInt = 10
    pictures_every_epochs: PositiveInt = 5
    early_stop_epochs: PositiveInt | None = Field(
        None, description="Stop when the validation loss has not improved for this many epochs."
    )
    on_nan: Literal["stop", "skip"] = Field(
        "stop", description="What a NaN or infinite loss does: end the run, or leave out that step."
    )


class InitConfig(Section):
    """What the encoder begins with."""

    weights: str | None = Field(
        None, description="A file of medssl, nnssl, nnU-Net, MONAI or MedicalNet; null for random weights."
    )
    allow_partial: bool = Field(
        False, description="Begin with it even when less than 90 % of the encoder's parameters fit."
    )


class PretrainTrainingConfig(TrainingConfig):
    """Training on unlabelled scans: an epoch takes so many crops from each of them."""

    crops_per_scan: PositiveInt = Field(4, description="Crops drawn from each scan in one epoch.")
    val_crops_per_scan: PositiveInt = Field(2, description="Fixed crops drawn from each validation scan.")
    shuffle_targets: bool = Field(
        False, description="A control: each crop gets another crop's target, so nothing can be learned."
    )


class RunConfig(Section):
    """What every kind of run has."""

    data: DataConfig = DataConfig()
    crop_size: Size3D | Auto = Field(
        "auto",
        description="Voxels of one network input; one number means a cube; auto plans it from the data.",
    )
    max_crop_voxels: PositiveInt = Field(64**3, description="Largest crop that auto may choose.")
    encoder: EncoderConfig = EncoderConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    training: TrainingConfig = TrainingConfig()
    speed: SpeedConfig = SpeedConfig()

    @field_validator("crop_size", mode="before")
    @classmethod
    def _cube_from_one_number(cls, value: Any) -> Any:
        return (value,) * 3 if isinstance(value, int) and not isinstance(value, bool) else value


class PretrainConfig(RunConfig):
    """Everything a pretraining run depends on, apart from the folder of scans and the seedless machine.

    `tasks` maps a task's name to its settings; each task checks its own (see `medssl.pretext`).
    """

    tasks: dict[str, dict[str, Any]] = {"rotation": {}, "inpainting": {}, "position": {}}
    init: InitConfig = InitConfig()
    training: PretrainTrainingConfig = PretrainTrainingConfig()

    @field_validator("tasks", mode="before")
    @classmethod
    def _empty_settings_are_defaults(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: {} if settings is None else settings for name, settings in value.items()}
        return value
