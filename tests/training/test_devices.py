import pytest
import torch

from medssl.errors import UsageError
from medssl.training.devices import choose_device, choose_loader_threads


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("wish", ["auto", "cpu"])
def test_without_a_gpu_it_is_the_cpu(wish: str) -> None:
    assert choose_device(wish) == torch.device("cpu")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("wish", ["cuda", "cuda:1"])
def test_a_missing_gpu_is_one_sentence(wish: str) -> None:
    with pytest.raises(UsageError, match=f"speed.device is {wish}, and PyTorch sees 0 usable GPUs"):
        choose_device(wish)


@pytest.mark.parametrize("wish", ["gpu", "mps", "cuda:x"])
def test_an_unknown_device_is_one_sentence(wish: str) -> None:
    with pytest.raises(UsageError, match="choose auto, cpu, cuda or cuda:N"):
        choose_device(wish)


def test_each_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert choose_device("auto") == torch.device("cuda", 2)
    assert choose_device("cuda") == torch.device("cuda", 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("cores", "processes", "threads"), [(1, 1, 1), (2, 1, 1), (8, 1, 4), (64, 1, 4), (8, 4, 1)]
)
def test_loader_threads_leave_cores_to_the_network(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, threads: int
) -> None:
    monkeypatch.setattr("medssl.training.devices.count_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert choose_loader_threads("auto") == threads
    assert choose_loader_threads(7) == 7
