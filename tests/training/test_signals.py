import os
import signal
import threading

import pytest

from medssl.training.signals import StopRequest


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_only_noted(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as request:
        assert not request.is_set
        send(number)
        assert request.is_set
    assert signal.getsignal(number) == before


def test_the_second_ctrl_c_acts_at_once() -> None:
    with StopRequest() as request:
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert request.is_set


def test_among_several_processes_repeated_signals_are_one_request() -> None:
    with StopRequest(is_alone=False) as request:
        send(signal.SIGINT)
        send(signal.SIGTERM)
        send(signal.SIGINT)
    assert request.is_set


def test_in_another_thread_it_does_nothing() -> None:
    requests = []

    def work() -> None:
        with StopRequest() as request:
            requests.append(request)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not requests[0].is_set
