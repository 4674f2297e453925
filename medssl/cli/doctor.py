"""medssl doctor: what this computer offers, and what stands in the way."""

import importlib
import os
import platform
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from medssl import __version__
from medssl.cli.console import console, err_console
from medssl.scans.processes import count_cores

REQUIRED = (
    "torch", "monai", "einops", "pytorch-ignite", "tensorboard", "nibabel", "pydicom", "numpy", "scipy",
    "scikit-learn", "threadpoolctl", "blosc2", "safetensors", "pydantic", "PyYAML", "typer", "rich",
    "matplotlib", "jinja2",
)  # fmt: skip
OPTIONAL = {
    "nilearn": "`medssl demo` needs it: pip install 'medssl[demo]'",
    "python-gdcm": "compressed DICOM needs it: pip install 'medssl[dicom]'",
    "SimpleITK": "NRRD and MetaImage need it: pip install 'medssl[itk]'",
    "h5py": "MINC-2 needs it: pip install 'medssl[minc]'",
    "onnx": "`medssl export --to onnx` needs it: pip install 'medssl[onnx]'",
    "onnxscript": "`medssl export --to onnx` needs it: pip install 'medssl[onnx]'",
    "pyarrow": "`medssl embed --out TABLE.parquet` needs it: pip install 'medssl[parquet]'",
}
STYLES = {"ok": "green", "note": "yellow", "broken": "red"}
GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        subject: What was looked at.
        detail: What was found, and what to do about it where something is to be done.
        state: "note" is worth knowing, "broken" keeps medssl from working.
    """

    subject: str
    detail: str
    state: Literal["ok", "note", "broken"] = "ok"


def doctor() -> None:
    """Check versions, processor, memory, disk and GPU, without using the network."""
    table = Table.grid(padding=(0, 2))
    is_broken = False
    with err_console.status("Looking around; importing torch and monai takes some seconds"):
        for finding in examine():
            table.add_row(Text(finding.state, STYLES[finding.state]), finding.subject, Text(finding.detail))
            is_broken |= finding.state == "broken"
    console.print(table)
    if is_broken:
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """Yield findings, those that cost nothing first."""
    yield Finding("medssl", f"{__version__} on Python {platform.python_version()}, {platform.platform()}")
    yield from _packages()
    yield _processor()
    yield _memory()
    yield Finding("disk", f"{shutil.disk_usage(Path.cwd()).free / GB:.0f} GB free in {Path.cwd()}")
    yield from _imports()


def _packages() -> Iterator[Finding]:
    found = {name: _version(name) for name in REQUIRED}
    yield Finding("packages", ", ".join(f"{name} {number}" for name, number in found.items() if number))
    if missing := [name for name, number in found.items() if not number]:
        yield Finding("packages", f"missing: {' '.join(missing)}; pip install {' '.join(missing)}", "broken")
    for name, purpose in OPTIONAL.items():
        number = _version(name)
        yield Finding(name, number) if number else Finding(name, f"not installed; {purpose}", "note")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> Finding:
    information = Path("/proc/cpuinfo")
    flags = set(information.read_text(errors="replace").split()) if information.exists() else set()
    has_bfloat16 = bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    speed = (
        "has bfloat16 instructions" if has_bfloat16 else "shows no bfloat16 instructions, so runs in float32"
    )
    return Finding("processor", f"{count_cores()} cores for this process; {speed}")


def _memory() -> Finding:
    if not hasattr(os, "sysconf"):
        return Finding("memory", "this system does not tell its size", "note")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.exists() else "max"
    if allowed.isdigit() and int(allowed) < total:
        return Finding("memory", f"{int(allowed) / GB:.0f} GB for this container of {total / GB:.0f} GB")
    return Finding("memory", f"{total / GB:.0f} GB")


def _imports() -> Iterator[Finding]:
    modules = {}
    for name in ("torch", "ignite", "monai"):
        try:
            modules[name] = importlib.import_module(name)
        except Exception as error:
            yield Finding(name, f"cannot be imported ({error}); install it again", "broken")
    if "torch" in modules:
        yield from _gpus(modules["torch"])


def _gpus(torch: Any) -> Iterator[Finding]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        is_available = torch.cuda.is_available()
    if not is_available:
        reason = str(caught[0].message).partition("\n")[0] if caught else _why_no_gpu(torch)
        yield Finding("GPU", f"none that PyTorch can use: {reason}; runs go to the processor", "note")
        return
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        precision = "bfloat16" if card.major >= 8 else "float16"
        memory = f"{card.total_memory / GB:.0f} GB"
        yield Finding(f"GPU {index}", f"{card.name}, {memory}, {precision}, CUDA {torch.version.cuda}")


def _why_no_gpu(torch: Any) -> str:
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built without GPU support"
    if shutil.which("nvidia-smi") is None:
        return "no NVIDIA driver is installed"
    return "the driver shows no card to it (is CUDA_VISIBLE_DEVICES set?)"
