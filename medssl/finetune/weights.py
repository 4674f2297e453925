"""A fine-tuned network on disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.errors import CheckpointError, UsageError
from medssl.finetune.goal import Goal
from medssl.finetune.goals import rebuild_goal
from medssl.finetune.model import FinetuneModel
from medssl.networks.build import rebuild_encoder
from medssl.networks.provenance import read_provenance
from medssl.networks.weights import load_weights, read_weights, save_weights

MODEL = "model.safetensors"


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned network.

    Attributes:
        model: With its weights, in evaluation mode.
        goal: What it is for.
        provenance: What its file says of itself.
    """

    model: FinetuneModel
    goal: Goal
    provenance: Mapping[str, Any]


def save_model(path: Path, model: FinetuneModel, *, goal: Goal, provenance: Mapping[str, Any]) -> None:
    """Write a network as safetensors, whole or not at all.

    Args:
        path: The file; its folder must exist.
        model: What to write.
        goal: What it is for; goes into the provenance.
        provenance: What JSON can hold; must tell ``is_linear``, whether the head is one linear layer.
    """
    described = {**provenance, "architecture": model.encoder.architecture, "goal": goal.describe()}
    save_weights(path, model, provenance=described)


def load_model(path: Path) -> Finetuned:
    """Return the network that `save_model` wrote.

    Raises:
        CheckpointError: The file is damaged, of another kind, or does not hold what its description says.
    """
    provenance = read_provenance(path)
    if "goal" not in provenance:
        raise CheckpointError(
            f"{path} holds an encoder without a head: fine-tune it first, with medssl finetune."
        )
    goal = rebuild_goal(provenance["goal"])
    encoder = rebuild_encoder(provenance["architecture"])
    head = goal.make_head(encoder, is_linear=provenance["is_linear"])
    model = FinetuneModel(encoder, head, name=goal.name)
    report = load_weights(model, read_weights(path), allow_partial=True)
    if report.adapted or report.missing or report.unused:
        raise CheckpointError(f"{path} does not hold the network it describes: {report.summary()}")
    model.eval().requires_grad_(False)
    return Finetuned(model, goal, provenance)


def find_models(source: Path) -> list[Path]:
    """Return the weights files of a run: one, or one a fold; or the file itself.

    Raises:
        UsageError: If there is none.
    """
    if not source.is_dir():
        return [source]
    found = [path for path in (source / MODEL, *sorted(source.glob(f"fold_*/{MODEL}"))) if path.exists()]
    if not found:
        raise UsageError(
            f"{source} holds no {MODEL}: finish the run first, or name a run of medssl finetune."
        )
    return found
