"""medssl pretrain: unlabelled scans in, a pretrained encoder out."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medssl.cli.console import command_progress, print_line, print_rows
from medssl.cli.large_imports import large_imports
from medssl.cli.options import Device, Seed, Settings, Store
from medssl.errors import SkippedScansError, UsageError

if TYPE_CHECKING:
    from medssl.config.schema import PretrainConfig

DEFAULT_PRESET = "laptop"
FLAG_FIELDS = {
    "encoder": "encoder.name",
    "init_from": "init.weights",
    "epochs": "training.epochs",
    "seed": "training.seed",
    "device": "speed.device",
}


def pretrain(
    source: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Scans: a folder of any depth, a file or a CSV.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to create.", metavar="RUN")] = None,
    config: Annotated[
        str | None,
        typer.Option(help=f"Preset or YAML file; {DEFAULT_PRESET} if left out.", metavar="NAME|FILE"),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Pretext tasks, such as rotation,inpainting,position.")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Network, such as residual_unet or swin_unetr.")] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(help="Weights to begin with, of medssl or another tool.", metavar="WEIGHTS"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs in all; may be raised on resume.")] = None,
    spacing: Annotated[
        str | None, typer.Option(help="Voxel spacing in mm, such as 1,1,1; or auto.", metavar="X,Y,Z")
    ] = None,
    seed: Seed = None,
    device: Device = None,
    settings: Settings = None,
    store: Store = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Run folder to go on with, instead of FOLDER and --out.", metavar="RUN"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 4 when scans were skipped.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and what it costs; write nothing.")
    ] = False,
) -> None:
    """Pretrain a 3D encoder on a folder of unlabelled scans."""
    if resume is not None:
        _refuse_with_resume(source, out=out, config=config, store=store, dry_run=dry_run or None)
    from medssl.config.load import load_config  # pydantic takes 0.3 s

    origin = _find_config(config, resume)
    flags = _flags_as_overrides(
        encoder=encoder,
        init_from=str(init_from.absolute()) if init_from else None,
        epochs=epochs,
        spacing=spacing,
        seed=seed,
        device=device,
    )
    resolved = load_config(origin, [*_select_tasks(origin, tasks), *flags, *(settings or [])])
    if resume is not None:
        _train(None, config=resolved, run=resume, store=None, is_resumed=True, strict=strict)
    elif source is not None and dry_run:
        _print_dry_run(source, config=resolved, out=out, store=store)
    elif source is not None and out is not None:
        _train(source, config=resolved, run=out, store=store, is_resumed=False, strict=strict)
    else:
        raise UsageError("Name the folder of scans and, with --out, the run folder to make.")


def print_results(run: Path) -> None:
    """Say where to look in a finished run folder."""
    print_rows(
        [
            ("encoder", str(run / "encoder.safetensors")),
            ("report", str(run / "report.html")),
            ("TensorBoard", f"tensorboard --logdir {shlex.quote(str(run / 'tensorboard'))}"),
        ]
    )


def _train(
    source: Path | None,
    *,
    config: "PretrainConfig",
    run: Path,
    store: Path | None,
    is_resumed: bool,
    strict: bool,
) -> None:
    with large_imports():
        from medssl.workflows.pretrain import pretrain as pretrain_encoder

    outcome = pretrain_encoder(
        source,
        config=config,
        out=run,
        store=store,
        resume=is_resumed,
        progress=command_progress(),
        command=["medssl", *sys.argv[1:]],
    )
    print_results(run)
    if strict and outcome.skipped:
        raise SkippedScansError(f"{outcome.skipped} files were skipped; {run / 'skipped.csv'} says why.")


def _print_dry_run(source: Path, *, config: "PretrainConfig", out: Path | None, store: Path | None) -> None:
    with large_imports():
        from medssl.workflows.dry_run import dry_run

    preview = dry_run(source, config=config, out=out, store=store, progress=command_progress())
    print_rows(preview.rows)
    if preview.skipped:
        print_line(f"\n{len(preview.skipped)} files would be skipped:")
        for scan in preview.skipped:
            print_line(f"  {scan.path}: {scan.reason}")
    print_line(f"\nThe config, with everything that was planned:\n{preview.config.rstrip()}")


def _refuse_with_resume(source: Path | None, **options: object) -> None:
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    names = [*(["FOLDER"] if source else []), *given]
    if names:
        raise UsageError(f"Leave out {' and '.join(names)}: --resume goes on as the run folder says.")


def _find_config(config: str | None, resume: Path | None) -> str | Path:
    if resume is None:
        return config or DEFAULT_PRESET
    if not (resume / "config.yaml").is_file():
        raise UsageError(f"{resume} is not a run folder: it holds no config.yaml.")
    return resume / "config.yaml"


def _flags_as_overrides(*, spacing: str | None, **flags: str | int | None) -> list[str]:
    """Return the assignments that flags are short for; they come before --set, which therefore wins."""
    overrides = [f"{FLAG_FIELDS[name]}={value}" for name, value in flags.items() if value is not None]
    if spacing is not None:
        overrides.append(f"data.spacing_mm={spacing if spacing == 'auto' else f'[{spacing}]'}")
    return overrides


def _select_tasks(origin: str | Path, tasks: str | None) -> list[str]:
    """Return an override that leaves only ``tasks``, with the settings that the config has for them."""
    if tasks is None:
        return []
    from medssl.config.load import load_config

    settings = load_config(origin).tasks
    chosen = {name.strip(): settings.get(name.strip(), {}) for name in tasks.split(",")}
    return [f"tasks={json.dumps(chosen)}"]
