"""Prepared scans on disk: 16-bit voxels, of which a crop reads little more than itself.

    folder/<recipe key>/<content hash>.b2nd    voxels, float16 in [0, 1], a Blosc2 array in compressed chunks
    folder/<recipe key>/<content hash>.npy     or a plain NumPy array, where compression hardly shrinks it
    folder/<recipe key>/<content hash>.json    sidecar; written last, so its presence makes the entry whole

A further channel of a scan is cut as the first one was, so its entry carries both names, joined by a hyphen.
Entries are named by what they hold, so runs can share a store, also at the same time.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import blosc2
import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from medssl.atomic import atomic_path, write_text
from medssl.config.schema import Auto, DataConfig
from medssl.errors import MedsslError
from medssl.scans.record import Bounds, IntensityRecipe, PreparedScan, ScanHeader, ScanRecord

Spacing = tuple[float, float, float]

STORE_FORMAT = 3
"""Raised whenever preparing changes what a scan becomes, so that old entries are not taken for new ones."""

CHUNK_VOXELS = 64
BLOCK_VOXELS = 16
# Crops of 64^3 at random places of a noisy 256^3 brain, as float32, in crops for each second of one core:
#   chunks 64, blocks 16: 690    chunks 32, blocks 16: 760    chunks 64, blocks 64: 510    one chunk: 410
# Chunks of 32 take four times as long to write. An uncompressed float16 memory map gives 1380, Blosc2 without
# compression 960, Zstandard 400. LZ4 leaves noisy voxels at 98 % of their size (Zstandard: 58 %), but shrinks
# empty background, half of many scans, to nothing. Two threads gave 1.8 times the rate of one while half of
# the time went into the conversion to float32: Blosc2 holds the interpreter lock while it decompresses.

Layout = Literal[".b2nd", ".npy"]

WORTH_COMPRESSING = 0.75
"""Share of their size that compressed voxels take at most, or they are stored as they are.

A thread makes 1.3 to 1.4 times as many crops of plain voxels (`bin/bench data`). A brain cut to its
foreground is as large in either layout, one with air round it half as large when compressed.
"""

OPEN_SCANS = 128
"""Scans kept open for reading: each takes a file descriptor and half a megabyte, and saves 0.4 ms a crop."""

MANTISSA_BITS_MORE = np.uint32(23 - 10)
EXPONENT_BIAS_MORE = np.float32(2.0 ** (127 - 15))
"""How float32 differs from float16 (IEEE 754)."""

INFINITY_BITS = np.uint16(0x7C00)
"""Float16's infinity; as a whole number, every finite value that is not negative is less."""

NOT_IN_VOXELS = {
    "spacing_mm",
    "val_fraction",
    "time_points",
    "max_scan_gb",
    "verify_store",
    "prepare_workers",
    "compress",
}
"""Data settings that stored voxels do not depend on; the spacing counts as planned, not as it was set."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What lies beside an entry's voxels; see `PreparedScan` for what has the same name there.

    Attributes:
        shape: Stored voxels along +R, +A, +S.
        spacing_mm: Their spacing.
        recipe: How they were normalised.
        source: The header of the file they came from.
        foreground: The box of the source volume that was kept.
        layout: Suffix of the voxel file, compressed or plain.
        voxels_bytes: Size of the voxel file.
        voxels_blake2b: Checksum of the voxel file.
    """

    shape: tuple[int, int, int]
    spacing_mm: Spacing
    recipe: IntensityRecipe
    source: ScanHeader
    foreground: Bounds
    layout: Layout
    voxels_bytes: int
    voxels_blake2b: str


_SIDECAR = TypeAdapter(Sidecar)


def recipe_key(spacing_mm: Spacing, data: DataConfig) -> str:
    """Return a short name for everything, apart from the source file, that stored voxels depend on.

    Args:
        spacing_mm: The planned spacing.
        data: The other settings.
    """
    settings = data.model_dump(mode="json", exclude=NOT_IN_VOXELS)
    recipe = {"format": STORE_FORMAT, "spacing_mm": [float(value) for value in spacing_mm], **settings}
    return hashlib.blake2b(json.dumps(recipe, sort_keys=True).encode(), digest_size=8).hexdigest()


