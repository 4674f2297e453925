import threading
import time
from collections import Counter
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from medssl.errors import ConfigError, NoUsableScanError
from medssl.training.stream import CropStream


def take(stream: CropStream, start: int, count: int) -> list[dict[str, torch.Tensor]]:
    batches = stream.batches(start)
    try:
        return list(islice(batches, count))
    finally:
        batches.close()


def assert_same(first: list[dict[str, torch.Tensor]], second: list[dict[str, torch.Tensor]]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_are_a_function_of_seed_and_step(standins: SimpleNamespace, threads: int) -> None:
    scans = standins.make_scans(5)
    whole = take(standins.make_stream(scans, threads=1), 0, 6)
    assert_same(take(standins.make_stream(scans, threads=threads), 4, 2), whole[4:])
    assert not torch.equal(whole[0]["seed"], whole[1]["seed"])
    other_seed = take(standins.make_stream(scans, seed=4), 0, 1)
    assert not torch.equal(other_seed[0]["image"], whole[0]["image"])


def test_processes_share_the_batches_of_one(standins: SimpleNamespace) -> None:
    scans = standins.make_scans(5)
    whole = take(standins.make_stream(scans), 0, 3)
    shares = [take(standins.make_stream(scans, rank=rank, world_size=2), 0, 3) for rank in range(2)]
    joined = [
        {key: torch.cat([first[key], second[key]]) for key in first}
        for first, second in zip(*shares, strict=True)
    ]
    assert_same(joined, whole)


def test_a_batch_that_cannot_be_shared_equally_is_refused(standins: SimpleNamespace) -> None:
    with pytest.raises(ConfigError, match="batch_size is 4, which 3 processes"):
        standins.make_stream(standins.make_scans(5), world_size=3)


def test_every_scan_comes_equally_often_and_in_another_order(standins: SimpleNamespace) -> None:
    stream = standins.make_stream(standins.make_scans(6), batch_size=6)
    rounds = [stream.scan_ids(step) for step in range(4)]
    assert all(len(set(names)) == 6 for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1


def test_batches_run_on_from_one_permutation_into_the_next(standins: SimpleNamespace) -> None:
    stream = standins.make_stream(standins.make_scans(3), batch_size=4, crops_per_scan=2)
    assert stream.steps_per_epoch == 2
    positions = Counter(name for step in range(3) for name in stream.scan_ids(step))
    assert all(len(batch["seed"]) == 4 for batch in take(stream, 0, 3))
    assert set(positions) == {"scan0", "scan1", "scan2"}


def test_an_unreadable_scan_is_replaced_by_the_next_and_reported_once(standins: SimpleNamespace) -> None:
    scans, reports = standins.make_scans(4), []
    stream = standins.make_stream(
        scans, broken={"scan2"}, on_unreadable=lambda scan, reason: reports.append((scan, reason))
    )
    batches = take(stream, 0, 3)
    assert reports == [(scans[2], "its file is gone")]
    assert_same(batches, take(standins.make_stream(scans, broken={"scan2"}, threads=1), 0, 3))
    whole = take(standins.make_stream(scans), 0, 3)
    replaced = [
        (one["image"] != other["image"]).flatten(1).any(1) for one, other in zip(batches, whole, strict=True)
    ]
    assert torch.cat(replaced).sum() == 3


def test_voxels_that_are_not_finite_count_as_unreadable(standins: SimpleNamespace) -> None:
    reports: list[str] = []

    def poisoned(scan: Any, *, rng: np.random.Generator) -> dict[str, Any]:
        window = standins.read_window(scan, rng=rng, broken=set())
        if scan.record.scan_id == "scan1":
            window["image"][0, 0, 0, 0] = np.nan
        return window

    stream = standins.make_stream(
        standins.make_scans(2),
        read_window=poisoned,
        on_unreadable=lambda scan, reason: reports.append(reason),
    )
    assert all(batch["image"].isfinite().all() for batch in take(stream, 0, 2))
    assert reports == ["its stored voxels are not all finite"]


def test_without_a_readable_scan_the_error_says_so(standins: SimpleNamespace) -> None:
    stream = standins.make_stream(standins.make_scans(2), broken={"scan0", "scan1"})
    with pytest.raises(NoUsableScanError, match="store still exists"):
        take(stream, 0, 1)


def test_an_error_in_a_transform_names_the_scan(standins: SimpleNamespace) -> None:
    class Broken(standins.FlipTransform):
        def __call__(self, data: dict) -> dict:
            raise ZeroDivisionError

    stream = standins.make_stream(standins.make_scans(1), transform=Broken())
    with pytest.raises(ZeroDivisionError) as caught:
        take(stream, 0, 1)
    assert caught.value.__notes__ == ["while transforming a crop of scan0"]


def test_threads_do_not_share_a_transforms_random_state(standins: SimpleNamespace) -> None:
    class Slow(standins.FlipTransform):
        def __call__(self, data: dict) -> dict:
            time.sleep(0.005)
            return super().__call__(data)

    scans = standins.make_scans(5)
    alone = take(standins.make_stream(scans, threads=1), 0, 4)
    assert_same(take(standins.make_stream(scans, threads=4, transform=Slow()), 0, 4), alone)


def test_what_torch_computes_for_crops_leaves_the_other_cores_alone(standins: SimpleNamespace) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    seen: dict[str, int] = {}

    class Put:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            seen[threading.current_thread().name.split("_")[0]] = torch.get_num_threads()
            return np.zeros(1)

    class Count(standins.FlipTransform):
        def __call__(self, data: dict) -> dict:
            seen[threading.current_thread().name.split("_")[0]] = torch.get_num_threads()
            return {**super().__call__(data), "put": Put()}

    try:
        take(standins.make_stream(standins.make_scans(4), transform=Count(), batch_keys=["put"]), 0, 2)
        assert seen == {"make": 1, "move": 1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_closing_ends_the_threads_and_begins_no_further_crop(standins: SimpleNamespace) -> None:
    begun: list[int] = []

    class Slow(standins.FlipTransform):
        def __call__(self, data: dict) -> dict:
            begun.append(1)
            time.sleep(0.02)
            return super().__call__(data)

    batches = standins.make_stream(standins.make_scans(4), threads=2, transform=Slow()).batches(0)
    next(batches)
    assert {"make", "move"} <= {thread.name.split("_")[0] for thread in threading.enumerate()}
    batches.close()
    assert not any(thread.name.startswith(("make", "move")) for thread in threading.enumerate())
    assert len(begun) < 12


def test_crops_are_made_ahead_but_not_without_bound(standins: SimpleNamespace) -> None:
    made: list[str] = []

    def read(scan: Any, *, rng: np.random.Generator) -> dict[str, Any]:
        made.append(scan.record.scan_id)
        return standins.read_window(scan, rng=rng, broken=set())

    batches = standins.make_stream(standins.make_scans(4), read_window=read).batches(0)
    next(batches)
    for _ in range(200):
        if len(made) == 12:
            break
        time.sleep(0.01)
    time.sleep(0.05)
    batches.close()
    assert len(made) == 12  # the batch in hand and two ahead


def test_fixed_batches_are_the_same_each_time_and_in_any_company(standins: SimpleNamespace) -> None:
    scans = standins.make_scans(5)
    stream = standins.make_stream(scans)
    fixed = stream.fixed_batches(scans[:3], crops_per_scan=2)
    first = list(fixed())
    assert [len(batch["seed"]) for batch in first] == [4, 2]
    assert_same(list(fixed()), first)
    alone = list(stream.fixed_batches(scans[1:2], crops_per_scan=2)())
    assert torch.equal(alone[0]["image"], first[0]["image"][2:4])
    assert np.array_equal(stream.sample(scans[1], 1)["image"], first[0]["image"][3].numpy())


def test_processes_share_the_fixed_batches_of_one(standins: SimpleNamespace) -> None:
    scans = standins.make_scans(5)
    whole = torch.cat(
        [batch["seed"] for batch in standins.make_stream(scans).fixed_batches(scans, crops_per_scan=1)()]
    )
    shares = [
        torch.cat([batch["seed"] for batch in stream.fixed_batches(scans, crops_per_scan=1)()])
        for stream in (standins.make_stream(scans, rank=rank, world_size=2) for rank in range(2))
    ]
    assert sorted(torch.cat(shares).tolist()) == sorted(whole.tolist())
