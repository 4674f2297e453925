"""What source files held when they were last hashed, so that unchanged ones are not read again."""

import json
from pathlib import Path

from medssl.scans.store import unwritable

Signature = tuple[int, int]
"""Size in bytes and modification time in nanoseconds; while both stay, a file counts as unchanged."""


def file_signature(path: Path) -> Signature:
    """Return size and modification time of a file.

    Raises:
        OSError: If it is not there.
    """
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


class SourceHashes:
    """A list of content hashes that grows at its end, one line a file.

    So a killed run loses nothing but perhaps its last line, and several runs can add to it at once.

    Args:
        folder: Of the store; the list is ``source_hashes.jsonl`` in it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "source_hashes.jsonl"
        self._known = _read(self._path) if self._path.exists() else {}

    def look_up(self, path: Path, signature: Signature) -> str | None:
        """Return the content hash of a file that has this signature, if it is known."""
        return self._known.get((str(path.absolute()), *signature))

    def remember(self, path: Path, signature: Signature, content_hash: str) -> None:
        """Add what a file with this signature holds, unless the list has it.

        Raises:
            MedsslError: If the list cannot be written.
        """
        if self.look_up(path, signature) == content_hash:
            return
        entry = (str(path.absolute()), *signature)
        self._known[entry] = content_hash
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([*entry, content_hash]) + "\n")
        except OSError as error:
            raise unwritable(self._path.parent, error) from error


def _read(path: Path) -> dict[tuple[str, int, int], str]:
    known = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            source, size_bytes, mtime_ns, content_hash = json.loads(line)
        except (ValueError, TypeError):  # cut short by a kill
            continue
        known[source, size_bytes, mtime_ns] = content_hash
    return known
