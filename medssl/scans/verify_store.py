"""Compare prepared scans with their checksums while something else goes on, and repair what was damaged."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from medssl.config.schema import DataConfig
from medssl.errors import MedsslError
from medssl.progress import SilentProgress
from medssl.scans.hashing import content_hash
from medssl.scans.prepare import prepare_scans
from medssl.scans.record import CheckedScan, PreparedScan
from medssl.scans.store import ScanStore, open_voxels


@contextmanager
def verified_meanwhile(
    scans: Iterable[PreparedScan], *, store: ScanStore, data: DataConfig, tell: Callable[[str], None]
) -> Iterator[None]:
    """Verify a store in a thread of its own while the context is open; what is left at its end stays unread.

    To read a large store from end to end takes minutes, for which nothing has to wait.

    Args:
        scans: As they were prepared.
        store: Where they lie.
        data: What they were prepared with.
        tell: Told of each damaged scan, from the thread.
    """
    ended = threading.Event()

    def verify() -> None:
        try:
            for scan in scans:
                if ended.is_set():
                    break
                repair(scan, store=store, data=data, tell=tell)
        except Exception as error:  # training can go on without
            tell(f"The rest of the store was not verified ({type(error).__name__}: {error}).")

    thread = threading.Thread(target=verify, name="verify", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def repair(scan: PreparedScan, *, store: ScanStore, data: DataConfig, tell: Callable[[str], None]) -> None:
    """Prepare a scan anew if its voxels in the store are not what was written there.

    Args:
        scan: As it was prepared.
        store: Where it lies.
        data: What it was prepared with.
        tell: Told whether that helped; not called for a scan that is whole.
    """
    if _is_whole(scan):
        return
    reason = "its file has changed since."
    try:
        _, skipped = prepare_scans(
            [CheckedScan(scan.record, scan.source)],
            store=store,
            spacing_mm=scan.spacing_mm,
            data=data.model_copy(update={"prepare_workers": 0, "verify_store": True}),
            progress=SilentProgress(),
        )
        reason = skipped[0].reason if skipped else reason
    except MedsslError as error:
        reason = str(error)
    open_voxels.cache_clear()  # it may hold the damaged file open
    if _is_whole(scan):
        tell(f"{scan.record.path} was damaged in the store and has been prepared anew.")
    else:
        tell(f"{scan.record.path} is damaged in the store and cannot be prepared anew: {reason}")


def _is_whole(scan: PreparedScan) -> bool:
    try:
        return content_hash(scan.store_path) == scan.voxels_hash
    except MedsslError:
        return False
