"""What can be said of a fine-tuned model without naming anybody."""

from collections.abc import Sequence
from typing import Any

from medssl import __version__
from medssl.config.finetune_schema import FinetuneConfig
from medssl.finetune.classification import Classification
from medssl.finetune.goal import Goal, Size3D
from medssl.finetune.segmentation import Segmentation
from medssl.finetune.training import Start
from medssl.finetune.transfer import Pretrained
from medssl.scans.cases import PreparedCase
from medssl.scans.fingerprint import data_fingerprint
from medssl.training.environment import describe_environment
from medssl.workflows.labelled import Labelled


def describe_model(
    config: FinetuneConfig,
    *,
    labelled: Labelled,
    pretrained: Pretrained | None,
    start: Start,
    train: Sequence[PreparedCase],
    unlabelled: Sequence[PreparedCase],
    crop_size: Size3D,
    goal: Goal,
) -> dict[str, Any]:
    """Return what a user of the weights must know, JSON-ready and naming nobody."""
    keep = ("tasks", "seed", "steps", "data_fingerprint", "medssl_version")
    used = None if config.transfer.mode == "from_scratch" else pretrained
    return {
        "medssl_version": __version__,
        "goal": goal.describe(),
        "is_linear": config.transfer.mode == "linear_probe",
        "channel_names": list(labelled.dataset.channel_names),
        "orientation": "RAS",
        "spacing_mm": list(labelled.spacing_mm),
        "crop_size": list(crop_size),
        "data": labelled.data.model_dump(mode="json", exclude={"prepare_workers"}),
        "transfer": config.transfer.model_dump(mode="json"),
        "pretraining": {key: used.provenance[key] for key in keep} if used else None,
        "unlabelled": {"method": config.unlabelled.method, "scans": len(unlabelled)} if unlabelled else None,
        "loaded": {part: report.summary() for part, report in start.loads.items()},
        "seed": config.training.seed,
        "steps": config.training.epochs * config.training.steps_per_epoch,
        "batch_size": config.training.batch_size,
        "versions": describe_environment()["packages"],
        "data_fingerprint": data_fingerprint(train),
    }


def goal_words(goal: Goal) -> str:
    """Return what a goal is, at the beginning of a sentence."""
    if isinstance(goal, Classification):
        known = [f"and {covariate.column}" for covariate in goal.covariates]
        targets = ", ".join(target.name for target in goal.targets)
        return " ".join([f"Classification of {targets} from the scan", *known])
    assert isinstance(goal, Segmentation)
    return f"Segmentation of {', '.join(goal.class_names[value] for value in goal.classes[1:])}"


def plain_goal(goal: Goal) -> dict[str, Any]:
    """Return what a goal predicts as names and lists of names."""
    if isinstance(goal, Classification):
        covariates = [covariate.column for covariate in goal.covariates]
        classes = {target.name: list(target.classes) for target in goal.targets}
        return {**classes, **({"covariates": covariates} if covariates else {})}
    assert isinstance(goal, Segmentation)
    return {str(value): name for value, name in goal.class_names.items()}
