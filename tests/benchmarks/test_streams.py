"""What `bin/bench data` times are streams of varied, finite crops, and its check notices others."""

import sys
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path

import pytest
import torch

pytest.importorskip("torchio", reason="TorchIO is in the extra named bench")
sys.path.append(str(Path(__file__).parents[2] / "bin"))

from benchmarks import cohorts, data, streams

pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodec")  # MONAI tells of a plugin that is not installed


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("benchmark")
    cohorts.make_volumes(scratch / "scans", count=3, shape=(72, 66, 65))
    return streams.all_streams(scratch / "scans", scratch)


@pytest.mark.parametrize(
    "name",
    [
        "medssl",
        "memory map, threads",
        "MONAI PersistentDataset",
        "MONAI PersistentDataset, four crops of a volume",
        "MONAI PersistentDataset, crops alone",
        "TorchIO Queue, crops alone",
    ],
)
def test_every_stream_makes_crops_that_may_be_timed(opened, name):
    with ExitStack() as stack:
        data.check_batches(name, stack.enter_context(opened[name]()))


@pytest.mark.parametrize(
    "batch",
    [torch.rand(4, 1, 64, 64, 32), torch.full((4, 1, 64, 64, 64), torch.nan), torch.ones(4, 1, 64, 64, 64)],
    ids=["another shape", "not finite", "all alike"],
)
def test_other_crops_are_refused(batch):
    with pytest.raises(SystemExit):
        data.check_batches("a stream", repeat(batch))
