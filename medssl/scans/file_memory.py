"""What was found out about files, for as long as they do not change."""

import io
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

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


Entry = tuple[str, int, int]
"""A file, by its absolute path and its signature."""


class FileMemory:
    """A list of facts about files that grows at its end, one line a file.

    So a killed run loses nothing but perhaps its last line, and several runs can add to it at once. The facts
    stay on disk: of each line, memory holds the place where it begins and a hash of the file it is about.

    Args:
        path: Of the list, ``.jsonl``; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places = _find_lines(path) if path.exists() else {}

    def look_up(self, path: Path, signature: Signature) -> str | None:
        """Return what is known of a file that has this signature, or None."""
        return next(self.look_up_all([(path, signature)]))

    def look_up_all(self, files: Iterable[tuple[Path, Signature | None]]) -> Iterator[str | None]:
        """Yield what is known of each of many files, or None; nothing is known of one without a signature."""
        with ExitStack() as stack:
            lines: IO[bytes] | None = None
            for path, signature in files:
                entry = _entry(path, signature) if signature else None
                place = self._places.get(hash(entry))
                if entry is None or place is None:
                    yield None
                    continue
                lines = lines or stack.enter_context(self._open_to_read())
                lines.seek(place)
                known, fact = _parse(lines.readline())
                yield fact if known == entry else None

    def remember(self, path: Path, signature: Signature, fact: str) -> None:
        """Add what is known of a file with this signature, unless the list has it.

        Raises:
            MedsslError: If the list cannot be written.
        """
        self.remember_all([(path, signature, fact)])

    def remember_all(self, facts: Iterable[tuple[Path, Signature, str]]) -> None:
        """Add what is known of many files, each with its signature, unless the list has it.

        Args:
            facts: As text. Each is written before the next is asked for.

        Raises:
            MedsslError: If the list cannot be written.
        """
        with ExitStack() as stack:
            lines: IO[bytes] | None = None
            for path, signature, fact in facts:
                if self.look_up(path, signature) == fact:
                    continue
                try:
                    lines = lines or stack.enter_context(self._open_to_add())
                    self._add(lines, _entry(path, signature), fact)
                except OSError as error:
                    raise unwritable(self._path.parent, error) from error

    def _open_to_read(self) -> IO[bytes]:
        try:
            return self._path.open("rb")
        except OSError:  # removed since, and with it what was known
            return io.BytesIO()

    def _open_to_add(self) -> IO[bytes]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._path.open("ab", buffering=0)  # a write a line: those of two runs do not mix

    def _add(self, lines: IO[bytes], entry: Entry, fact: str) -> None:
        line = json.dumps([*entry, fact]).encode() + b"\n"
        lines.write(line)
        self._places[hash(entry)] = lines.tell() - len(line)


def _entry(path: Path, signature: Signature) -> Entry:
    return (str(path.absolute()), *signature)


def _find_lines(path: Path) -> dict[int, int]:
    """Return where in a list the last line about each file begins, by the hash of its entry."""
    places = {}
    begin = 0
    with path.open("rb") as lines:
        for line in lines:
            entry, _ = _parse(line)
            if entry is not None:
                places[hash(entry)] = begin
            begin += len(line)
    return places


def _parse(line: bytes) -> tuple[Entry, str] | tuple[None, None]:
    """Return entry and fact of a line, or nothing where it was cut short by a kill."""
    try:
        source, size_bytes, mtime_ns, fact = json.loads(line)
    except (ValueError, TypeError):
        return None, None
    types = [type(value) for value in (source, size_bytes, mtime_ns, fact)]
    return ((source, size_bytes, mtime_ns), fact) if types == [str, int, int, str] else (None, None)
