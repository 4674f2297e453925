"""What a finished run leaves behind: the encoder with its provenance, the report and the model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl import __version__
from medssl.networks.weights import save_encoder
from medssl.pretext.task import CueReport
from medssl.report.html import write_report
from medssl.report.model_card import write_model_card
from medssl.scans.fingerprint import data_fingerprint
from medssl.training.environment import describe_environment
from medssl.training.run_folder import RunFolder
from medssl.workflows.cohort import Cohort
from medssl.workflows.setup import Network


def write_results(
    run: RunFolder,
    *,
    network: Network,
    cohort: Cohort,
    cues: Mapping[str, CueReport],
    counters: Mapping[str, Any],
    warnings: Sequence[str],
) -> None:
    """Write ``encoder.safetensors``, ``report.html`` and ``MODEL_CARD.md``.

    Args:
        run: Of which the metrics and pictures are read.
        network: With the weights to keep.
        cohort: What it learned from.
        cues: How far trivial cues get on each task.
        counters: Of the checkpoint that the weights come from.
        warnings: What needed attention while it ran.
    """
    provenance = describe_weights(network, cohort, step=counters["step"])
    metrics = metrics_at(run, step=counters["step"])
    save_encoder(run.encoder, network.model.encoder, provenance={**provenance, "metrics": metrics})
    write_model_card(run.model_card, provenance=provenance, metrics=metrics, cues=cues)
    write_report(
        run.report,
        title=run.path.name,
        summary=_summary(network, cohort, step=counters["step"]),
        metrics_csv=run.metrics,
        cues=cues,
        figures={
            path.stem.replace("_", ", scan "): path.read_bytes() for path in sorted(run.figures.glob("*.png"))
        },
        skipped=cohort.skipped,
        notes=warnings,
    )


def describe_weights(network: Network, cohort: Cohort, *, step: int) -> dict[str, Any]:
    """Return what a user of the weights must know, JSON-ready and naming nobody."""
    config = network.config
    return {
        "medssl_version": __version__,
        "architecture": network.model.encoder.architecture,
        "orientation": "RAS",
        "spacing_mm": list(cohort.scans[0].spacing_mm),
        "crop_size": list(network.mixture.crop_size),
        "intensity": config.data.model_dump(mode="json", include={"modality", "ct_window_hu", "percentiles"}),
        "data": config.data.model_dump(mode="json"),
        "init_from": Path(config.init.weights).name if config.init.weights else None,
        "tasks": config.tasks,
        "task_facts": {task.name: task.facts() for task in network.mixture.tasks},
        "seed": config.training.seed,
        "steps": step,
        "batch_size": config.training.batch_size,
        "versions": describe_environment()["packages"],
        "data_fingerprint": data_fingerprint(cohort.scans),
    }


def metrics_at(run: RunFolder, *, step: int) -> dict[str, float]:
    """Return the validation metrics of the epoch that ended with ``step``, empty where none did."""
    for row in run.read_metrics():
        if int(row["step"]) == step:
            return {name: float(value) for name, value in row.items() if name.startswith("val/") and value}
    return {}


def _summary(network: Network, cohort: Cohort, *, step: int) -> dict[str, Any]:
    encoder = network.config.encoder
    millions = sum(parameter.numel() for parameter in network.model.encoder.parameters()) / 1e6
    crop = " x ".join(map(str, network.mixture.crop_size))
    spacing = " x ".join(f"{mm:g}" for mm in cohort.scans[0].spacing_mm)
    return {
        "scans": f"{len(cohort.train)} to train on, {len(cohort.val)} of other subjects to validate",
        "skipped": f"{len(cohort.skipped)} files",
        "encoder": f"{encoder.name} {encoder.size}, {millions:.1f} M parameters",
        "tasks": ", ".join(task.name for task in network.mixture.tasks),
        "crop": f"{crop} voxels of {spacing} mm",
        "weights from step": step,
        "seed": network.config.training.seed,
    }
