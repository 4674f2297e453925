"""The folder that `medssl predict` writes: whose results it holds, and by which model."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from medssl.atomic import write_text
from medssl.errors import UsageError
from medssl.scans.cases import PreparedCase
from medssl.scans.hashing import content_hash
from medssl.scans.labelled import LabelledCase
from medssl.scans.manifest import write_table

RECORD = "predictions.json"
PARENT_FOLDER = "__"
"""Stands for ".." in the name of a scan: no result lies outside of the folder."""

Values = Mapping[str, str | float]


@dataclass(frozen=True)
class PredictionFolder:
    """Results of one model, scan by scan.

    Attributes:
        path: The folder.
        table: One row a scan, made anew from the record each time a scan is added.
        made_by: Hashes of the model's files, and whether mirror images were averaged.
        scans: What is known of each scan whose results are there, by its scan_id.
    """

    path: Path
    table: Path
    made_by: dict[str, Any]
    scans: dict[str, dict[str, Any]]

    @classmethod
    def open(cls, path: Path, *, table: str, models: Sequence[Path], flips: bool) -> "PredictionFolder":
        """Return a new folder, or one to go on with; nothing is written yet.

        Raises:
            UsageError: If ``path`` is a file, or a folder that holds something else than results made alike.
        """
        made_by = {"models": [content_hash(model) for model in models], "flips": flips}
        folder = cls(path, path / table, made_by, {})
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; name a folder for the results.")
        if not path.exists() or not any(path.iterdir()):
            return folder
        if not (path / RECORD).is_file():
            raise UsageError(f"{path} holds other files; name a new folder for the results.")
        record = _read_record(path / RECORD)
        if record["made_by"] != made_by:
            raise UsageError(
                f"{path} holds results of another model, or of this one with or without --flips otherwise: "
                "name another folder."
            )
        return cls(path, path / table, made_by, record["scans"])

    def file(self, scan_id: str, ending: str) -> Path:
        """Return where a result of a scan lies: below the folder, whatever the scan is called."""
        parts = [PARENT_FOLDER if part == ".." else part for part in PurePosixPath(scan_id).parts]
        return self.path.joinpath(*(part for part in parts if part != "/")).with_name(parts[-1] + ending)

    def refuse_clashes(self, files: Mapping[PreparedCase, Sequence[Path]]) -> None:
        """Check that no result would take the place of another one.

        Args:
            files: Where the results of each scan will lie.

        Raises:
            UsageError: If two scans would be written to one file, or one over another scan's results.
        """
        owners: dict[Path, str] = {}
        for case, own in files.items():
            scan_id, known = case.record.scan_id, self.scans.get(case.record.scan_id)
            if known and known["path"] != _path(case.record) and known["content"] != _content(case):
                raise UsageError(
                    f"{self.path} holds the results of another scan called {scan_id} ({known['path']}); "
                    "name another folder."
                )
            for file in own:
                if (other := owners.setdefault(file, scan_id)) != scan_id:
                    raise UsageError(
                        f"The scans {other} and {scan_id} would both be written to {file}: rename one of "
                        "them, or predict them into different folders."
                    )

    def has(self, case: PreparedCase, *, files: Sequence[Path]) -> bool:
        """Tell whether all results of a scan are there, and the scan has not changed since."""
        known = self.scans.get(case.record.scan_id)
        is_known = known is not None and known["content"] == _content(case)
        return is_known and all(file.exists() for file in files)

    def add(self, case: PreparedCase, values: Values) -> None:
        """Record that all results of a scan are there.

        Args:
            case: The scan.
            values: What its row of the table tells.

        Raises:
            OSError: If the folder cannot be written to.
        """
        record = case.record
        self.scans[record.scan_id] = {
            "subject_id": record.subject_id,
            "path": _path(record),
            "content": _content(case),
            "values": values,
        }
        self.save()

    def save(self) -> None:
        """Write the record and the table; makes the folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.path / RECORD, json.dumps({"made_by": self.made_by, "scans": self.scans}, indent=1))
        rows = [
            {"scan_id": scan_id, "subject_id": known["subject_id"], "path": known["path"], **known["values"]}
            for scan_id, known in self.scans.items()
        ]
        if rows:
            write_table(self.table, list(rows[0]), rows)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not {"made_by", "scans"} <= set(record):
            raise ValueError("it lacks fields")
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{path} cannot be read ({error}); name another folder.") from error
    return record


def _path(record: LabelledCase) -> str:
    return str(record.path.absolute())


def _content(case: PreparedCase) -> str:
    """Return a hash of everything that a prediction depends on; a table's values tell about people."""
    channels = [channel.content_hash for channel in case.channels]
    facts = json.dumps([*channels, dict(case.record.values)], sort_keys=True)
    return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()
