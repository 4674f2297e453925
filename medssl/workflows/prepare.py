"""Scans into a store and nothing more, so that many machines can share the work before a training begins."""

from dataclasses import dataclass
from pathlib import Path

from medssl.config.schema import DataConfig
from medssl.errors import UsageError
from medssl.progress import Progress
from medssl.scans.manifest import write_manifest, write_skipped
from medssl.scans.prepare import prepare_scans
from medssl.scans.record import PreparedScan, SkippedScan
from medssl.scans.store import ScanStore
from medssl.workflows.cohort import find_candidates


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of several that the scans of a folder are dealt out to.

    Attributes:
        number: From 1.
        count: How many parts there are.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        """Check that there is such a part.

        Raises:
            UsageError: If there is not.
        """
        if not 1 <= self.number <= self.count:
            raise UsageError(f"There is no part {self.number} of {self.count}: write --shard 1/{self.count}.")

    @property
    def name(self) -> str:
        """What its tables are called after."""
        return f"{self.number}_of_{self.count}"


@dataclass(frozen=True)
class PrepareOutcome:
    """What became of a shard.

    Attributes:
        prepared: Scans that lie in the store now.
        skipped: Files of this shard that cannot be used.
        manifest: Table of the first.
        skipped_table: Table of the second.
    """

    prepared: list[PreparedScan]
    skipped: list[SkippedScan]
    manifest: Path
    skipped_table: Path


def prepare(
    source: Path, *, data: DataConfig, store: Path, shard: Shard, progress: Progress
) -> PrepareOutcome:
    """Prepare a shard of the scans below a folder; what lies in the store already is not done again.

    Every shard checks all headers and so plans the same spacing; only voxels are shared out. Training with
    the same ``data`` settings on the same folder then finds its scans in the store.

    Args:
        source: A folder, file or CSV.
        data: How scans are prepared.
        store: Where they will lie.
        shard: Which of the scans; of the files that are skipped by name or header, the first shard tells.
        progress: Who is told.

    Raises:
        NoUsableScanError: If no header is sound.
        MedsslError: If the store cannot be written to.
    """
    candidates = find_candidates(source, data=data, store=store, progress=progress)
    prepared, unreadable = prepare_scans(
        candidates.scans[shard.number - 1 :: shard.count],
        store=ScanStore(store),
        spacing_mm=candidates.spacing_mm,
        data=data,
        progress=progress,
    )
    skipped = [*(candidates.skipped if shard.number == 1 else []), *unreadable]
    manifest, skipped_table = store / f"manifest_{shard.name}.csv", store / f"skipped_{shard.name}.csv"
    write_manifest(manifest, prepared)
    write_skipped(skipped_table, skipped)
    return PrepareOutcome(prepared, skipped, manifest, skipped_table)
