import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
import torch

from medssl.errors import CheckpointError, ConfigError
from medssl.training import checkpoint
from medssl.training.checkpoint import load_model, read_checkpoint, resume_state, save_checkpoint
from medssl.training.settings import StepSettings
from medssl.training.state import TrainingState, start_state
from medssl.training.step import optimise


@pytest.fixture
def new_state(standins: SimpleNamespace) -> Any:
    def make(seed: int = 0, *, precision: str = "float32", **optimiser: Any) -> TrainingState:
        config = standins.make_config(optimiser=optimiser)
        return start_state(
            standins.make_model(seed), settings=StepSettings("cpu", precision), config=config.optimiser
        )

    return make


@pytest.fixture
def saved(standins: SimpleNamespace, new_state: Any, tmp_path: Path) -> Path:
    return save(standins, new_state(), tmp_path / "last.pt")


def save(standins: SimpleNamespace, state: TrainingState, path: Path, **sections: Any) -> Path:
    config = standins.make_config(**sections)
    save_checkpoint(path, state.state_dict(), config=config, architecture=state.model.encoder.architecture)
    return path


def test_everything_that_changes_comes_back(
    standins: SimpleNamespace, new_state: Any, tmp_path: Path
) -> None:
    optimiser = {"ema_decay": 0.9}
    config = standins.make_config(optimiser=optimiser)
    state = new_state(precision="float16", **optimiser)
    batches = standins.make_stream(standins.make_scans(4)).batches(0)
    optimise(state, next(batches), objective=standins.TinyMixture(), config=config.optimiser)
    batches.close()
    state.scaler.update(128.0)
    state.counters.step, state.counters.best_value = 7, 0.25
    state.averages.add({"loss": torch.tensor([1.0, 2.0])})
    path = save(standins, state, tmp_path / "last.pt", optimiser=optimiser)

    fresh = new_state(seed=1, precision="float16", **optimiser)
    resume_state(path, fresh, config=config)
    for part in ("model", "ema"):
        expected, result = state.state_dict()[part], fresh.state_dict()[part]
        assert all(torch.equal(result[name], value) for name, value in expected.items())
    for one, other in zip(
        state.optimiser.state_dict()["state"].values(),
        fresh.optimiser.state_dict()["state"].values(),
        strict=True,
    ):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert fresh.scaler.get_scale() == 128.0
    assert fresh.counters == state.counters
    assert fresh.averages.compute() == {"loss": 1.5}


def test_a_crash_while_writing_leaves_the_old_one(
    standins: SimpleNamespace, new_state: Any, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_written(payload: Any, file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError("disk full")

    before = saved.read_bytes()
    monkeypatch.setattr(checkpoint.torch, "save", half_written)
    with pytest.raises(OSError, match="disk full"):
        save(standins, new_state(seed=1), saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["last.pt"]


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.pt"
    torch.save({"model": {}, "architecture": {}, "counters": RunsCode()}, path)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "text":
        path.write_text("not a checkpoint")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "pickle":
        path.write_bytes(pickle.dumps([1, 2]))
    elif how == "tensor":
        torch.save(torch.ones(3), path)
    elif how == "other":
        torch.save({"state_dict": {}}, path)
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "text", "empty", "pickle", "tensor", "other", "missing"])
def test_a_file_that_is_no_checkpoint_is_one_sentence(saved: Path, how: str) -> None:
    spoil(saved, how)
    with pytest.raises(CheckpointError, match=r"last.pt is missing, damaged or no .*best.pt over it"):
        read_checkpoint(saved)


def test_another_network_is_refused(standins: SimpleNamespace, new_state: Any, saved: Path) -> None:
    other = new_state()
    other.model.encoder.architecture = {"name": "tiny", "channels": (8, 16)}
    with pytest.raises(CheckpointError, match=r"channels was \(4, 6\) and is \(8, 16\)"):
        resume_state(saved, other, config=standins.make_config())
    with pytest.raises(CheckpointError, match="holds another network"):
        load_model(saved, other.model)


def test_other_heads_are_refused(standins: SimpleNamespace, new_state: Any, saved: Path) -> None:
    other = new_state()
    other.model.heads["flip"] = torch.nn.Linear(6 * 64, 5)
    with pytest.raises(CheckpointError, match="does not fit this run's network and tasks: size mismatch"):
        resume_state(saved, other, config=standins.make_config())


def test_settings_that_change_the_run_are_refused_by_name(
    standins: SimpleNamespace, new_state: Any, saved: Path
) -> None:
    changed = standins.make_config(training={"batch_size": 2}, optimiser={"learning_rate": 0.5})
    message = r"optimiser.learning_rate was 0.001 and is 0.5, training.batch_size was 4 and is 2"
    with pytest.raises(ConfigError, match=message):
        resume_state(saved, new_state(), config=changed)
    free = standins.make_config(
        training={"epochs": 50, "checkpoint_every_s": 1}, speed={"precision": "float32"}
    )
    resume_state(saved, new_state(), config=free)


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_the_weights_to_keep_are_the_average_if_there_is_one(
    standins: SimpleNamespace, new_state: Any, tmp_path: Path, ema_decay: float | None
) -> None:
    state = new_state(ema_decay=ema_decay)
    with torch.no_grad():
        state.model.encoder.stem.weight.add_(1)
    path = save(standins, state, tmp_path / "best.pt")
    model = standins.make_model(seed=2)
    assert load_model(path, model)["step"] == 0
    assert torch.equal(model.encoder.stem.weight, state.best_weights.encoder.stem.weight)
    assert torch.equal(model.encoder.stem.weight, state.model.encoder.stem.weight) == (ema_decay is None)


def test_a_full_disk_is_told_as_such(
    standins: SimpleNamespace, new_state: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r": opened(Path("/dev/full"), mode))
    with pytest.raises(OSError, match="No space left"):
        save(standins, new_state(seed=1), tmp_path / "last.pt")
