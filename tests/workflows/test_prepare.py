import subprocess
from pathlib import Path

import pytest

from medssl.config.load import load_config
from medssl.errors import UsageError
from medssl.progress import SilentProgress
from medssl.scans.manifest import read_manifest, read_skipped
from medssl.scans.simulate import simulate_cohort
from medssl.workflows.prepare import PrepareOutcome, Shard, prepare

SLURM = Path(__file__).parents[2] / "bin" / "slurm"


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    simulate_cohort(tmp_path / "heads", count=5, spacing_mm=6.0, seed=0, progress=SilentProgress())
    (tmp_path / "heads" / "broken.nii.gz").write_text("hello")
    return tmp_path / "heads"


def prepare_shard(heads: Path, store: Path, shard: Shard) -> PrepareOutcome:
    data = load_config("test").data
    return prepare(heads, data=data, store=store, shard=shard, progress=SilentProgress())


def test_shards_share_out_what_one_would_do(heads: Path, tmp_path: Path) -> None:
    shards = [prepare_shard(heads, tmp_path / "shared", Shard(number, 3)) for number in (1, 2, 3)]
    whole = prepare_shard(heads, tmp_path / "alone", Shard(1, 1))
    assert [len(shard.prepared) for shard in shards] == [2, 2, 1]
    together = {scan.record.scan_id: scan.voxels_hash for shard in shards for scan in shard.prepared}
    assert together == {scan.record.scan_id: scan.voxels_hash for scan in whole.prepared}
    assert [skipped.path.name for skipped in whole.skipped].count("broken.nii.gz") == 1
    assert sum(shard.skipped == whole.skipped for shard in shards) == 1


def test_its_tables_tell_what_became_of_the_scans(heads: Path, tmp_path: Path) -> None:
    outcome = prepare_shard(heads, tmp_path / "store", Shard(1, 2))
    assert outcome.manifest.name == "manifest_1_of_2.csv"
    assert read_manifest(outcome.manifest) == outcome.prepared
    assert read_skipped(outcome.skipped_table) == outcome.skipped


@pytest.mark.parametrize(("number", "count"), [(0, 3), (4, 3), (1, 0)])
def test_a_part_that_does_not_exist(number: int, count: int) -> None:
    with pytest.raises(UsageError, match="There is no part"):
        Shard(number, count)


def test_the_slurm_example_prepares_then_trains(tmp_path: Path) -> None:
    (tmp_path / "sbatch").write_text(
        '#!/usr/bin/env bash\nprintf "%s\\n" "$*" >> "${0%/*}/calls"\necho 77\n', encoding="utf-8"
    )
    (tmp_path / "sbatch").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PARTS": "5"}
    subprocess.run([SLURM, "my scans", "runs/big", "--epochs", "9"], check=True, env=environment)
    array, training = (tmp_path / "calls").read_text().splitlines()
    assert "--array 1-5" in array
    assert r'medssl prepare my\ scans --store runs/medssl-store --shard "$SLURM_ARRAY_TASK_ID/5"' in array
    assert "--dependency afterok:77" in training
    assert r"-m medssl pretrain my\ scans --out runs/big --store runs/medssl-store" in training
    assert training.endswith("--epochs 9")
