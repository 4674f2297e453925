"""medssl inspect: what is in a folder of scans, what is odd, and what would be skipped and why."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from medssl.cli.console import command_progress, console, print_rows
from medssl.errors import NoUsableScanError
from medssl.scans.processes import count_cores

if TYPE_CHECKING:
    from medssl.scans.inspection import Inspection, Spread

MAX_DEFAULT_WORKERS = 8
"""More volumes than this in memory at once are read only if asked for."""

SHOWN_ALONE = 3
"""Most skipped files of one folder and with one reason that get a line each; more share one."""


def inspect(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Scans: a folder of any depth, a file or a CSV.")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with each scan and each skipped file.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Scans read at once; if left out one a core, at most 8.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="How training would read them, such as data.time_points=mean.",
            metavar="FIELD=VALUE",
        ),
    ] = None,
) -> None:
    """Show what is in a folder of scans, what is odd, and what would be skipped and why."""
    from medssl.config.load import load_config  # these take 0.4 s, which --help need not wait for
    from medssl.scans.inspect import inspect_folder

    data = load_config(None, settings or []).data
    workers = workers or min(count_cores(), MAX_DEFAULT_WORKERS)
    inspection = inspect_folder(source, workers=workers, progress=command_progress(), data=data)
    if as_json:
        console.out(json.dumps(inspection.as_dict(), indent=2, allow_nan=False), highlight=False)
    else:
        _print_inspection(inspection)
    if not inspection.scans:
        raise NoUsableScanError(f"None of the {len(inspection.skipped)} image files in {source} can be used.")


def _print_inspection(inspection: "Inspection") -> None:
    _print_summary(inspection)
    if inspection.scans:
        _print_ranges(inspection)
    if inspection.duplicates:
        _print_duplicates(inspection)
    if inspection.skipped:
        _print_skipped(inspection)


def _print_summary(inspection: "Inspection") -> None:
    total = len(inspection.scans) + len(inspection.skipped)
    rows = [
        ("Source", str(inspection.source)),
        ("Layout", inspection.layout),
        ("Scans", f"{len(inspection.scans)} of {total} image files can be used"),
        ("Subjects", str(inspection.subjects)),
        ("Likely modality", _counted(inspection.modalities)),
        ("Stored types", _counted(inspection.dtypes)),
        ("Stored axes", _counted(inspection.orientations)),
        *(("Note", note) for note in inspection.notes),
    ]
    print_rows((name, _printable(value)) for name, value in rows if value)


def _print_ranges(inspection: "Inspection") -> None:
    table = _table("", "smallest", "median", "largest")
    spreads = {
        "shape (voxels)": inspection.shapes,
        "spacing (mm)": inspection.spacings_mm,
        "darkest voxel": inspection.intensities["minimum"],
        "median voxel": inspection.intensities["median"],
        "brightest voxel": inspection.intensities["maximum"],
    }
    for name, spread in spreads.items():
        table.add_row(name, *_spread_cells(spread))
    _print_titled("Ranges over the scans that can be used (axes: right x anterior x superior)", table)


def _print_duplicates(inspection: "Inspection") -> None:
    table = _table("group", "file")
    for number, group in enumerate(inspection.duplicates, start=1):
        for path in group:
            table.add_row(str(number), Text(_printable(inspection.shown(path))))
    _print_titled("The same image in several files, voxel for voxel", table)


def _print_skipped(inspection: "Inspection") -> None:
    table = _table("file", "reason")
    for file, reason in _skipped_lines(inspection):
        table.add_row(Text(_printable(file)), Text(_printable(reason)))
    _print_titled("Skipped", table)


def _skipped_lines(inspection: "Inspection") -> Iterator[tuple[str, str]]:
    """Yield file and reason, with one line for a whole folder of files that share their reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for scan in inspection.skipped:
        file = inspection.shown(scan.path)
        groups.setdefault((str(PurePosixPath(file).parent), scan.reason), []).append(file)
    for (folder, reason), files in groups.items():
        if len(files) > SHOWN_ALONE:
            yield f"{folder}/ ({len(files)} files)", reason
        else:
            yield from ((file, reason) for file in files)


def _print_titled(title: str, table: Table) -> None:
    console.print()
    console.print(title, style="bold")
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", header_style="dim")
    return table


def _spread_cells(spread: "Spread | None") -> Sequence[str]:
    ranks = (spread.min, spread.median, spread.max) if spread else ()
    return [" x ".join(map(_number, rank)) for rank in ranks]


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _printable(text: str) -> str:
    """Return text that any terminal can take: file names may hold bytes that are no UTF-8."""
    return text.encode("utf-8", errors="replace").decode("utf-8")
