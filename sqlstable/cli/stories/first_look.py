"""The first look: a small shop in a canister, told in scenes.

Each scene runs for real when it is asked for, and every number in its text is taken from what was
recorded.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final

from sqlstable.analysis.page_map import page_map
from sqlstable.canister.canister import Canister
from sqlstable.canister.reply import Reply
from sqlstable.cli.scene import Change, Check, Meter, Scene, owner_counts
from sqlstable.cli.story import Stage, Story
from sqlstable.engine.statements import Rows
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.ic.words import OS_PAGES_DIRTY
from sqlstable.report.limit_words import tightest_words
from sqlstable.report.numbers import count, counted, percent, size
from sqlstable.trace.model import OwnerUse, Statement
from sqlstable.workload import shop
from sqlstable.workload.shop import Evidence

INTRODUCTION: Final = (
    "SQLite in a canister: the database lies in stable memory, which survives upgrades. The "
    "Internet Computer counts OS pages of 4 KiB there, and limits how many a message may touch. "
    "Developers have asked since 2021: how many does SQLite touch for a simple join? And for a "
    "more complicated query? Here is the answer, on a small shop."
)

GLOSSARY: Final = (
    ("accessed", "OS pages read or written, out of those that the database has"),
    ("dirty", "OS pages written"),
    ("hits", "SQLite pages found in SQLite's own cache; it is empty when a query begins"),
    ("limit", "of those that the Internet Computer sets a message, the one used most"),
)

_SHA256_DIGITS: Final = 12


class _Shop:
    """The shop's story on its way: what earlier scenes found, later ones compare with.

    Args:
        canister: New, keeping owners and a trace.
        stage: Where it is played.
    """

    def __init__(self, canister: Canister, stage: Stage) -> None:
        self._canister = canister
        self._stage = stage
        self._first_answers: dict[str, tuple[Rows, Statement]] = {}

    def scenes(self) -> Iterator[Scene]:
        """Play one scene after the other."""
        yield self._load()
        yield self._point_read()
        yield self._range()
        yield self._join()
        yield self._complicated()
        yield self._indexes()
        yield self._purchase()
        yield self._map()
        yield self._upgrade()

    # -- the scenes -----------------------------------------------------------------------------

    def _load(self) -> Scene:
        rows = shop.shop_rows()
        self._canister.update(shop.SCHEMA)
        with self._canister.message("update") as message:
            message.execute("BEGIN")
            for table, sql in shop.INSERTS.items():
                message.executemany(sql, rows[table])
            message.execute("COMMIT")
        limit = next(it for it in message.reply.limits if it.name == OS_PAGES_DIRTY)
        width = max(map(len, shop.INSERTS.values())) + 1
        inserts = [
            f"{sql + ';':<{width}}  -- {count(len(rows[table])):>6} times"
            for table, sql in shop.INSERTS.items()
        ]
        return Scene(
            headline="A shop moves in",
            sql="\n".join([shop.SCHEMA, "", "BEGIN;", *inserts, "COMMIT;"]),
            meter=self._meter(message.reply, dirty=True),
            reading=(
                f"{count(sum(map(len, rows.values())))} rows in one update message: it wrote "
                f"{counted(limit.used, 'OS page')}, {percent(limit.used, limit.limit)} of the "
                f"{count(limit.limit)} that one message may write."
            ),
        )

    def _point_read(self) -> Scene:
        def reading(statement: Statement, _rows: Rows) -> str:
            way = _accessed(statement, lambda it: it.name != "customer" or it.role != "leaf")
            leaves = _accessed(statement, lambda it: it.name == "customer" and it.role == "leaf")
            used = statement.stable.os_pages_accessed
            return (
                f"One row out of {count(shop.CUSTOMER_COUNT)} took {counted(used, 'OS page')}: "
                f"{way} to find the way, {leaves} with the row. The other "
                f"{count(self._database_os_pages - used)} were not looked at."
            )

        return self._question("One customer, by its key", shop.POINT_READ, reading)

    def _range(self) -> Scene:
        def reading(statement: Statement, rows: Rows) -> str:
            leaves = _accessed(statement, lambda it: it.name == "purchase" and it.role == "leaf")
            return (
                f"Neighbours lie together: {count(rows[0][0])} purchases lie on "
                f"{counted(leaves, 'OS page')}, and "
                f"{statement.stable.os_pages_accessed - leaves} more led there."
            )

        return self._question("A hundred purchases in a row", shop.RANGE, reading)

    def _join(self) -> Scene:
        def reading(statement: Statement, rows: Rows) -> str:
            scanned = _accessed(statement, lambda it: it.name == "purchase")
            return (
                f"Nothing says where a customer's purchases lie, so SQLite read all "
                f"{counted(scanned, 'OS page')} of purchase to find {counted(len(rows), 'row')}."
            )

        return self._question("A simple join", shop.JOIN, reading)

    def _complicated(self) -> Scene:
        def reading(statement: Statement, rows: Rows) -> str:
            used = statement.stable.os_pages_accessed
            return (
                f"Two joins, a grouping, a subquery and a window: {counted(used, 'OS page')}, "
                f"{percent(used, self._database_os_pages)} of the database, for "
                f"{counted(len(rows), 'row')}."
            )

        return self._question("A more complicated query", shop.COMPLICATED, reading)

    def _indexes(self) -> Scene:
        reply = self._canister.update(shop.INDEXES)
        again = {sql: self._ask(sql) for sql in (shop.JOIN, shop.COMPLICATED)}
        changes = [
            Change(
                name,
                self._first_answers[sql][1].stable.os_pages_accessed,
                again[sql][1].stable.os_pages_accessed,
            )
            for name, sql in (
                ("the simple join", shop.JOIN),
                ("the complicated query", shop.COMPLICATED),
            )
        ]
        same = all(rows == self._first_answers[sql][0] for sql, (rows, _) in again.items())
        before, after = (it[shop.COMPLICATED][1].plan for it in (self._first_answers, again))
        return Scene(
            headline="Two indexes, and the same questions again",
            sql=shop.INDEXES,
            changes=tuple(changes),
            plan_changes=_plan_changes(before, after),
            checks=self._stage.checked([Check("the same rows as before", same)]),
            reading=(
                f"Making the indexes wrote {counted(_dirty(reply), 'OS page')}, once. The join "
                f"now takes {counted(changes[0].after, 'OS page')} instead of "
                f"{count(changes[0].before)}, the complicated query "
                f"{count(changes[1].after)} instead of {count(changes[1].before)}."
            ),
        )

    def _purchase(self) -> Scene:
        reply = self._canister.update(shop.NEW_PURCHASE)
        of_indexes = sum(it.os_pages_dirty for it in _owners(reply) if it.kind == "index")
        return Scene(
            headline="A new purchase",
            sql=shop.NEW_PURCHASE,
            meter=self._meter(reply, dirty=True),
            reading=(
                f"What the indexes save when reading, they cost when writing: "
                f"{count(of_indexes)} of the {counted(_dirty(reply), 'OS page')} written are "
                "theirs."
            ),
        )

    def _map(self) -> Scene:
        with self._canister.trace() as trace:
            found = page_map(trace)
        return Scene(
            headline="Where it all lies",
            map=found,
            reading=(
                "Tables and indexes one after the other, as they were made; behind the end of the "
                "database there is room that the memory manager gave it ahead."
            ),
        )

    def _upgrade(self) -> Scene:
        before = shop.take_proof(self._canister, self._stage.folder)
        upgrade = self._canister.upgrade().footprint
        after = shop.take_proof(self._canister, self._stage.folder)
        return Scene(
            headline="An upgrade",
            sql="-- new code is installed: the heap is wiped, stable memory stays",
            checks=self._stage.checked(_survival_checks(before, after)),
            reading=(
                f"Nothing was lost, and nothing was copied: the upgrade read "
                f"{counted(upgrade.os_pages_accessed, 'OS page')} to open the database again, and "
                f"wrote {count(upgrade.os_pages_dirty) if upgrade.os_pages_dirty else 'none'}."
                if self._stage.checks_hold
                else "Something was lost: this is a bug of sqlstable, please report it."
            ),
        )

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _database_os_pages(self) -> int:
        return self._canister.status().database_size_bytes // OS_PAGE_BYTES

    def _question(
        self, headline: str, sql: str, reading: Callable[[Statement, Rows], str]
    ) -> Scene:
        """Ask a question for the first time."""
        with self._canister.message("query", cache="cold") as message:
            rows = message.execute(sql)
            columns = self._canister.engine.columns(sql)
        statement = message.reply.statements[0]
        self._first_answers[sql] = rows, statement
        return Scene(
            headline=headline,
            sql=sql,
            columns=columns,
            rows=rows,
            meter=self._meter(message.reply, dirty=False),
            reading=reading(statement, rows),
        )

    def _ask(self, sql: str) -> tuple[Rows, Statement]:
        reply = self._canister.query(sql, cache="cold")
        return reply.rows, reply.statements[0]

    def _meter(self, reply: Reply, *, dirty: bool) -> Meter:
        used = reply.footprint
        hits = sum(it.sqlite.hits or 0 for it in reply.statements)
        return Meter(
            verb="dirty" if dirty else "accessed",
            os_pages=used.os_pages_dirty if dirty else used.os_pages_accessed,
            database_os_pages=self._database_os_pages,
            owners=owner_counts(_owners(reply), dirty=dirty),
            footnote=(
                f"accessed {count(used.os_pages_accessed)}"
                if dirty
                else f"dirty {count(used.os_pages_dirty)} · hits {count(hits)}"
            )
            + _limit(reply),
        )


def _survival_checks(before: Evidence, after: Evidence) -> list[Check]:
    return [
        Check(
            f"answers to {counted(len(after.answers), 'question')}: sha-256 "
            f"{_both(before.answers_sha256, after.answers_sha256)}",
            before.answers == after.answers,
        ),
        Check(f"integrity_check: {after.integrity}", after.integrity == "ok"),
        Check(
            f"extracted database, {size(after.database_size_bytes)}: sha-256 "
            f"{_both(before.database_sha256, after.database_sha256)}",
            before.database_sha256 == after.database_sha256,
        ),
    ]


def _both(before: str, after: str) -> str:
    before, after = before[:_SHA256_DIGITS], after[:_SHA256_DIGITS]
    return f"{before}… before and after" if before == after else f"{before}…, then {after}…"


def _limit(reply: Reply) -> str:
    """Say how much of its tightest limit a message used."""
    words = tightest_words(reply.message)
    return f" · limit: {words}" if words else ""


def _owners(reply: Reply) -> list[OwnerUse]:
    return [owner for statement in reply.statements for owner in statement.owners]


def _dirty(reply: Reply) -> int:
    return reply.footprint.os_pages_dirty


def _accessed(statement: Statement, wanted: Callable[[OwnerUse], bool]) -> int:
    return sum(it.os_pages_accessed for it in statement.owners if wanted(it))


def _plan_changes(before: Sequence[str], after: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the lines that only one of two plans has."""
    went = [("-", line.strip()) for line in before if line not in after]
    came = [("+", line.strip()) for line in after if line not in before]
    return (*went, *came)


def _play(stage: Stage) -> Generator[Scene]:
    with Canister(owners=True, engine=stage.engine, trace=":memory:") as canister:
        yield from _Shop(canister, stage).scenes()
        stage.settings = canister.status().settings


STORY: Final = Story(
    title="sqlstable: which OS pages does SQL touch?",
    introduction=INTRODUCTION,
    glossary=GLOSSARY,
    scenes=_play,
    next_title="Now your own:",
    next_commands=(
        ("sqlstable run your.sql --database your.db", "your statements and data"),
        ("sqlstable run your.sql --html your.html", "see it in a browser"),
        ("sqlstable run your.sql --trace your.trace", "keep what was recorded"),
        ("sqlstable report your.trace --by owner", "see whose it was"),
        ("sqlstable report your.trace --map", "see where it lies"),
    ),
)
