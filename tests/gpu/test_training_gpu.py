"""Training steps that only a GPU can take."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from medssl.config.schema import OptimiserConfig, SpeedConfig
from medssl.progress import SilentProgress
from medssl.training.precision import choose_step_settings
from medssl.training.settings import StepSettings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def standins() -> ModuleType:
    """The stand-ins of the training tests."""
    path = Path(__file__).parents[1] / "training" / "conftest.py"
    spec = importlib.util.spec_from_file_location("training_standins", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["training_standins"] = module
    spec.loader.exec_module(module)
    return module


def losses(run: Any) -> list[float]:
    lines = (run.folder / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("val/loss")
    return [float(line.split(",")[column]) for line in lines[1:]]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_every_precision_trains_as_the_cpu_does(
    standins: ModuleType, tmp_path: Path, precision: str, channels_last: bool
) -> None:
    reference, run = standins.TinyRun(tmp_path / "cpu"), standins.TinyRun(tmp_path / "gpu")
    config = standins.make_config(augmentation={"noise": 0}, optimiser={"ema_decay": 0.9})
    reference(config, model=standins.make_model(dropout=0.0))
    run(
        config,
        model=standins.make_model(dropout=0.0),
        settings=StepSettings("cuda", precision, channels_last),
    )
    assert losses(run) == pytest.approx(losses(reference), rel=0.05)


class Killed(BaseException):
    """Stands for SIGKILL."""


class KillsInStep(SilentProgress):
    def __init__(self, step: int) -> None:
        self._step = step

    @contextmanager
    def track(self, description: str, *, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
        def advance(steps: int = 1, *, detail: str = "") -> None:
            nonlocal done
            done += steps
            if done == self._step:
                raise Killed

        yield advance


def test_float16_scales_its_loss_and_goes_on_with_the_scale(standins: ModuleType, tmp_path: Path) -> None:
    whole, run = standins.TinyRun(tmp_path / "whole"), standins.TinyRun(tmp_path / "run")
    config = standins.make_config(training={"checkpoint_every_s": 0})
    settings = StepSettings("cuda", "float16")
    whole(config, settings=settings)
    with pytest.raises(Killed):
        run(config, settings=settings, progress=KillsInStep(7))
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    assert saved["counters"]["step"] == 6
    assert saved["scaler"]["scale"] > 1
    run(config, settings=settings, resume=True)
    assert losses(run) == pytest.approx(losses(whole), rel=1e-2)


def test_timing_finds_settings_that_run(standins: ModuleType) -> None:
    model = standins.make_model()
    batches = standins.make_stream(standins.make_scans(4)).batches(0)
    batch = next(batches)
    batches.close()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings, rows = choose_step_settings(
        model,
        batch,
        objective=standins.TinyMixture(),
        speed=SpeedConfig(),
        optimiser=OptimiserConfig(),
        device=torch.device("cuda", 0),
        total_steps=10**9,
    )
    assert settings.is_cuda
    assert len(rows) == 5
    assert [row["compile"] for row in rows] == [False] * 4 + [True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(row["step_s"] for row in rows if not row["reason"])


def test_a_compiled_network_trains_as_an_eager_one(standins: ModuleType, tmp_path: Path) -> None:
    eager, compiled = standins.TinyRun(tmp_path / "eager"), standins.TinyRun(tmp_path / "compiled")
    eager(model=standins.make_model(dropout=0.0), settings=StepSettings("cuda"))
    compiled(model=standins.make_model(dropout=0.0), settings=StepSettings("cuda", compile=True))
    assert losses(compiled) == pytest.approx(losses(eager), rel=1e-2)
    assert not any("_orig_mod" in name for name in compiled.weights())
