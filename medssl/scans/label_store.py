"""Prepared label maps, three files each, in the folder of the store where their images lie.

    <image hash>-<label hash>.labels.b2nd    labels, uint8, a Blosc2 array
    <image hash>-<label hash>.labels.places  indices of some voxels of each class, three uint16 each
    <image hash>-<label hash>.labels.json    sidecar; written last, so its presence makes the entry whole

The places are there so that a crop around a labelled voxel needs no search through the labels.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from medssl.atomic import atomic_path, write_text
from medssl.scans.store import ScanStore, checksum, compress, unwritable

MAX_PLACES = 10_000
"""Voxels of each class whose places are kept: so many that a crop around one is as good as around any."""

PLACES_DTYPE = np.dtype("<u2")


@dataclass(frozen=True, slots=True)
class LabelSidecar:
    """What lies beside a prepared label map.

    Attributes:
        class_voxels: Number of voxels of each class that occurs, without the background. In this order the
            places of up to `MAX_PLACES` voxels of each follow one another.
        outside_share: Share of the labelled voxels of the source that lie outside of the foreground box.
        labels_bytes: Size of the label file.
        places_bytes: Size of the file of places.
        blake2b: Checksum of both, one after the other.
    """

    class_voxels: dict[int, int]
    outside_share: float
    labels_bytes: int
    places_bytes: int
    blake2b: str


_SIDECAR = TypeAdapter(LabelSidecar)


def label_path(store: ScanStore, key: str, *, image_hash: str, label_hash: str) -> Path:
    """Return where the labels of an image lie, or would lie.

    Args:
        store: Of the image.
        key: From `medssl.scans.store.recipe_key`.
        image_hash: Content hash of the image's file.
        label_hash: Content hash of the label map's file.
    """
    return store.folder / key / f"{image_hash}-{label_hash}.labels.b2nd"


def find_label(path: Path, *, is_verified: bool = True) -> LabelSidecar | None:
    """Return the sidecar of a label map, or None where it does not lie whole in the store.

    Args:
        path: From `label_path`.
        is_verified: Whether both files are compared with their checksum, not only with their sizes.
    """
    try:
        sidecar = _SIDECAR.validate_json(path.with_suffix(".json").read_bytes())
        sizes = (path.stat().st_size, _places_path(path).stat().st_size)
        if sizes != (sidecar.labels_bytes, sidecar.places_bytes):
            return None
        if is_verified and checksum(path.read_bytes() + _places_path(path).read_bytes()) != sidecar.blake2b:
            return None
    except (OSError, ValueError):
        return None
    return sidecar


def write_label(
    store: ScanStore, path: Path, labels: NDArray[np.uint8], *, outside_share: float
) -> LabelSidecar:
    """Add a label map; others who write the same one at the same time do no harm.

    Args:
        store: Where it goes.
        path: From `label_path`. Its name alone decides which places are drawn.
        labels: ``(X, Y, Z)`` on the grid of the prepared image.
        outside_share: See `LabelSidecar`.

    Raises:
        MedsslError: If the store cannot be written to.
    """
    class_voxels = {label: n for label, n in enumerate(np.bincount(labels.ravel()).tolist()) if label and n}
    frame = compress(labels)
    places = _draw_places(labels, list(class_voxels), name=path.stem).tobytes()
    sidecar = LabelSidecar(class_voxels, outside_share, len(frame), len(places), checksum(frame + places))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(_places_path(path)) as temporary:
            temporary.write_bytes(places)
        with atomic_path(path) as temporary:
            temporary.write_bytes(frame)
        write_text(path.with_suffix(".json"), _SIDECAR.dump_json(sidecar).decode())
    except OSError as error:
        raise unwritable(store.folder, error) from error
    return sidecar


def draw_place(path: Path, class_voxels: Mapping[int, int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the index ``(3,)`` of a voxel of a class that is drawn uniformly from those that occur.

    Args:
        path: Of the label map.
        class_voxels: Of the same label map; at least one class.
        rng: Draws the class, then the voxel.
    """
    counts = [min(count, MAX_PLACES) for count in class_voxels.values()]
    drawn = rng.integers(len(counts))
    row = sum(counts[:drawn]) + rng.integers(counts[drawn])
    bytes_before = int(row) * 3 * PLACES_DTYPE.itemsize
    return np.fromfile(_places_path(path), PLACES_DTYPE, count=3, offset=bytes_before).astype(np.int64)


def _draw_places(labels: NDArray[np.uint8], classes: list[int], *, name: str) -> NDArray[np.uint16]:
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
    rng = np.random.default_rng(seed)
    drawn = [np.empty(0, dtype=np.int64)]
    for label in classes:
        places = np.flatnonzero(labels == label)
        drawn.append(rng.choice(places, min(len(places), MAX_PLACES), replace=False))
    return np.stack(np.unravel_index(np.concatenate(drawn), labels.shape), axis=1).astype(PLACES_DTYPE)


def _places_path(path: Path) -> Path:
    return path.with_suffix(".places")
