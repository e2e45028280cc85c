"""Does a migration of a million rows stay within the limits of messages, and survive traps?

``python -m benchmarks.migrations`` migrates a table of accounts whose balance becomes a number, so
that it is made anew, with an index: cut into messages by itself, on both engines, and in one
upgrade. On the native engine once more with a trap in each of its messages, which is then sent
again. ``--rows`` takes other sizes, ``--engines`` one engine.
"""

import argparse
import os
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.measure import markdown
from sqlstable import Canister, LimitTrap, MigrationReport, Trap
from sqlstable.ic.words import EngineName
from sqlstable.schema.applying import current_schema
from sqlstable.schema.schema_data import digests
from sqlstable.testing import trap_at

OLD: Final = """
CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, balance TEXT, note TEXT);
CREATE INDEX account_owner ON account (owner);
"""
NEW: Final = OLD.replace("balance TEXT", "balance INTEGER")

TRAP_AT: Final = 8
"""The access of each message at which it traps, counted from 0."""

Digest = dict[str, tuple[int, int]]


class StopError(Exception):
    """Ends a migration behind one message."""


def make_database(path: Path, rows: int) -> None:
    """Write a database of accounts, some 100 bytes each."""
    connection = sqlite3.connect(path)
    connection.executescript(OLD)
    connection.executemany(
        "INSERT INTO account (owner, balance, note) VALUES (?, ?, ?)",
        ((f"owner {index % 9973}", str(index * 7), "x" * (index % 120)) for index in range(rows)),
    )
    connection.commit()
    connection.close()


def digest_of(canister: Canister) -> Digest:
    """Return what all rows come to."""
    connection = canister.vfs.observe()
    try:
        schema = current_schema(lambda sql, params=None: list(connection.execute(sql, params)))
        return digests(connection, schema)
    finally:
        connection.close()


def instructions_of(report: MigrationReport) -> int | None:
    """Return the instructions of all messages, where they are counted."""
    used = [it.used for one in report.messages for it in one.limits if it.name == "instructions"]
    return sum(used) if used else None


def cut(engine: EngineName, database: Path) -> tuple[tuple[object, ...], Digest]:
    """Migrate by messages; returns a row of the table."""
    with Canister(engine=engine) as canister:
        canister.import_database(database)
        before, begin = canister.status().database_size_bytes, time.perf_counter()
        report = canister.migrate(NEW)
        seconds = time.perf_counter() - begin
        grown = canister.status().database_size_bytes - before
        rows = [it.rows for it in report.messages]
        return (
            engine,
            f"{report.rows:,}",
            "messages",
            len(report.messages),
            report.crossed,
            f"{max(rows):,}",
            f"{100 * report.share_max:.2f} %",
            f"{100 * report.messages[-1].share:.2f} %",
            _billions(instructions_of(report)),
            f"{grown / 2**20:.0f}",
            f"{seconds:.1f}",
        ), digest_of(canister)


def whole(engine: EngineName, database: Path, rows: int) -> tuple[tuple[object, ...], Digest]:
    """Migrate in one upgrade; returns a row of the table."""
    with Canister(engine=engine) as canister:
        canister.import_database(database)
        before, begin = canister.status().database_size_bytes, time.perf_counter()
        reply = canister.upgrade(schema=NEW)
        seconds = time.perf_counter() - begin
        grown = canister.status().database_size_bytes - before
        share = max(it.used / it.limit for it in reply.limits)
        counted = next((it.used for it in reply.limits if it.name == "instructions"), None)
        return (
            engine,
            f"{rows:,}",
            "one upgrade",
            1,
            0,
            f"{rows:,}",
            f"{100 * share:.2f} %",
            "",
            _billions(counted),
            f"{grown / 2**20:.0f}",
            f"{seconds:.1f}",
        ), digest_of(canister)


def trapped(database: Path, rows_per_message: int) -> tuple[int, int, Digest]:
    """Migrate with a trap in each message, which is then sent again; returns how many of both."""
    messages = traps = 0

    def stop(_: object) -> None:
        raise StopError

    with Canister() as canister:
        canister.import_database(database)
        while True:
            try:
                with trap_at(canister, TRAP_AT):
                    canister.migrate(NEW, rows_per_message=rows_per_message, on_message=stop)
            except LimitTrap:
                raise
            except Trap:
                traps += 1
            except StopError:
                # It has fewer accesses.
                messages += 1
                continue
            else:
                break
            try:
                canister.migrate(NEW, rows_per_message=rows_per_message, on_message=stop)
            except StopError:
                messages += 1
            if canister.schema_status().run is None:
                break
        return messages, traps, digest_of(canister)


def _billions(instructions: int | None) -> str:
    return "" if instructions is None else f"{instructions / 1e9:.2f}"


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.migrations", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10**4, 10**5, 10**6])
    parser.add_argument(
        "--engines", nargs="+", choices=("native", "wasm"), default=["native", "wasm"]
    )
    options = parser.parse_args(arguments)
    lines: list[tuple[object, ...]] = []
    said: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in options.rows:
            database = Path(folder, f"{rows}.db")
            make_database(database, rows)
            found: list[Digest] = []
            for engine in options.engines:
                for line, digest in (cut(engine, database), whole(engine, database, rows)):
                    lines.append(line)
                    found.append(digest)
            messages, traps, digest = trapped(database, max(rows // 20, 1))
            found.append(digest)
            are_equal = all(it == found[0] for it in found)
            said.append(
                f"{rows:,} rows, native, a trap at access {TRAP_AT} of each message that has as "
                f"many: {traps} trapped, {messages} committed; all {len(found)} ways have the "
                f"same rows: "
                f"{'yes' if are_equal else 'NO'}"
            )
    heads = ("engine", "rows", "by", "messages", "crossed a limit", "rows of the largest")
    print(
        markdown(
            (
                *heads,
                "nearest limit",
                "of the switch",
                "10⁹ instructions",
                "database grew, MiB",
                "s",
            ),
            [tuple(map(str, line)) for line in lines],
        )
    )
    print("\n" + "\n".join(f"- {it}" for it in said))
    print(f"\nload after: {', '.join(f'{value:.2f}' for value in os.getloadavg())}")


if __name__ == "__main__":
    main()