class ScanStore:
    """A folder of prepared scans, made when the first one is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def find(
        self,
        record: ScanRecord,
        *,
        key: str,
        content_hash: str,
        beside: str | None = None,
        is_verified: bool = True,
    ) -> PreparedScan | None:
        """Return the prepared form of a scan, or None where it does not lie whole in the store.

        Args:
            record: The scan, as this search found it.
            key: From `recipe_key`.
            content_hash: Of the scan's file.
            beside: The content hash of the first channel, where this is a further one.
            is_verified: Whether its voxels are compared with their checksum, not only with their size.
        """
        path = self._sidecar_path(key, content_hash, beside)
        sidecar = _read_sidecar(path)
        if sidecar is None:
            return None
        voxels_path = path.with_suffix(sidecar.layout)
        if is_verified and checksum(voxels_path.read_bytes()) != sidecar.voxels_blake2b:
            return None
        return _prepared(record, content_hash, voxels_path, sidecar)

    def write(
        self,
        record: ScanRecord,
        volume: NDArray[np.floating],
        *,
        key: str,
        content_hash: str,
        spacing_mm: Spacing,
        recipe: IntensityRecipe,
        source: ScanHeader,
        foreground: Bounds,
        beside: str | None = None,
        compressed: bool | Auto = "auto",
    ) -> PreparedScan:
        """Add one prepared scan; others who write the same entry at the same time do no harm.

        Args:
            record: The scan it came from.
            volume: ``(X, Y, Z)`` in RAS, normalised to [0, 1]; kept as float16.
            key: From `recipe_key`.
            content_hash: Of the scan's file.
            spacing_mm: Of ``volume``.
            recipe: How it was normalised.
            source: The header it was read with.
            foreground: The box of the source volume that was kept.
            beside: The content hash of the first channel, where this is a further one.
            compressed: Whether the voxels are; "auto" where that pays, see `WORTH_COMPRESSING`.

        Raises:
            MedsslError: If the folder cannot be written to, as when the disk is full.
        """
        x, y, z = volume.shape
        layout, content = _encode(volume.astype(np.float16), compressed)
        about = (spacing_mm, recipe, source, foreground)
        sidecar = Sidecar((x, y, z), *about, layout, len(content), checksum(content))
        path = self._sidecar_path(key, content_hash, beside)
        voxels_path = path.with_suffix(layout)
        try:
            voxels_path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(voxels_path) as temporary:
                temporary.write_bytes(content)
            write_text(path, _SIDECAR.dump_json(sidecar, indent=1).decode())
        except OSError as error:
            raise unwritable(self.folder, error) from error
        return _prepared(record, content_hash, voxels_path, sidecar)

    def _sidecar_path(self, key: str, content_hash: str, beside: str | None) -> Path:
        return self.folder / key / f"{beside + '-' if beside else ''}{content_hash}.json"


@lru_cache(maxsize=OPEN_SCANS)
def open_voxels(store_path: Path) -> blosc2.NDArray | np.ndarray:
    """Open a prepared scan for partial reads, from several threads if need be.

    ``open_voxels(path)[2:66, 0:64, 7:71]`` is a float16 array for which only the chunks or rows it touches
    were read. It may be a view of the file, which cannot be written to.
    """
    if store_path.suffix == ".npy":
        return np.asarray(np.load(store_path, mmap_mode="r"))  # slices of a memmap object take longer to make
    one_thread = blosc2.DParams(nthreads=1)  # the caller's threads are the parallel ones
    return blosc2.open(str(store_path), mode="r", mmap_mode="r", dparams=one_thread)


def widen(voxels: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return stored voxels as float32, every value as it was; float32 comes back itself.

    Moves the bits of all voxels at once, which takes a fifth of the time of ``astype``. That is right for
    what a store should hold, finite and not negative; anything else is converted the plain way.
    """
    if voxels.dtype != np.float16:
        return voxels.astype(np.float32, copy=False)
    if not _as_stored(voxels):
        return voxels.astype(np.float32)
    widened = (voxels.view(np.uint16).astype(np.uint32) << MANTISSA_BITS_MORE).view(np.float32)
    widened *= EXPONENT_BIAS_MORE
    return widened


def all_finite(voxels: NDArray[np.floating]) -> bool:
    """Tell whether no voxel is NaN or infinite; ``np.isfinite`` takes ten times as long for float16."""
    return (voxels.dtype == np.float16 and _as_stored(voxels)) or bool(np.isfinite(voxels).all())


def _as_stored(voxels: NDArray[np.float16]) -> bool:
    """Tell whether all voxels are finite and not negative, by their bits."""
    return voxels.size == 0 or bool(voxels.view(np.uint16).max() < INFINITY_BITS)


def checksum(content: bytes) -> str:
    """Return the BLAKE2b hash of what is stored: 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def unwritable(folder: Path, error: OSError) -> MedsslError:
    """Return the error for a store that cannot be written to."""
    reason = (error.strerror or str(error)).lower()
    return MedsslError(
        f"The store of prepared scans in {folder} cannot be written to ({reason}); "
        "make room there or choose another folder."
    )


def compress(volume: NDArray[np.generic]) -> bytes:
    """Return the bytes of a Blosc2 file, for Python to write: Blosc2 does not tell why a write failed."""
    chunks = tuple(min(CHUNK_VOXELS, length) for length in volume.shape)
    blocks = tuple(min(BLOCK_VOXELS, length) for length in volume.shape)
    fast = blosc2.CParams(
        codec=blosc2.Codec.LZ4,
        clevel=1,
        filters=[blosc2.Filter.SHUFFLE],
        typesize=volume.dtype.itemsize,
        nthreads=1,
    )
    return blosc2.asarray(volume, chunks=chunks, blocks=blocks, cparams=fast).to_cframe()


def _encode(voxels: NDArray[np.float16], compressed: bool | Auto) -> tuple[Layout, bytes]:
    """Return the layout of a voxel file and what it holds."""
    if compressed is not False:
        frame = compress(voxels)
        if compressed is True or len(frame) <= WORTH_COMPRESSING * voxels.nbytes:
            return ".b2nd", frame
    buffer = io.BytesIO()
    np.save(buffer, voxels)
    return ".npy", buffer.getvalue()


def _read_sidecar(path: Path) -> Sidecar | None:
    """Return the sidecar of an entry, or None unless both its files are there in full."""
    try:
        sidecar = _SIDECAR.validate_json(path.read_bytes())
        is_whole = path.with_suffix(sidecar.layout).stat().st_size == sidecar.voxels_bytes
        return sidecar if is_whole else None
    except (OSError, ValueError):
        return None


def _prepared(record: ScanRecord, content_hash: str, voxels_path: Path, sidecar: Sidecar) -> PreparedScan:
    return PreparedScan(
        record=record,
        content_hash=content_hash,
        voxels_hash=sidecar.voxels_blake2b,
        store_path=voxels_path,
        shape=sidecar.shape,
        spacing_mm=sidecar.spacing_mm,
        recipe=sidecar.recipe,
        source=sidecar.source,
        foreground=sidecar.foreground,
    )
