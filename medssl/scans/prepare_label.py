"""Turn label maps into prepared ones: cut and resampled as the images that they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl.progress import Progress
from medssl.scans.grid import resample_labels
from medssl.scans.label_map import read_label_map
from medssl.scans.label_store import LabelSidecar, find_label, label_path, write_label
from medssl.scans.once import Failed, do_once
from medssl.scans.prepare import Recipe
from medssl.scans.processes import count_processes
from medssl.scans.record import PreparedScan


@dataclass(frozen=True, slots=True)
class PreparedLabel:
    """A label map in the store.

    Attributes:
        path: Its voxels, uint8, on the grid of its image.
        about: What is known of them.
    """

    path: Path
    about: LabelSidecar


@dataclass(frozen=True, slots=True)
class CutLabels:
    """A label map ready to be stored.

    Attributes:
        labels: ``(X, Y, Z)``, on the grid of the prepared image.
        outside_share: Share of the labelled voxels of the source that were cut away.
    """

    labels: NDArray[np.uint8]
    outside_share: float


@dataclass(frozen=True, slots=True)
class LabelTask:
    """One label map to prepare, as `medssl.scans.once.Task`.

    Attributes:
        path: The file.
        image: The prepared image that it belongs to.
        recipe: How that one was prepared.
    """

    path: Path
    image: PreparedScan
    recipe: Recipe

    @property
    def name(self) -> str:
        """The scan_id of its image."""
        return self.image.record.scan_id

    def find(self, content_hash: str) -> PreparedLabel | None:
        """Return it where it lies in the store."""
        path = self._stored(content_hash)
        about = find_label(path, is_verified=self.recipe.data.verify_store)
        return PreparedLabel(path, about) if about else None

    def prepare(self) -> CutLabels:
        """Read it and bring it to the grid of its image."""
        labels = read_label_map(self.path, like=self.image.source)
        cut = labels[tuple(slice(*sides) for sides in self.image.foreground)]
        n_labelled = int(np.count_nonzero(labels))
        n_outside = n_labelled - int(np.count_nonzero(cut))
        return CutLabels(resample_labels(cut, self.image.shape), n_outside / max(n_labelled, 1))

    def write(self, content_hash: str, prepared: CutLabels) -> PreparedLabel:
        """Store it."""
        path = self._stored(content_hash)
        about = write_label(self.recipe.store, path, prepared.labels, outside_share=prepared.outside_share)
        return PreparedLabel(path, about)

    def _stored(self, content_hash: str) -> Path:
        return label_path(
            self.recipe.store,
            self.recipe.key,
            image_hash=self.image.content_hash,
            label_hash=content_hash,
        )


def prepare_labels(
    tasks: Sequence[LabelTask], *, recipe: Recipe, progress: Progress
) -> list[PreparedLabel | Failed]:
    """Read, check, cut and resample label maps into the store, unless they lie there already.

    Args:
        tasks: All with the same recipe.
        recipe: That of the tasks.
        progress: Gets a bar, and a warning where label maps reach outside of the foreground.

    Returns:
        What became of each, in their order.

    Raises:
        MedsslError: If the store cannot be written to, or no process can be started.
    """
    prepared = do_once(
        tasks,
        folder=recipe.store.folder,
        processes=count_processes(recipe.data.prepare_workers),
        description="Preparing label maps",
        progress=progress,
    )
    _warn_of_cut_labels(prepared, progress)
    return prepared


def _warn_of_cut_labels(prepared: Sequence[PreparedLabel | Failed], progress: Progress) -> None:
    shares = [label.about.outside_share for label in prepared if isinstance(label, PreparedLabel)]
    n_cut = sum(share > 0 for share in shares)
    if n_cut:
        progress.warn(
            f"Label maps that reach into the empty border, which is cut away: {n_cut}, losing up to "
            f"{max(shares):.1%} of their voxels; data.crop_to_foreground=false keeps the border."
        )
