"""The file of results: one SQLite file, from which an interrupted sweep goes on.

Any SQLite tool opens it. What is to be run is in it from the start, in order; a run's rows and the
word that it has finished come in one transaction. So after Ctrl-C, ``kill -9`` or a full disk a
run is there whole or still to be done, and the same sweep begun again does the rest. It holds the
same rows whichever executor ran, and in whatever order runs finished.

``PRAGMA application_id`` is `RESULTS_APPLICATION_ID`, ``PRAGMA user_version``
`RESULTS_FORMAT_VERSION`; `SCHEMA` explains each column.

**Limitations.** All runs of one file are of one script; another one gets another file.
"""

import hashlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Self

from sqlstable.analysis.scaling.runs import RanMessage, RanStatement, RunResult, Scalar
from sqlstable.errors import ResultsError
from sqlstable.ic.units import NO_LIMIT
from sqlstable.trace.model import LimitUse
from sqlstable.workload.sweeping.spec import RunSpec

RESULTS_APPLICATION_ID: Final = int.from_bytes(b"SqSw", "big")
"""``PRAGMA application_id``: the bytes ``SqSw`` at offset 68."""

RESULTS_FORMAT_VERSION: Final = 1
"""``PRAGMA user_version``."""

BUSY_S: Final = 30.0
"""How long another process may keep the file to itself."""

SCHEMA: Final = """\
CREATE TABLE about ( -- what all runs have in common
  name TEXT PRIMARY KEY, -- script_sha256, script_name, command (scale or sweep)
  value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE run ( -- one run of the script, from the moment on at which it is planned
  run_index INTEGER PRIMARY KEY, -- counted from 0, in the order of the plan
  key TEXT NOT NULL UNIQUE, -- SHA-256 of script, settings, parameters, database and versions
  choices TEXT NOT NULL, -- JSON: what was chosen for the canister
  parameters TEXT NOT NULL, -- JSON: values of the script's parameters
  is_finished INTEGER NOT NULL DEFAULT 0, -- 0: still to be done, and all below is empty
  failure TEXT, -- why it failed, or could not begin; NULL where it ended well
  settings TEXT, -- JSON: all settings of the canister
  index_uses TEXT, -- JSON: OS pages of each index that statements which only read accessed
  instructions INTEGER, -- of all messages; NULL where nobody counted
  os_pages_accessed INTEGER, -- each counted once in its message
  os_pages_dirty INTEGER, -- likewise
  stable_bytes INTEGER, -- size of stable memory after the last message
  used_bytes INTEGER -- of all files in it, then; NULL where nobody said
);
CREATE TABLE message ( -- a message of a run, from the install on
  run_index INTEGER NOT NULL REFERENCES run,
  message_index INTEGER NOT NULL, -- counted from 0 in its run
  kind TEXT NOT NULL, -- install, update, query, upgrade or reinstall
  label TEXT, -- as --@ label has it
  outcome TEXT NOT NULL, -- committed, discarded or trapped
  trap TEXT, -- the trap's text
  trap_limit TEXT, -- the limit that trapped it
  os_pages_accessed INTEGER NOT NULL,
  os_pages_dirty INTEGER NOT NULL,
  stable_bytes INTEGER NOT NULL, -- size of stable memory when it had ended
  instructions INTEGER, -- NULL where nobody counted
  hits INTEGER, -- SQLite pages out of SQLite's cache; NULL where nobody counted
  PRIMARY KEY (run_index, message_index)
) WITHOUT ROWID;
CREATE TABLE message_limit ( -- how much of a limit a message used
  run_index INTEGER NOT NULL REFERENCES run,
  message_index INTEGER NOT NULL,
  position INTEGER NOT NULL, -- among the limits of the message, counted from 0
  name TEXT NOT NULL,
  used INTEGER NOT NULL,
  limit_value INTEGER, -- NULL where there is none
  PRIMARY KEY (run_index, message_index, position)
) WITHOUT ROWID;
CREATE TABLE statement ( -- a statement of a message
  run_index INTEGER NOT NULL REFERENCES run,
  statement_index INTEGER NOT NULL, -- counted from 0 in its run
  message_index INTEGER NOT NULL,
  place INTEGER NOT NULL, -- in its message, counted from 0
  sql TEXT NOT NULL, -- its first 10 000 characters
  shape TEXT NOT NULL, -- without its literals, cut likewise
  kind TEXT NOT NULL, -- read, write, ddl, transaction or pragma
  plan TEXT NOT NULL, -- lines of EXPLAIN QUERY PLAN
  row_count INTEGER NOT NULL,
  runs INTEGER NOT NULL, -- more than 1 for rows of --@ params
  os_pages_accessed INTEGER NOT NULL,
  os_pages_dirty INTEGER NOT NULL,
  stable_calls INTEGER NOT NULL, -- calls of the stable memory API
  stable_bytes_moved INTEGER NOT NULL, -- bytes read and written
  hits INTEGER, -- SQLite pages out of SQLite's cache; NULL where nobody counted
  instructions INTEGER, -- NULL where nobody counted
  PRIMARY KEY (run_index, statement_index)
) WITHOUT ROWID;
"""

