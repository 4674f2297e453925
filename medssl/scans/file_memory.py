"""What was found out about files, for as long as they do not change."""

import json
from collections.abc import Iterable
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


class FileMemory:
    """A list of facts about files that grows at its end, one line a file.

    So a killed run loses nothing but perhaps its last line, and several runs can add to it at once.

    Args:
        path: Of the list, ``.jsonl``; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path) if path.exists() else {}

    def look_up(self, path: Path, signature: Signature) -> str | None:
        """Return what is known of a file that has this signature, or None."""
        return self._known.get((str(path.absolute()), *signature))

    def remember(self, path: Path, signature: Signature, fact: str) -> None:
        """Add what is known of a file with this signature, unless the list has it.

        Raises:
            MedsslError: If the list cannot be written.
        """
        self.remember_all([(path, signature, fact)])

    def remember_all(self, facts: Iterable[tuple[Path, Signature, str]]) -> None:
        """Add what is known of many files, each with its signature, unless the list has it.

        Args:
            facts: As text, which takes little memory: there can be 100,000.

        Raises:
            MedsslError: If the list cannot be written.
        """
        lines = []
        for path, signature, fact in facts:
            entry = (str(path.absolute()), *signature)
            if self._known.get(entry) != fact:
                self._known[entry] = fact
                lines.append(json.dumps([*entry, fact]) + "\n")
        if not lines:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(lines)
        except OSError as error:
            raise unwritable(self._path.parent, error) from error


def _read(path: Path) -> dict[tuple[str, int, int], str]:
    known = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            source, size_bytes, mtime_ns, fact = json.loads(line)
        except (ValueError, TypeError):  # cut short by a kill
            continue
        if isinstance(fact, str):
            known[source, size_bytes, mtime_ns] = fact
    return known
