import math
import time
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from medssl.config.schema import OptimiserConfig, SpeedConfig
from medssl.errors import ConfigError
from medssl.training import precision
from medssl.training.precision import Trial, choose_step_settings, fastest, list_candidates, time_candidates
from medssl.training.settings import StepSettings, recorded_settings

CPU = torch.device("cpu")
FLOAT32, BFLOAT16 = StepSettings("cpu"), StepSettings("cpu", "bfloat16")


@pytest.fixture
def _has_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16_kernels", lambda: True)


def test_what_the_cpu_has_no_kernels_for_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16_kernels", lambda: False)
    assert {c.precision for c in list_candidates(SpeedConfig(), CPU)} == {"float32"}
    assert {c.precision for c in list_candidates(SpeedConfig(precision="bfloat16"), CPU)} == {"bfloat16"}


@pytest.mark.usefixtures("_has_bfloat16")
def test_auto_on_a_cpu_tries_two_precisions_and_two_layouts() -> None:
    names = [(c.precision, c.channels_last, c.compile) for c in list_candidates(SpeedConfig(), CPU)]
    assert names == [
        ("float32", False, False),
        ("float32", True, False),
        ("bfloat16", False, False),
        ("bfloat16", True, False),
    ]


def test_what_is_set_is_taken_and_nothing_is_timed(standins: SimpleNamespace) -> None:
    speed = SpeedConfig(precision="bfloat16", channels_last=True)
    settings, rows = choose_step_settings(
        standins.make_model(),
        {},
        objective=standins.TinyMixture(),
        speed=speed,
        optimiser=OptimiserConfig(),
        device=CPU,
        total_steps=10,
    )
    assert settings == StepSettings("cpu", "bfloat16", channels_last=True)
    assert rows == []


def far_deadline() -> float:
    return time.perf_counter() + 60


def test_candidates_take_turns_and_the_median_after_warm_up_counts() -> None:
    order = []
    times = {FLOAT32: iter([9.0, 2.0, 50.0, 1.0]), BFLOAT16: iter([5.0, 3.0, 3.0, 3.0])}

    def bench(settings: StepSettings) -> tuple[float, float]:
        order.append(settings)
        return 0.5, next(times[settings])

    trials = time_candidates([FLOAT32, BFLOAT16], bench, deadline=far_deadline())
    assert order == [FLOAT32, BFLOAT16] * 4
    assert [trial.step_s for trial in trials] == [2.0, 3.0]
    assert fastest(trials).settings == FLOAT32


def test_a_candidate_that_raises_or_diverges_is_out_with_its_reason() -> None:
    def bench(settings: StepSettings) -> tuple[float, float]:
        if settings == BFLOAT16:
            raise RuntimeError("no kernel for this\nsecond line")
        return (math.nan if settings.channels_last else 1.0), 1.0

    last = StepSettings("cpu", channels_last=True)
    trials = time_candidates([FLOAT32, BFLOAT16, last], bench, deadline=far_deadline())
    assert [trial.reason for trial in trials] == ["", "no kernel for this", "its loss was nan"]
    assert fastest(trials).settings == FLOAT32
    assert trials[1].as_dict()["step_s"] is None


@pytest.mark.parametrize(("bfloat16_s", "chosen"), [(0.97, FLOAT32), (0.9, BFLOAT16)])
def test_a_less_plain_setting_must_pay(bfloat16_s: float, chosen: StepSettings) -> None:
    trials = [Trial(FLOAT32, 1.0, [1.0]), Trial(BFLOAT16, 1.0, [bfloat16_s])]
    assert fastest(trials).settings == chosen


def test_an_emulated_type_is_run_once() -> None:
    runs = Counter()

    def bench(settings: StepSettings) -> tuple[float, float]:
        runs[settings] += 1
        return 1.0, 9.0 if settings == BFLOAT16 else 1.0

    trials = time_candidates([FLOAT32, BFLOAT16], bench, deadline=far_deadline())
    assert runs == {FLOAT32: 4, BFLOAT16: 1}
    assert trials[1].reason == "its first step took 9 times as long as the fastest"


def test_when_time_is_up_the_plainest_is_run_once_and_taken() -> None:
    runs = []

    def bench(settings: StepSettings) -> tuple[float, float]:
        runs.append(settings)
        return 1.0, 1.0

    trials = time_candidates([FLOAT32, BFLOAT16], bench, deadline=time.perf_counter() - 1)
    assert runs == [FLOAT32]
    assert fastest(trials).settings == FLOAT32
    assert trials[1].as_dict()["reason"] == "no time was left to try it"


@pytest.mark.usefixtures("_has_bfloat16")
def test_trying_leaves_network_and_random_state_as_they_were(
    standins: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "REPEATS", 1)
    model = standins.make_model()
    batches = standins.make_stream(standins.make_scans(4)).batches(0)
    batch = next(batches)
    batches.close()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    settings, rows = choose_step_settings(
        model,
        batch,
        objective=standins.TinyMixture(),
        speed=SpeedConfig(),
        optimiser=OptimiserConfig(),
        device=CPU,
        total_steps=10,
    )
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert settings in list_candidates(SpeedConfig(), CPU)
    assert len(rows) == 4
    with pytest.raises(ConfigError, match="accumulate is 3"):
        choose_step_settings(
            model,
            batch,
            objective=standins.TinyMixture(),
            speed=SpeedConfig(),
            optimiser=OptimiserConfig(accumulate=3),
            device=CPU,
            total_steps=10,
        )


def test_a_resumed_run_keeps_its_settings_unless_told_otherwise() -> None:
    record = StepSettings("cpu", "bfloat16", channels_last=True).as_dict()
    assert recorded_settings(record, speed=SpeedConfig(), device=CPU) == StepSettings(**record)
    assert recorded_settings(None, speed=SpeedConfig(), device=CPU) is None
    assert recorded_settings(record, speed=SpeedConfig(precision="float32"), device=CPU) is None
    assert recorded_settings(record, speed=SpeedConfig(precision="bfloat16"), device=CPU) is not None
    assert recorded_settings({**record, "device": "cuda:0"}, speed=SpeedConfig(), device=CPU) is None


def test_settings_lay_out_weights_and_volumes(standins: SimpleNamespace) -> None:
    settings = StepSettings("cpu", channels_last=True)
    model = settings.place(standins.make_model())
    assert model.encoder.down.weight.is_contiguous(memory_format=torch.channels_last_3d)
    moved = settings.move({"volume": torch.rand(2, 3, 4, 5, 6), "label": torch.zeros(2)})
    assert moved["volume"].is_contiguous(memory_format=torch.channels_last_3d)
    assert settings.describe() == "cpu, float32, channels last"
