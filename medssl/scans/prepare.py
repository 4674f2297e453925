"""Turn checked scans into prepared ones in a store: once, in parallel, and only what is not there yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from medssl.config.schema import DataConfig
from medssl.progress import Progress
from medssl.scans.once import Failed, do_once
from medssl.scans.prepare_volume import PreparedVolume, prepare_volume
from medssl.scans.processes import count_processes
from medssl.scans.read import read_volume
from medssl.scans.record import CheckedScan, PreparedScan, SkippedScan
from medssl.scans.store import ScanStore, recipe_key

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Recipe:
    """How every scan of one run is prepared.

    Attributes:
        store: Where prepared scans lie; other runs may use it at the same time.
        spacing_mm: The spacing to resample to, along R, A and S.
        data: Intensity settings, whether to crop, and how many processes to use.
    """

    store: ScanStore
    spacing_mm: Spacing
    data: DataConfig

    @cached_property
    def key(self) -> str:
        """Name of this recipe in the store."""
        return recipe_key(self.spacing_mm, self.data)


@dataclass(frozen=True, slots=True)
class ScanTask:
    """One scan to prepare, as `medssl.scans.once.Task`.

    Attributes:
        scan: What to prepare.
        recipe: How.
        first_channel: The first channel of the same scan, whose box is kept, or None.
    """

    scan: CheckedScan
    recipe: Recipe
    first_channel: PreparedScan | None = None

    @property
    def path(self) -> Path:
        """File of the scan."""
        return self.scan.record.path

    @property
    def name(self) -> str:
        """Its scan_id."""
        return self.scan.record.scan_id

    @property
    def beside(self) -> str | None:
        """Content hash of the first channel, where this is a further one."""
        return self.first_channel.content_hash if self.first_channel else None

    def find(self, content_hash: str) -> PreparedScan | None:
        """Return it where it lies in the store."""
        return self.recipe.store.find(
            self.scan.record,
            key=self.recipe.key,
            content_hash=self._hash(content_hash),
            beside=self.beside,
            is_verified=self.recipe.data.verify_store,
        )

    def prepare(self) -> PreparedVolume:
        """Read, check, crop, resample and normalise it."""
        volume, affine = read_volume(self.path, time_point=self.scan.record.time_point)
        return prepare_volume(
            volume,
            affine,
            header=self.scan.header,
            path=self.path,
            spacing_mm=self.recipe.spacing_mm,
            data=self.recipe.data,
            foreground=self.first_channel.foreground if self.first_channel else None,
        )

    def write(self, content_hash: str, prepared: PreparedVolume) -> PreparedScan:
        """Store it."""
        return self.recipe.store.write(
            self.scan.record,
            prepared.voxels,
            key=self.recipe.key,
            content_hash=self._hash(content_hash),
            spacing_mm=self.recipe.spacing_mm,
            recipe=prepared.recipe,
            source=self.scan.header,
            foreground=prepared.foreground,
            beside=self.beside,
            compressed=self.recipe.data.compress,
        )

    def _hash(self, content_hash: str) -> str:
        """Return what stands for this volume, where the file holds several."""
        time_point = self.scan.record.time_point
        return content_hash if time_point is None else f"{content_hash}-{time_point}"


def prepare_scans(
    scans: Sequence[CheckedScan],
    *,
    store: ScanStore,
    spacing_mm: Spacing,
    data: DataConfig,
    progress: Progress,
    keep_copies: bool = False,
) -> tuple[list[PreparedScan], list[SkippedScan]]:
    """Read, check, crop, resample and normalise scans into a store, unless they lie there already.

    A scan that cannot be prepared, whatever the cause, is skipped with its reason; so is a second scan of the
    same content, from which nothing can be learned. Both lists keep the order of ``scans``.

    Args:
        scans: From `medssl.scans.check_headers.check_scans`.
        store: Where prepared scans lie; other runs may use it at the same time.
        spacing_mm: The spacing to resample to, along R, A and S.
        data: Intensity settings, whether to crop, and how many processes to use.
        progress: Gets a bar with the name of each scan.
        keep_copies: Whether to keep scans of the same content too, as where each is to be predicted.

    Raises:
        MedsslError: If the store cannot be written to, or no process can be started.
    """
    recipe = Recipe(store, spacing_mm, data)
    tasks = [ScanTask(scan, recipe) for scan in scans]
    outcomes = prepare_each(tasks, recipe=recipe, progress=progress)
    return _sort_out(scans, outcomes, keep_copies=keep_copies)


def prepare_each(
    tasks: Sequence[ScanTask], *, recipe: Recipe, progress: Progress
) -> list[PreparedScan | Failed]:
    """Prepare scans as `prepare_scans` does, and return what became of each, of the same content or not.

    Args:
        tasks: All with the same recipe.
        recipe: That of the tasks.
        progress: Gets a bar with the name of each scan.

    Raises:
        MedsslError: If the store cannot be written to, or no process can be started.
    """
    return do_once(
        tasks,
        folder=recipe.store.folder,
        processes=count_processes(recipe.data.prepare_workers),
        description="Preparing scans",
        progress=progress,
    )


def _sort_out(
    scans: Sequence[CheckedScan], outcomes: Sequence[PreparedScan | Failed], *, keep_copies: bool
) -> tuple[list[PreparedScan], list[SkippedScan]]:
    """Part prepared from skipped, and skip all but the first scan of each content unless copies are kept."""
    first: dict[str, str] = {}
    prepared, skipped = [], []
    for scan, outcome in zip(scans, outcomes, strict=True):
        if isinstance(outcome, Failed):
            skipped.append(SkippedScan(scan.record.path, outcome.reason))
            continue
        same_as = first.setdefault(outcome.voxels_hash, outcome.record.scan_id)
        if keep_copies or same_as == outcome.record.scan_id:
            prepared.append(outcome)
        else:
            skipped.append(SkippedScan(scan.record.path, f"It has the same content as {same_as}."))
    return prepared, skipped