_TOTALS: Final = (
    *("instructions", "os_pages_accessed", "os_pages_dirty", "stable_bytes", "used_bytes"),
)
_MESSAGE: Final = (
    *("index", "kind", "label", "outcome", "trap", "trap_limit", "os_pages_accessed"),
    *("os_pages_dirty", "stable_bytes", "instructions", "hits"),
)
_STATEMENT_HEAD: Final = ("index", "message", "place", "sql", "shape", "kind")
_STATEMENT_TAIL: Final = (
    *("row_count", "runs", "os_pages_accessed", "os_pages_dirty", "stable_calls"),
    *("stable_bytes_moved", "hits", "instructions"),
)

_ToRow = Callable[[object], tuple[Any, ...]]
_totals: Final[_ToRow] = attrgetter(*_TOTALS)
_message: Final[_ToRow] = attrgetter(*_MESSAGE)
_head: Final[_ToRow] = attrgetter(*_STATEMENT_HEAD)
_tail: Final[_ToRow] = attrgetter(*_STATEMENT_TAIL)


class ResultsFile:
    """Results of runs of one script, in a file or in memory; a context manager.

    Args:
        path: The file; made if it is not there. None keeps results in memory.
        script: Text of the script, with the defaults of its parameters.
        name: What the script is called.
        command: What runs it, ``scale`` or ``sweep``; empty where nobody asks.

    Raises:
        ResultsError: The file is no file of results, is damaged, of a newer format, of another
            script or of another command; then it is as it was.

    Examples:
        >>> from sqlstable.workload.sweeping.one_run import run_spec
        >>> from sqlstable.workload.sweeping.spec import make_spec
        >>> specs = [make_spec("SELECT 1", choices={"page_size": size}) for size in (512, 1024)]
        >>> with ResultsFile(None, script="SELECT 1") as results:
        ...     results.plan(specs)
        ...     results.add(specs[0], run_spec(specs[0]))
        ...     [spec.choices for spec in results.missing(specs)]
        [(('page_size', 1024),)]
    """

    def __init__(
        self, path: Path | None, *, script: str, name: str = "script", command: str = ""
    ) -> None:
        self._name = "the results in memory" if path is None else str(path)
        sha256 = hashlib.sha256(script.encode()).hexdigest()
        with self._guarded():
            self._connection = _opened(path)
        try:
            with self._guarded():
                self._check(sha256, name, command)
        except BaseException:
            self._connection.close()
            raise

    def plan(self, specs: Sequence[RunSpec]) -> None:
        """Note what is to be run, in order; what is noted already stays where it is."""
        with self._guarded(), self._transaction():
            self._connection.executemany(
                "INSERT OR IGNORE INTO run (key, choices, parameters) VALUES (?, ?, ?)",
                (
                    (spec.key, _json(dict(spec.choices)), _json(dict(spec.parameters)))
                    for spec in specs
                ),
            )

    def missing(self, specs: Sequence[RunSpec]) -> list[RunSpec]:
        """Return those that have no result yet, each once, in order."""
        with self._guarded():
            done = {
                str(key)
                for (key,) in self._connection.execute("SELECT key FROM run WHERE is_finished")
            }
        return [spec for key, spec in _by_key(specs).items() if key not in done]

    def add(self, spec: RunSpec, result: RunResult) -> None:
        """Keep the result of a run that was planned, whole or not at all."""
        with self._guarded(), self._transaction():
            row = self._connection.execute(
                "SELECT run_index FROM run WHERE key = ? AND NOT is_finished", (spec.key,)
            ).fetchone()
            # Another process may have been quicker with the same sweep: equal rows are there.
            if row is not None:
                self._write(int(row[0]), result)

    def results(self, specs: Sequence[RunSpec]) -> list[RunResult | None]:
        """Return the results of runs in their order; None for one that has not finished."""
        with self._guarded():
            finished = "SELECT key, run_index FROM run WHERE is_finished"
            found = dict(self._connection.execute(finished).fetchall())
            read = {key: self._read(found[key]) for key in _by_key(specs) if key in found}
        return [read.get(spec.key) for spec in specs]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        """Use it in a ``with`` block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside ---------------------------------------------------------------------------------

    def _check(self, sha256: str, name: str, command: str) -> None:
        """Take a new file, or refuse one that is something else."""
        [(application_id,)] = self._connection.execute("PRAGMA application_id")
        [(version,)] = self._connection.execute("PRAGMA user_version")
        [(objects,)] = self._connection.execute("SELECT count(*) FROM sqlite_schema")
        if not objects and not application_id:
            self._make(sha256, name, command)
            return
        if application_id != RESULTS_APPLICATION_ID:
            raise ResultsError(f"{self._name} is no file of results; choose another file")
        if version != RESULTS_FORMAT_VERSION:
            raise ResultsError(
                f"{self._name} has results of format {version}, and this version reads "
                f"{RESULTS_FORMAT_VERSION}; install a newer sqlstable, or choose another file"
            )
        # What is missing at its end would else be found late, or not at all.
        [(found,), *_] = self._connection.execute("PRAGMA quick_check(1)")
        if found != "ok":
            raise ResultsError(f"{self._name} is damaged: {found}; choose another file")
        about = dict(self._connection.execute("SELECT name, value FROM about"))
        if about["script_sha256"] != sha256:
            raise ResultsError(
                f"{self._name} has results of another script, {about['script_name']} as it was "
                "then; choose another file"
            )
        # Files of older versions do not say.
        kept = about.get("command", "")
        if command and kept and kept != command:
            raise ResultsError(
                f"{self._name} has the runs of a {kept}, and a {command} keeps its own; choose "
                "another file"
            )

    def _make(self, sha256: str, name: str, command: str) -> None:
        self._connection.execute(f"PRAGMA application_id = {RESULTS_APPLICATION_ID}")
        with self._transaction():
            for sql in SCHEMA.split(";\n")[:-1]:
                self._connection.execute(sql)
            self._connection.execute(f"PRAGMA user_version = {RESULTS_FORMAT_VERSION}")
            about = [("script_sha256", sha256), ("script_name", name), ("command", command)]
            self._connection.executemany("INSERT INTO about VALUES (?, ?)", about)

    def _write(self, index: int, result: RunResult) -> None:
        run = (
            *(result.failure, _json(result.settings), _json(result.index_uses)),
            *(*_totals(result), index),
        )
        self._connection.execute(
            "UPDATE run SET is_finished = 1, failure = ?, settings = ?, index_uses = ?, "  # noqa: S608  our own names
            + ", ".join(f"{name} = ?" for name in _TOTALS)
            + " WHERE run_index = ?",
            run,
        )
        self._insert("message", ((index, *_message(it)) for it in result.messages))
        self._insert("message_limit", _limit_rows(index, result))
        self._insert("statement", (_statement_row(index, it) for it in result.statements))

    def _insert(self, table: str, rows: Iterator[tuple[Any, ...]]) -> None:
        found = list(rows)
        if found:
            marks = ", ".join("?" * len(found[0]))
            self._connection.executemany(f"INSERT INTO {table} VALUES ({marks})", found)  # noqa: S608  our names

    def _read(self, index: int) -> RunResult:
        [(choices, parameters, failure, settings, uses, used_bytes)] = self._select(
            "choices, parameters, failure, settings, index_uses, used_bytes", "run", index
        )
        limits: defaultdict[int, list[LimitUse]] = defaultdict(list)
        for message, name, used, limit in self._select(
            "message_index, name, used, limit_value", "message_limit", index
        ):
            limits[message].append(LimitUse(name, used, NO_LIMIT if limit is None else limit))
        return RunResult(
            choices=_object(choices),
            parameters=_object(parameters),
            settings=_object(settings),
            messages=tuple(
                RanMessage(**dict(zip(_MESSAGE, row, strict=True)), limits=tuple(limits[row[0]]))
                for row in self._select(
                    ", ".join(("message_index", *_MESSAGE[1:])), "message", index
                )
            ),
            statements=tuple(
                _statement(row)
                for row in self._select(
                    "statement_index, message_index, place, sql, shape, kind, plan, "
                    + ", ".join(_STATEMENT_TAIL),
                    "statement",
                    index,
                )
            ),
            failure=failure,
            index_uses={name: int(str(use)) for name, use in _object(uses).items()},
            used_bytes=used_bytes,
        )

    def _select(self, columns: str, table: str, index: int) -> list[tuple[Any, ...]]:
        sql = f"SELECT {columns} FROM {table} WHERE run_index = ?"  # noqa: S608  our own names
        # The primary key is the order.
        return self._connection.execute(sql, (index,)).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn what SQLite and contradicting rows raise into `ResultsError`."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise ResultsError(f"{self._name} cannot be used: {error}") from error
        except (sqlite3.Error, LookupError, TypeError, ValueError) as error:
            raise ResultsError(
                f"{self._name} is no file of results, or damaged: {error}; choose another file"
            ) from error


def _opened(path: Path | None) -> sqlite3.Connection:
    return sqlite3.connect(
        ":memory:" if path is None else path, timeout=BUSY_S, isolation_level=None
    )


def _by_key(specs: Sequence[RunSpec]) -> dict[str, RunSpec]:
    return {spec.key: spec for spec in specs}


def _limit_rows(index: int, result: RunResult) -> Iterator[tuple[Any, ...]]:
    for message in result.messages:
        for position, use in enumerate(message.limits):
            limit = None if use.limit >= NO_LIMIT else use.limit
            yield index, message.index, position, use.name, use.used, limit


def _statement_row(index: int, statement: RanStatement) -> tuple[Any, ...]:
    return (index, *_head(statement), "\n".join(statement.plan), *_tail(statement))


def _statement(row: tuple[Any, ...]) -> RanStatement:
    cut = len(_STATEMENT_HEAD)
    head = dict(zip(_STATEMENT_HEAD, row[:cut], strict=True))
    tail = dict(zip(_STATEMENT_TAIL, row[cut + 1 :], strict=True))
    return RanStatement(**head, plan=tuple(row[cut].split("\n") if row[cut] else ()), **tail)


def _json(value: Mapping[str, Scalar]) -> str:
    return json.dumps(dict(value), ensure_ascii=True)


def _object(text: str) -> dict[str, Scalar]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise TypeError(f"{text[:40]!r} is no object")
    return found
