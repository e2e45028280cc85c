"""What messages cost that were not measured, from those that stand for them.

Messages of equal work are measured in part, block by block of time, in which all are as likely to
be measured (`sqlstable.canister.sampling`). So a block is a simple random sample, and one that was
not measured is said to cost what the others cost in the mean. Of N messages, n measured with the
mean m and the standard deviation s, the others cost (N - n) m, give or take
``t (N - n) s sqrt(1/n + 1/(N - n))``, and one of them m, give or take ``t s sqrt(1 + 1/n)``. A
block with fewer than two measured messages is taken together with the one before it. A few messages
may miss what is rare, and then say that all are alike: so s is at least that of all blocks of the
group together. Bytes of arguments and replies are in the mean those of a block's measured messages,
too, so that what arrives is paid for.

Source:
    W. G. Cochran, *Sampling Techniques*, 3rd edition, 1977, sections 2.6, 2.8 and 5.4 (stratified
    totals, the finite population correction, and the degrees of freedom of a sum of strata).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

from sqlstable.ic.words import INSTRUCTIONS, REPLY_BYTES, REQUEST_BYTES
from sqlstable.trace.format.schema import SAMPLES_SINCE_VERSION
from sqlstable.trace.format.storage import OF_MESSAGES, Connection, Row, TracePart
from sqlstable.trace.model import Sample, SampleGroup
from sqlstable.trace.student import t_quantile

CONFIDENCE: Final = 0.95
"""How often a true value lies within what is stated."""

_FREEDOM_MAX: Final = 1_000
"""More degrees of freedom make no difference that would be shown."""

_PARTS: Final = ("computation", "stable", "heap")

SELECT_BLOCKS: Final = """
SELECT shape_sample.*, count(*), count(os.message_index), {totals}
FROM message_sample AS s JOIN shape_sample USING (sample_index)
  LEFT JOIN message_cost AS os ON os.message_index = s.message_index AND os.measured
