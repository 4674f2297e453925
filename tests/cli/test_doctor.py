import importlib
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace

import pytest

from medssl.cli import doctor

ROOT = Path(__file__).resolve().parents[2]


def fake_torch(*, cuda: str | None, cards: tuple = ()) -> SimpleNamespace:
    return SimpleNamespace(
        __version__="2.13.0",
        version=SimpleNamespace(cuda=cuda, hip=None),
        cuda=SimpleNamespace(
            is_available=lambda: bool(cards),
            device_count=lambda: len(cards),
            get_device_properties=lambda index: cards[index],
        ),
    )


@pytest.fixture
def torch_is(monkeypatch: pytest.MonkeyPatch):
    """Stands in for the imports that take seconds."""

    def replace(torch: SimpleNamespace) -> None:
        monkeypatch.setattr(importlib, "import_module", lambda name: torch)

    return replace


def finding(subject: str) -> doctor.Finding:
    return next(finding for finding in doctor.examine() if finding.subject == subject)


def test_a_sound_computer_is_told_so(medssl, torch_is) -> None:
    torch_is(fake_torch(cuda=None))
    finished = medssl("doctor")
    assert finished.exit_code == 0
    assert f"torch {version('torch')}" in " ".join(finished.out.split())
    assert "broken" not in finished.out


def test_what_cannot_be_imported_is_broken(medssl, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError("undefined symbol")

    monkeypatch.setattr(importlib, "import_module", refuse)
    finished = medssl("doctor")
    assert finished.exit_code == 1
    assert "undefined symbol" in finished.out


def test_a_missing_package_is_broken_and_a_missing_extra_is_not(
    torch_is, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version_of(package: str) -> str:
        if package in ("nibabel", "nilearn"):
            raise PackageNotFoundError
        return "1.0"

    torch_is(fake_torch(cuda=None))
    monkeypatch.setattr(doctor, "version", version_of)
    states = {finding.state: finding.detail for finding in doctor.examine() if finding.state != "ok"}
    assert states["broken"] == "missing: nibabel; pip install nibabel"
    assert finding("nilearn").state == "note"


def test_a_torch_without_gpu_support_is_the_reason_for_no_gpu(torch_is) -> None:
    torch_is(fake_torch(cuda=None))
    assert "built without GPU support" in finding("GPU").detail


def test_a_missing_driver_is_the_reason_for_no_gpu(torch_is, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_is(fake_torch(cuda="13.0"))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert "no NVIDIA driver" in finding("GPU").detail


def test_a_gpu_is_told_with_its_memory_and_precision(torch_is) -> None:
    card = SimpleNamespace(name="Tesla T4", total_memory=16e9, major=7)
    torch_is(fake_torch(cuda="13.0", cards=(card,)))
    assert finding("GPU 0").detail == "Tesla T4, 16 GB, float16, CUDA 13.0"


def test_every_dependency_is_looked_at() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {requirement.split(">")[0] for requirement in project["dependencies"]}
    assert declared == set(doctor.REQUIRED)
    extras = project["optional-dependencies"]
    optional = [extras[name] for name in extras if name not in ("bench", "test")]  # for developers
    assert {requirement.split(">")[0] for extra in optional for requirement in extra} == set(doctor.OPTIONAL)
