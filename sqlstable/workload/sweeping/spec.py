"""One run of a script, described so that any process can carry it out, and told by its content."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from sqlstable.analysis.scaling.runs import Scalar
from sqlstable.database.library import sqlite_version
from sqlstable.ic.words import CacheState
from sqlstable.workload.placeholders import Value

_HASHED_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that a run reads, and what it must hold."""

    path: str
    "Absolute: the process that runs may stand in another folder, or on another machine."
    sha256: str


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A script, what it runs on, and the settings: all that a result depends on.

    Examples:
        >>> spec = make_spec("SELECT 1", choices={"page_size": 512})
        >>> spec.key == make_spec("SELECT 1", choices={"page_size": 512}).key
        True
        >>> spec.key == make_spec("SELECT 2", choices={"page_size": 512}).key
        False
    """

    script: str
    "Its text, with the defaults of its parameters."
    name: str
    "What failures call it."
    folder: str
    "Where the CSV files of ``--@ params`` lie."
    choices: tuple[tuple[str, Scalar], ...]
    "What is chosen for the canister, by name in alphabetical order."
    parameters: tuple[tuple[str, Value], ...]
    "Values of the script's parameters, likewise."
    database: SourceFile | None
    "What is imported first."
    rows: tuple[SourceFile, ...]
    "The CSV files that the script names."
    cache: CacheState | None
    versions: tuple[str, str]
    "Of sqlstable and of SQLite: others may count otherwise."

    @property
    def key(self) -> str:
        """Its content as a SHA-256 in hexadecimal; where files lie is not part of it."""
        content = asdict(self)
        for name in ("name", "folder"):
            del content[name]
        content["database"] = None if self.database is None else self.database.sha256
        content["rows"] = [file.sha256 for file in self.rows]
        text = json.dumps(content, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def make_spec(
    script: str,
    *,
    name: str = "script",
    folder: Path | None = None,
    choices: Mapping[str, Scalar] | None = None,
    parameters: Mapping[str, Value] | None = None,
    database: SourceFile | None = None,
    rows: Sequence[SourceFile] = (),
    cache: CacheState | None = None,
) -> RunSpec:
    """Describe one run."""
    return RunSpec(
        script=script,
        name=name,
        folder=str((folder or Path()).absolute()),
        choices=tuple(sorted((choices or {}).items())),
        parameters=tuple(sorted((parameters or {}).items())),
        database=database,
        rows=tuple(rows),
        cache=cache,
        versions=versions(),
    )


def versions() -> tuple[str, str]:
    """Return the versions of sqlstable and of SQLite."""
    # The root of the package is loaded whenever a part of it is: it need not be imported.
    return str(sys.modules["sqlstable"].__version__), sqlite_version()


def source_file(path: Path) -> SourceFile:
    """Describe a file by its content.

    Raises:
        OSError: It cannot be read.
    """
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_HASHED_BYTES):
            found.update(piece)
    return SourceFile(str(path.absolute()), found.hexdigest())