WHERE {bound}
GROUP BY sample_index ORDER BY message_kind, cache, outcome, shape, work, reason, block
""".replace(
    "{totals}",
    ", ".join(f"total(instructions_{part})" for part in _PARTS)
    + ", total(1.0 * instructions_total * instructions_total)",
)
"""Blocks with how many messages they have, how many were measured, and sums over these."""


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """Messages of equal work in a stretch of time, and what was measured of them."""

    indexes: tuple[int, ...]
    "Of the rows of ``shape_sample`` that it stands for."
    group: SampleGroup
    messages: int
    measured: int
    parts: tuple[float, ...]
    "Instructions of those that were measured: computation, stable memory, heap."
    squares: float
    "Sum of the squares of their totals."

    @property
    def estimated(self) -> int:
        """How many messages the others stand for."""
        return self.messages - self.measured if self.measured else 0

    @property
    def mean(self) -> float:
        """Instructions of one of those that were measured, in the mean."""
        return sum(self.parts) / self.measured if self.measured else 0.0

    @property
    def each(self) -> tuple[int, ...]:
        """What each of the others is said to cost, by parts: whole instructions, as it is kept."""
        return tuple(round(part / self.measured) for part in self.parts) if self.measured else ()

    @property
    def instructions(self) -> int:
        """What all of them cost, estimated ones as they are kept: so sums over messages agree."""
        return round(sum(self.parts)) + self.estimated * sum(self.each)

    @property
    def deviation(self) -> float | None:
        """Their standard deviation; None where fewer than two were measured."""
        if self.measured < 2:
            return None
        variance = (self.squares - sum(self.parts) * self.mean) / (self.measured - 1)
        return sqrt(max(variance, 0.0))

    def error(self, spread: float) -> float:
        """Return the standard error of what the others come to, from a standard deviation."""
        if not self.estimated:
            return 0.0
        return self.estimated * spread * sqrt(1 / self.measured + 1 / self.estimated)

    def band(self, spread: float, freedom: int) -> float:
        """Return the relative error of one message of the others, with the stated confidence."""
        if not self.mean:
            return 0.0
        return t_quantile(CONFIDENCE, freedom) * spread * sqrt(1 + 1 / self.measured) / self.mean

    def with_next(self, other: "SampleBlock") -> "SampleBlock":
        """Return both together."""
        parts = tuple(map(sum, zip(self.parts, other.parts, strict=True)))
        return SampleBlock(
            self.indexes + other.indexes,
            self.group,
            self.messages + other.messages,
            self.measured + other.measured,
            parts,
            self.squares + other.squares,
        )


def margin_of(blocks: Iterable[SampleBlock]) -> float:
    """Return within which distance the sum over blocks lies, with the confidence that is stated.

    Degrees of freedom of the sum are those of F. E. Satterthwaite, *Biometrics Bulletin* 2(6),
    1946.
    """
    found = ((block.error(spread) ** 2, free) for block, spread, free in spreads_of(blocks))
    variances = [it for it in found if it[0]]
    whole = sum(variance for variance, _ in variances)
    if not whole:
        return 0.0
    freedom = whole**2 / sum(variance**2 / freedom for variance, freedom in variances)
    return t_quantile(CONFIDENCE, min(max(int(freedom), 1), _FREEDOM_MAX)) * sqrt(whole)


def spreads_of(blocks: Iterable[SampleBlock]) -> Iterator[tuple[SampleBlock, float, int]]:
    """Yield each block, what standard deviation its messages have, and its degrees of freedom."""
    groups: dict[SampleGroup, list[SampleBlock]] = {}
    for block in blocks:
        groups.setdefault(block.group._replace(block=0), []).append(block)
    for group in groups.values():
        yield from _spreads(group)


def _spreads(blocks: Sequence[SampleBlock]) -> Iterator[tuple[SampleBlock, float, int]]:
    known = [(it.deviation, it.measured - 1) for it in blocks if it.deviation is not None]
    freedom = sum(free for _, free in known)
    pooled = sqrt(sum(it**2 * free for it, free in known) / freedom) if known else 0.0
    for block in blocks:
        own = block.deviation
        if not known:
            # One alone says nothing of the spread: take as much as it cost.
            yield block, block.mean, 1
        elif own is not None and own > pooled:
            yield block, own, min(block.measured - 1, _FREEDOM_MAX)
        else:
            yield block, pooled, min(freedom, _FREEDOM_MAX)


def blocks_of(rows: Iterable[Row]) -> list[SampleBlock]:
    """Return blocks as `SELECT_BLOCKS` gives them; those that say too little joined with others."""
    found: list[SampleBlock] = []
    for index, *rest in rows:
        group = SampleGroup(*rest[:7])
        messages, measured, *sums = rest[7:]
        block = SampleBlock((index,), group, messages, measured, tuple(sums[:3]), sums[3])
        last = found[-1] if found else None
        is_next = last is not None and last.group[:-2] == group[:-2] and not group.reason
        if is_next and last is not None and min(last.measured, measured) < 2:
            found[-1] = last.with_next(block)
        else:
            found.append(block)
    return found


def estimate(connection: Connection) -> None:
    """Write what was not measured into a trace, in place of what was estimated before."""
    if not connection.execute("SELECT 1 FROM pragma_table_info('message_sample')").fetchall():
        # The trace is of an earlier format.
        return
    connection.execute(
        "DELETE FROM message_cost WHERE NOT measured"
        " AND message_index IN (SELECT message_index FROM message_sample)"
    )
    connection.execute(
        "DELETE FROM statement_cost WHERE NOT measured AND statement_index IN"
        " (SELECT statement_index FROM message_sample JOIN statement USING (message_index))"
    )
    connection.execute(_DELETE_LIMITS, _LIMITS)
    blocks = blocks_of(connection.execute(SELECT_BLOCKS.format(bound="1")))
    guessed = [
        (block, block.band(spread, freedom))
        for block, spread, freedom in spreads_of(blocks)
        if block.estimated
    ]
    if guessed:
        _estimate_messages(connection, guessed)
        _estimate_statements(connection, guessed)


_Guessed = Sequence[tuple[SampleBlock, float]]
"""Blocks, each with the relative error of one message."""


def _estimate_messages(connection: Connection, guessed: _Guessed) -> None:
    limits: dict[int, dict[str, Row]] = {}
    for index, name, *limit in connection.execute(_SELECT_LIMITS, _LIMITS):
        limits.setdefault(index, {})[name] = limit
    payloads = {index: sums for index, *sums in connection.execute(_SELECT_PAYLOADS)}
    connection.execute(_CREATE_BLOCKS)
    connection.execute(_CREATE_BLOCK_LIMITS)
    for block, band in guessed:
        parts = block.each
        total = sum(parts)
        known = [payloads[index] for index in block.indexes if index in payloads]
        times, *sums = map(sum, zip(*known, strict=True)) if known else (0, 0.0, 0.0)
        request, reply = (round(it / times) if times else None for it in sums)
        used = {INSTRUCTIONS: total, REQUEST_BYTES: request, REPLY_BYTES: reply}
        held = next((limits[index] for index in block.indexes if index in limits), {})
        for index in block.indexes:
            row = (index, total, *parts, band, request, reply)
            connection.execute("INSERT INTO temp.block VALUES (?,?,?,?,?,?,?,?)", row)
            connection.executemany(
                "INSERT INTO temp.block_limit VALUES (?,?,?,?,?)",
                [(index, at, name, used[name], limit) for name, (at, limit) in held.items()],
            )
    connection.execute(_INSERT_MESSAGES)
    connection.execute(_INSERT_PAYLOADS)
    connection.execute(_INSERT_LIMITS)
    connection.execute("DROP TABLE temp.block_limit")
    connection.execute("DROP TABLE temp.block")


def _estimate_statements(connection: Connection, guessed: _Guessed) -> None:
    connection.execute(
        "CREATE TEMP TABLE first (message_index INTEGER PRIMARY KEY, first INTEGER NOT NULL)"
    )
    connection.execute(
        "INSERT INTO temp.first SELECT message_index, min(statement_index)"
        " FROM statement GROUP BY message_index"
    )
    block_of = {index: at for at, (block, _) in enumerate(guessed) for index in block.indexes}
    sums: dict[tuple[int, int], list[float]] = {}
    for index, place, *counted in connection.execute(_SELECT_SUMS):
        if index in block_of:
            known = sums.setdefault((block_of[index], place), [0.0] * len(counted))
            known[:] = map(float.__add__, known, map(float, counted))
    connection.execute(_CREATE_PLACES)
    for (at, place), (times, *spent) in sums.items():
        parts = [round(part / times) for part in spent]
        block, band = guessed[at]
        row = (place, sum(parts), *parts, band)
        for index in block.indexes:
            connection.execute("INSERT INTO temp.place VALUES (?,?,?,?,?,?,?)", (index, *row))
    connection.execute(_INSERT_STATEMENTS)
    connection.execute("DROP TABLE temp.place")
    connection.execute("DROP TABLE temp.first")


_LIMITS: Final = (INSTRUCTIONS, REQUEST_BYTES, REPLY_BYTES)
"""Names of the limits on what is estimated."""

_DELETE_LIMITS: Final = """
DELETE FROM message_limit WHERE name IN (?, ?, ?) AND message_index IN (
  SELECT s.message_index FROM message_sample AS s
    LEFT JOIN message_cost AS c ON c.message_index = s.message_index
  WHERE c.message_index IS NULL
)
"""

_SELECT_LIMITS: Final = """
SELECT sample_index, name, max(limit_index), limit_value
FROM message_limit JOIN message_sample USING (message_index)
WHERE name IN (?, ?, ?) GROUP BY 1, 2
"""
"""The limits of those that were measured, which are those of the others."""

_SELECT_PAYLOADS: Final = """
SELECT sample_index, count(*), total(request_bytes), total(reply_bytes)
FROM message_sample AS s JOIN message_cost AS c ON c.message_index = s.message_index AND c.measured
  JOIN message_charge AS h ON h.message_index = s.message_index AND h.call_bytes IS NOT NULL
