"""Where DICOM files lie: in a folder, or in a zip archive, which is read without being unpacked."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO

from medssl.errors import ScanError

ARCHIVE_SUFFIX = ".zip"

SUFFIXES = (".dcm", ".dicom", ".ima")

_WITHOUT_SUFFIX = re.compile(r"[^.]+|.*\.\d+")
"""Names such as IM000001 and 1.2.840.113619.2.55, as most scanners and archives give them."""

_NOT_AN_IMAGE = {"dicomdir", "lockfile", "version"}
_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"


def may_be_dicom(name: str) -> bool:
    """Tell whether a file may be DICOM by its name: ``.dcm`` and the like, or no ending but a number."""
    lower = name.lower()
    return lower not in _NOT_AN_IMAGE and (lower.endswith(SUFFIXES) or bool(_WITHOUT_SUFFIX.fullmatch(lower)))


def is_dicom(path: Path) -> bool:
    """Tell whether a file that may be DICOM is, by its first bytes unless its name says so."""
    if path.name.lower().endswith(SUFFIXES):
        return True
    try:
        with open_file(path) as file:
            return file.read(_PREAMBLE_BYTES + len(_MAGIC))[_PREAMBLE_BYTES:] == _MAGIC
    except (OSError, ScanError):
        return False


def list_folder(folder: Path) -> list[str]:
    """List the files of a folder, on disk or in an archive, that may be DICOM by their names.

    Args:
        folder: On disk, or the path of an archive followed by that of a folder in it.

    Returns:
        Names, sorted.

    Raises:
        ScanError: If the folder or archive cannot be opened.
    """
    with _failures_as_reasons():
        archive, inner = _split(folder)
        if archive is None:
            names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
        else:
            names = [name for below, name in list_archive(archive) if below == inner]
        return sorted(filter(may_be_dicom, names))


def list_archive(archive: Path) -> list[tuple[str, str]]:
    """List the files of an archive, each as its folder there ("" for the top) and its name.

    Names that would lead out of the archive, were it unpacked, are passed over.

    Raises:
        ScanError: If it cannot be opened.
    """
    with _failures_as_reasons():
        entries = _open_archive(archive, archive.stat().st_mtime_ns).infolist()
    paths = [PurePosixPath(entry.filename) for entry in entries if not entry.is_dir()]
    inside = [path for path in paths if not path.is_absolute() and ".." not in path.parts]
    return [("" if str(path.parent) == "." else str(path.parent), path.name) for path in inside]


@contextmanager
def open_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file on disk or in an archive.

    Raises:
        ScanError: If it cannot be opened.
    """
    with ExitStack() as stack:
        with _failures_as_reasons():
            archive, inner = _split(path)
            if archive is None:
                file: IO[bytes] = stack.enter_context(path.open("rb"))
            else:
                file = stack.enter_context(_open_archive(archive, archive.stat().st_mtime_ns).open(inner))
        yield file


def is_archive(path: Path) -> bool:
    """Tell whether a path is that of a zip archive."""
    return path.suffix.lower() == ARCHIVE_SUFFIX and path.is_file()


def on_disk(path: Path) -> Path:
    """Return the archive that a path leads into, or else the path itself."""
    return _split(path)[0] or path


@lru_cache(maxsize=4)
def _open_archive(archive: Path, mtime_ns: int) -> zipfile.ZipFile:
    """Return an opened archive, whose list of thousands of names is not read again for each of its files."""
    return zipfile.ZipFile(archive)


def _split(path: Path) -> tuple[Path | None, str]:
    """Return the archive in a path and the path in it, or None where all of it is on disk."""
    for parent in (path, *path.parents):
        if is_archive(parent):
            inner = path.relative_to(parent).as_posix()
            return parent, "" if inner == "." else inner
    return None, ""


@contextmanager
def _failures_as_reasons() -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ScanError("The archive is damaged; copy or download it again.") from error
    except (RuntimeError, NotImplementedError) as error:
        raise ScanError("The archive is encrypted, or compressed in a way that is not read.") from error
    except KeyError as error:
        raise ScanError("The archive does not hold it any more.") from error
    except FileNotFoundError as error:
        raise ScanError("The file does not exist, or is a link whose target was not downloaded.") from error
    except OSError as error:
        raise ScanError(f"The file cannot be opened: {error.strerror}.") from error
