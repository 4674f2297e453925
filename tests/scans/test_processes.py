import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from medssl.errors import MedsslError
from medssl.scans.processes import Died, count_processes, make_batches, run_batches, run_jobs

KILL_OWN_PROCESS = "__import__('os').kill(__import__('os').getpid(), 9)"

PARENT = """
from medssl.scans.processes import run_jobs

if __name__ == "__main__":
    jobs = ["__import__('os').getpid()", "__import__('time').sleep(99)"]
    for _, process_id in run_jobs(eval, jobs, processes=1):
        print(process_id, flush=True)
"""

UNGUARDED = """
from medssl.scans.processes import run_jobs
list(run_jobs(eval, ["1"], processes=1))
"""


def count_blas_threads(dtype: type) -> set[int]:
    np.ones((2, 2), dtype) @ np.ones((2, 2), dtype)
    return {library["num_threads"] for library in threadpool_info()}


def test_auto_is_a_process_for_each_usable_core(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert (count_processes("auto"), count_processes(2), count_processes(0)) == (3, 2, 0)


def test_no_processes_means_here_and_in_order():
    assert list(run_jobs(eval, ["1", "2", "__import__('os').getpid()"], processes=0))[-1][1] == os.getpid()


def test_only_the_job_that_ends_its_process_is_given_up():
    jobs = ["1", KILL_OWN_PROCESS, "2", "3", "__import__('time').sleep(0.2)", KILL_OWN_PROCESS + " or 0", "4"]
    results = dict(run_jobs(eval, jobs, processes=2))
    assert results == dict(zip(jobs, [1, Died(), 2, 3, None, Died(), 4], strict=True))


def evaluate_each(batch):
    return [eval(job) for job in batch]


def test_each_process_keeps_to_one_core():
    ((_, threads),) = run_jobs(count_blas_threads, [np.float32], processes=1)
    assert threads == {1}


def test_only_the_job_of_a_batch_that_ends_its_process_is_given_up():
    batches = [["1", "2"], ["3", KILL_OWN_PROCESS, "4"], ["5"]]
    results = dict(run_batches(evaluate_each, batches, processes=1))
    assert results == {"1": 1, "2": 2, "3": 3, KILL_OWN_PROCESS: Died(), "4": 4, "5": 5}


def test_batches_are_full_at_their_size_and_keep_the_order():
    assert make_batches([("a", 1), ("b", 2), ("c", 9), ("d", 1), ("e", 1)], size=3) == [
        ["a", "b"],
        ["c"],
        ["d", "e"],
    ]
    assert make_batches([], size=3) == []


def test_an_exception_ends_the_run():
    with pytest.raises(ZeroDivisionError):
        list(run_jobs(eval, ["1 / 0"], processes=1))


def test_processes_end_when_their_parent_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        process_id = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while is_running(process_id):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_program_that_cannot_start_processes_is_told_what_to_do(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(UNGUARDED)
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, script], env=where, capture_output=True, text=True, check=False)
    assert f"{MedsslError.__name__}: No process could be started" in ended.stderr
    assert "data.prepare_workers" in ended.stderr


def is_running(process_id):
    """Tell a live process from one that ended, also where nobody collects the dead."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