GROUP BY 1
"""
"""How many messages were measured whose bytes are known, and the sums of these."""

_CREATE_BLOCKS: Final = """
CREATE TEMP TABLE block (
  sample_index INTEGER PRIMARY KEY, total, computation, stable, heap, band, request, reply
)
"""

_CREATE_BLOCK_LIMITS: Final = """
CREATE TEMP TABLE block_limit (
  sample_index INTEGER, limit_index INTEGER, name, used, limit_value,
  PRIMARY KEY (sample_index, limit_index)
) WITHOUT ROWID
"""

_INSERT_MESSAGES: Final = """
INSERT INTO message_cost
SELECT s.message_index, total, computation, stable, heap, 0, band, NULL, NULL, NULL, NULL
FROM message_sample AS s JOIN temp.block USING (sample_index)
WHERE NOT EXISTS (SELECT 1 FROM message_cost AS c WHERE c.message_index = s.message_index)
"""

_INSERT_PAYLOADS: Final = """
INSERT INTO message_charge (message_index, request_bytes, reply_bytes, call_count, call_bytes)
SELECT s.message_index, request, reply, 0, 0
FROM message_sample AS s JOIN temp.block USING (sample_index)
  JOIN message_cost AS c ON c.message_index = s.message_index
WHERE request IS NOT NULL AND NOT c.measured
ON CONFLICT (message_index) DO UPDATE SET
  request_bytes = excluded.request_bytes, reply_bytes = excluded.reply_bytes,
  call_count = excluded.call_count, call_bytes = excluded.call_bytes
