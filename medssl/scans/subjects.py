"""Whom each scan shows, as far as file and folder names tell."""

import re
from collections.abc import Sequence

_SUBJECT = re.compile(r"(?:^|[/_])(sub-[^/_.]+)")
_SESSION = re.compile(r"(?:^|[/_])(ses-[^/_.]+)")


def bids_subject(stem: str) -> str | None:
    """Return the last BIDS subject in a path, such as "sub-01", or None."""
    return _last(_SUBJECT, stem)


def bids_session(stem: str) -> str | None:
    """Return the last BIDS session in a path, such as "ses-1", or None."""
    return _last(_SESSION, stem)


def naming_level(stems: Sequence[str]) -> int:
    """Find which part of a path names the subject where nothing else tells.

    It is the file name, unless most file names return in other folders (``anna/T1``, ``ben/T1``, ...); then
    it is the nearest folder above whose name mostly does not return.

    Args:
        stems: Paths below the searched folder, without image suffix.

    Returns:
        0 for the file name, 1 for its folder, and so on.
    """
    paths = [tuple(stem.split("/")) for stem in stems]
    for level in range(max(map(len, paths), default=0)):
        places = {parts[: len(parts) - level] for parts in paths if len(parts) > level}
        names = {place[-1] for place in places}
        if 2 * len(names) > len(places):
            return level
    return 0


def name_at_level(stem: str, level: int) -> str:
    """Return the part of a path that `naming_level` found, or the file name where the path is shorter."""
    parts = stem.split("/")
    return parts[-1 - level] if len(parts) > level else parts[-1]


def _last(pattern: re.Pattern[str], stem: str) -> str | None:
    matches = pattern.findall(stem)
    return matches[-1] if matches else None
