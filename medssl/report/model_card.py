"""A model card: what a file of weights is, what it was made from, and what it is not for.

Follows the sections of Mitchell et al., "Model cards for model reporting", FAT* 2019; those for an
encoder as far as they apply to what makes no predictions of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.atomic import write_text
from medssl.pretext.task import CueReport
from medssl.report.finetune import Table
from medssl.report.metrics import Metrics, measure_words
from medssl.report.templates import render
from medssl.report.verdict import judge, show

SECTIONS = {
    "Data": ("data_fingerprint",),
    "Preparation": ("orientation", "spacing_mm", "crop_size", "intensity"),
    "Architecture": ("architecture",),
    "Training": ("tasks", "task_facts", "steps", "batch_size", "seed"),
    "Versions": ("versions",),
}
"""Headings, and which entries of the provenance stand below each."""

FINETUNED_SECTIONS = {
    "Answers": ("goal",),
    "Data": ("data_fingerprint",),
    "Preparation": ("channel_names", "orientation", "spacing_mm", "crop_size", "data"),
    "Architecture": ("architecture",),
    "Pretraining": ("pretraining",),
    "Training": ("transfer", "loaded", "unlabelled", "steps", "batch_size", "seed"),
    "Versions": ("versions",),
}
"""The same of a fine-tuned network."""


def write_model_card(
    path: Path, *, provenance: Mapping[str, Any], metrics: Mapping[str, Any], cues: Mapping[str, CueReport]
) -> None:
    """Write the card of an encoder as Markdown.

    Args:
        path: The Markdown file.
        provenance: What lies beside the weights in ``encoder.safetensors``. Entries named in `SECTIONS` are
            listed, those that are missing left out. It must name no person and no file.
        metrics: Validation figures by column of metrics.csv, such as ``val/rotation/accuracy``.
        cues: Trivial-cue report of each task by name.
    """
    figures = Metrics([{column: str(value) for column, value in metrics.items()}])
    values = {name: figures.curve(f"val/{name}/{cue.metric}").last for name, cue in cues.items()}
    card = render(
        "model_card.md",
        architecture=provenance.get("architecture", {}),
        crop_size=provenance.get("crop_size", (64, 64, 64)),
        sections={heading: _lines(provenance, keys) for heading, keys in SECTIONS.items()},
        tasks=[_row(name, cue, values[name]) for name, cue in cues.items()],
        verdicts=[judge(name, cue, values[name]).sentence for name, cue in cues.items()],
    )
    write_text(path, card)


def write_finetuned_card(
    path: Path,
    *,
    provenance: Mapping[str, Any],
    sentences: Sequence[str],
    scores: Mapping[str, Table],
    n_models: int,
) -> None:
    """Write the card of a fine-tuned network as Markdown.

    Args:
        path: The Markdown file.
        provenance: What lies beside the weights in ``model.safetensors``, of the first model where there are
            several, and ``goal`` as names alone. It must name no person and no file.
        sentences: How the network came about and how well it does.
        scores: Of the test cases, by question; none without test cases.
        n_models: Whose predictions are averaged.
    """
    card = render(
        "finetuned_card.md",
        architecture=provenance["architecture"],
        crop_size=provenance["crop_size"],
        channels=len(provenance["channel_names"]),
        sections={heading: _lines(provenance, keys) for heading, keys in FINETUNED_SECTIONS.items()},
        sentences=sentences,
        scores=scores,
        n_models=n_models,
    )
    write_text(path, card)


def _row(name: str, cue: CueReport, value: float | None) -> tuple[str, ...]:
    network = "not measured" if value is None else show(cue, value)
    return name, measure_words(cue.metric), network, show(cue, cue.trivial), show(cue, cue.chance)


def _lines(provenance: Mapping[str, Any], keys: tuple[str, ...]) -> list[str]:
    given = {key: provenance[key] for key in keys if provenance.get(key) not in (None, {})}
    # A heading needs no bullet of the same name below it.
    is_one_mapping = len(keys) == 1 and isinstance(given.get(keys[0]), Mapping)
    return list(_bullets(given[keys[0]] if is_one_mapping else given))


def _bullets(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in values.items():
        words = str(name).replace("_", " ")
        if isinstance(value, Mapping) and value:
            yield f"{indent}- {words}:"
            yield from _bullets(value, indent + "  ")
        elif isinstance(value, list | tuple):
            yield f"{indent}- {words}: {', '.join(map(str, value))}"
        else:
            yield f"{indent}- {words}: {value}"
