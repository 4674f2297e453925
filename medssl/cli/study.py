"""medssl study: does pretraining help, and how many labels is it worth?"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.console import command_progress, print_line, print_rows
from medssl.cli.finetune import DEFAULT_PRESET, as_overrides, config_of
from medssl.cli.large_imports import large_imports
from medssl.cli.options import Device, Seed, Settings, Store
from medssl.errors import UsageError

MODES = {
    "pretrained": "full",
    "scratch": "from_scratch",
    "frozen": "frozen",
    "linear_probe": "linear_probe",
    "covariates": "covariates_only",
}
COVARIATES = "covariates"
TEACHERS = ("mean_teacher", "pseudo_labels")


def study(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA", help="Labelled data as for medssl finetune, with test cases set aside."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to create.", metavar="REPORT")] = None,
    encoder: Annotated[
        Path | None,
        typer.Option(help="Run of medssl pretrain, or its encoder.safetensors.", metavar="RUN"),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Numbers of labelled cases, such as 2,4,8,all.", metavar="N,N,...")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Labelled subsets at each number of labels.")] = None,
    arms: Annotated[
        str | None,
        typer.Option(
            help="What to compare: pretrained, scratch, frozen, linear_probe, covariates alone, or "
            "NAME=RUN for another encoder. After a name, +covariates gives the classifier the covariates, "
            "and +mean_teacher or +pseudo_labels also uses the images of cases whose labels it lacks.",
            metavar="ARM,ARM,...",
        ),
    ] = None,
    goal: Annotated[str | None, typer.Option(help="segmentation (if left out) or classification.")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="What to tell apart, as in medssl finetune; makes it classification."),
    ] = None,
    covariate: Annotated[
        list[str] | None, typer.Option(help="Column of numbers for arms with +covariates; repeatable.")
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
        Path | None, typer.Option(help="Folder of a study to go on with.", metavar="REPORT")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained and what it costs; train nothing.")
    ] = False,
) -> None:
    """Compare pretrained and from scratch at several numbers of labels, with intervals."""
    if resume is not None:
        if data or out or encoder or arms or config or dry_run:
            raise UsageError(
                "Leave out DATA, --out, --encoder, --arms, --config and --dry-run: --resume goes on as the "
                "study says."
            )
        origin: str | Path = config_of(resume)
    elif data is None or (out is None and not dry_run):
        raise UsageError("Name the labelled data and, with --out, the folder to make.")
    else:
        origin = config or DEFAULT_PRESET
    overrides = as_overrides(
        {
            "goal": goal or ("classification" if target else None),
            "cases.targets": target,
            "cases.covariates": covariate,
            "study.labels": parse_labels(labels) if labels else None,
            "study.seeds": seeds,
            "study.arms": parse_arms(arms) if arms else None,
            "training.seed": seed,
            "speed.device": device,
        }
    )
    from medssl.config.finetune_schema import StudyConfig  # pydantic takes 0.3 s
    from medssl.config.load import load_run_config

    resolved = load_run_config(StudyConfig, origin, [*overrides, *(settings or [])])
    with large_imports():
        from medssl.workflows.study import study as run_study
    from medssl.workflows.study_cost import estimate

    if dry_run:
        assert data is not None
        print_rows(estimate(data, config=resolved, encoder=encoder, progress=command_progress()))
        return
    place = resume or out
    assert place is not None
    outcome = run_study(
        data,
        config=resolved,
        out=place,
        encoder=encoder,
        store=store,
        resume=resume is not None,
        progress=command_progress(),
        command=["medssl", *sys.argv[1:]],
    )
    print_rows(outcome.table)
    for sentence in outcome.sentences:
        print_line(sentence)
    print_rows([("report", str(outcome.report)), ("figure", str(place / "study.png"))])


def parse_labels(text: str) -> list[int | str]:
    """Return label budgets; what is no number is left for the schema to refuse, or is "all"."""
    return [int(part) if part.strip().isdigit() else part.strip() for part in text.split(",")]


def parse_arms(text: str) -> dict[str, dict[str, object]]:
    """Return the arms that ``--arms`` names, as the schema takes them.

    Raises:
        UsageError: If an arm is neither known nor an encoder of its own.
    """
    arms: dict[str, dict[str, object]] = {}
    for part in text.split(","):
        name, _, run = part.strip().partition("=")
        mode, *extras = name.split("+")
        unknown = set(extras) - {COVARIATES, *TEACHERS}
        if unknown:
            raise UsageError(f"Arm {name!r}: after + comes {COVARIATES} or {' or '.join(TEACHERS)}.")
        if name in arms or not mode or "/" in name:
            raise UsageError(f"Arm {name!r}: each arm needs a name of its own, which can name a folder.")
        if not run and mode not in MODES:
            raise UsageError(
                f"There is no arm {name!r}: choose from {', '.join(MODES)}, or write {name}=RUN for an "
                "encoder of its own."
            )
        arms[name] = {
            "encoder": run or None,
            "mode": MODES.get(mode, "full"),
            "has_covariates": COVARIATES in (mode, *extras),
            "unlabelled": next((extra for extra in extras if extra in TEACHERS), "none"),
        }
    return arms