"""
"""What stable memory is charged for is there already, and counted: that stays. SQL calls nobody."""

_INSERT_LIMITS: Final = """
INSERT INTO message_limit
SELECT s.message_index, limit_index, name, used, limit_value
FROM message_sample AS s JOIN temp.block_limit USING (sample_index)
  JOIN message_cost AS c ON c.message_index = s.message_index
WHERE used IS NOT NULL AND NOT c.measured
"""

_SELECT_SUMS: Final = (
    "SELECT sample_index, statement.statement_index - first.first, count(*), "  # noqa: S608  our own names
    + ", ".join(f"total(instructions_{part})" for part in _PARTS)
    + " FROM statement_cost AS cost JOIN statement USING (statement_index)"
    " JOIN temp.first AS first USING (message_index) JOIN message_sample USING (message_index)"
    " WHERE cost.measured GROUP BY 1, 2"
)
"""By sample and place in the message: how many statements were measured, and what they cost."""

_CREATE_PLACES: Final = """
CREATE TEMP TABLE place (
  sample_index INTEGER, place INTEGER, total, computation, stable, heap, band,
  PRIMARY KEY (sample_index, place)
) WITHOUT ROWID
"""

_INSERT_STATEMENTS: Final = """
INSERT INTO statement_cost
SELECT statement.statement_index, total, computation, stable, heap, 0, band, NULL, NULL, NULL, NULL
FROM statement JOIN temp.first AS first USING (message_index)
  JOIN message_sample USING (message_index)
  JOIN temp.place AS place ON place.sample_index = message_sample.sample_index
    AND place.place = statement.statement_index - first.first
WHERE NOT EXISTS (
  SELECT 1 FROM statement_cost AS c WHERE c.statement_index = statement.statement_index
)
"""


def blocks_seen(snapshot: TracePart) -> tuple[SampleBlock, ...]:
    """Return the blocks of a trace, or of a part of it."""
    if snapshot.version < SAMPLES_SINCE_VERSION:
        return ()
    return tuple(
        blocks_of(snapshot.select(SELECT_BLOCKS.format(bound="s.message_index <= :last_message")))
    )


def samples_by_message(snapshot: TracePart) -> dict[int, Sample]:
    """Return what messages stand for, by their index."""
    if snapshot.version < SAMPLES_SINCE_VERSION:
        return {}
    groups = {
        index: SampleGroup(*rest) for index, *rest in snapshot.select("SELECT * FROM shape_sample")
    }
    rows = snapshot.select(f"SELECT * FROM message_sample WHERE {OF_MESSAGES}")  # noqa: S608  our own names
    return {index: Sample(groups[group], *rest) for index, group, *rest in rows}
