"""medssl finetune: labelled scans and a pretrained encoder in, a working model out."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medssl.cli.console import command_progress, print_rows
from medssl.cli.large_imports import large_imports
from medssl.cli.options import Device, Seed, Settings, Store
from medssl.errors import UsageError

if TYPE_CHECKING:
    from medssl.config.finetune_schema import FinetuneConfig

DEFAULT_PRESET = "finetune"


def finetune(
    goal: Annotated[
        str | None, typer.Argument(metavar="segmentation|classification", help="What the model is for.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="A Decathlon dataset.json, an nnU-Net raw folder, or a CSV with image and label.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to create.", metavar="RUN")] = None,
    encoder: Annotated[
        Path | None,
        typer.Option(
            help="Run of medssl pretrain, or its encoder.safetensors; none: from scratch.", metavar="RUN"
        ),
    ] = None,
    labels: Annotated[
        int | None,
        typer.Option(help="Labelled cases to learn from; all but test cases if left out."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="What to tell apart: a column of the CSV or a comparison such as 'texture<5'; repeatable."
        ),
    ] = None,
    covariate: Annotated[
        list[str] | None,
        typer.Option(help="Column of numbers given to the classifier beside the scan; repeatable."),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of the CSV that names the label map.", metavar="NAME")
    ] = None,
    unlabelled: Annotated[
        Path | None,
        typer.Option(help="Scans without labels that take part as well (pseudo-labels).", metavar="SCANS"),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="The encoder's network, but random weights.")
    ] = False,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Leave the encoder as it is; train the decoder or head.")
    ] = False,
    linear_probe: Annotated[
        bool, typer.Option("--linear-probe", help="One linear layer on the frozen encoder.")
    ] = False,
    folds: Annotated[
        int | None, typer.Option(help="Models to train, each with other subjects held out.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help=f"Preset or YAML file; {DEFAULT_PRESET} if left out.", metavar="NAME|FILE"),
    ] = None,
    seed: Seed = None,
    device: Device = None,
    settings: Settings = None,
    store: Store = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder to go on with, instead of DATA and --out.", metavar="RUN")
    ] = None,
) -> None:
    """Fine-tune a pretrained encoder on labelled scans, and score it on the test cases."""
    if resume is not None:
        if goal or data or out or encoder or config:
            raise UsageError(
                "Leave out goal, DATA, --out, --encoder and --config: --resume goes on as the run says."
            )
        origin: str | Path = config_of(resume)
    elif goal is None or data is None or out is None:
        raise UsageError(
            "Name the goal (segmentation or classification), the labelled data and, with --out, the run "
            "folder to make."
        )
    else:
        origin = config or DEFAULT_PRESET
    mode = _mode(from_scratch=from_scratch, frozen=frozen, linear_probe=linear_probe)
    if encoder is None and resume is None and mode in ("frozen", "linear_probe"):
        raise UsageError(f"Name the encoder to probe with --encoder; without one, {mode} has no meaning.")
    overrides = as_overrides(
        {
            "goal": goal,
            "cases.labels": labels,
            "cases.targets": target,
            "cases.covariates": covariate,
            "cases.label_column": label_column,
            "cases.folds": folds,
            "unlabelled.source": str(unlabelled.absolute()) if unlabelled else None,
            "unlabelled.method": "pseudo_labels" if unlabelled else None,
            "transfer.mode": mode,
            "training.seed": seed,
            "speed.device": device,
        }
    )
    from medssl.config.finetune_schema import FinetuneConfig  # pydantic takes 0.3 s
    from medssl.config.load import load_run_config

    resolved = load_run_config(FinetuneConfig, origin, [*overrides, *(settings or [])])
    _run(data, config=resolved, out=resume or out, encoder=encoder, store=store, resume=resume is not None)


def _run(
    data: Path | None,
    *,
    config: "FinetuneConfig",
    out: Path | None,
    encoder: Path | None,
    store: Path | None,
    resume: bool,
) -> None:
    with large_imports():
        from medssl.workflows.finetune import finetune as finetune_model

    assert out is not None
    outcome = finetune_model(
        data,
        config=config,
        out=out,
        encoder=encoder,
        store=store,
        resume=resume,
        progress=command_progress(),
        command=["medssl", *sys.argv[1:]],
    )
    print_rows([*(("model", str(model)) for model in outcome.models), ("report", str(out / "report.html"))])


def config_of(run: Path) -> Path:
    """Return the config of a run folder."""
    if not (run / "config.yaml").is_file():
        raise UsageError(f"{run} is not a run folder: it holds no config.yaml.")
    return run / "config.yaml"


def _mode(**modes: bool) -> str | None:
    chosen = [name for name, is_chosen in modes.items() if is_chosen]
    if len(chosen) > 1:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in chosen)
        raise UsageError(f"{flags} exclude one another; keep one.")
    return chosen[0] if chosen else None


def as_overrides(fields: dict[str, object]) -> list[str]:
    """Return the assignments that flags are short for; JSON is YAML, so any text passes."""
    return [f"{field}={json.dumps(value)}" for field, value in fields.items() if value not in (None, [])]
