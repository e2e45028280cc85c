"""One piece of advice, and how its sentences spell what they cite."""

from dataclasses import dataclass
from typing import Final

_KEYWORDS: Final = """
ABORT ACTION ADD AFTER ALL ALTER ALWAYS ANALYZE AND AS ASC ATTACH AUTOINCREMENT BEFORE BEGIN
BETWEEN BY CASCADE CASE CAST CHECK COLLATE COLUMN COMMIT CONFLICT CONSTRAINT CREATE CROSS CURRENT
CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP DATABASE DEFAULT DEFERRABLE DEFERRED DELETE DESC
DETACH DISTINCT DO DROP EACH ELSE END ESCAPE EXCEPT EXCLUDE EXCLUSIVE EXISTS EXPLAIN FAIL FILTER
FIRST FOLLOWING FOR FOREIGN FROM FULL GENERATED GLOB GROUP GROUPS HAVING IF IGNORE IMMEDIATE IN
INDEX INDEXED INITIALLY INNER INSERT INSTEAD INTERSECT INTO IS ISNULL JOIN KEY LAST LEFT LIKE
LIMIT MATCH MATERIALIZED NATURAL NO NOT NOTHING NOTNULL NULL NULLS OF OFFSET ON OR ORDER OTHERS
OUTER OVER PARTITION PLAN PRAGMA PRECEDING PRIMARY QUERY RAISE RANGE RECURSIVE REFERENCES REGEXP
REINDEX RELEASE RENAME REPLACE RESTRICT RETURNING RIGHT ROLLBACK ROW ROWS SAVEPOINT SELECT SET
TABLE TEMP TEMPORARY THEN TIES TO TRANSACTION TRIGGER UNBOUNDED UNION UNIQUE UPDATE USING VACUUM
VALUES VIEW VIRTUAL WHEN WHERE WINDOW WITH WITHOUT
"""
"""SQLite's keywords. Source: https://www.sqlite.org/lang_keywords.html"""

KEYWORDS: Final = frozenset(_KEYWORDS.split())
"""Names that have to be quoted."""

SQL_CHARACTERS_MAX: Final = 72
"""What a sentence shows of a statement; its index leads to the rest."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, why, and what that is expected to save.

    Examples:
        >>> Advice("journal", "Keep the journal in memory.", ("11 OS pages",), None, (3,), 0.2).code
        'journal'
    """

    code: str
    "Name of the rule, as ``docs/explanation/advice.md`` lists them."
    sentence: str
    "What to do; plain text, with SQL and names as the trace has them."
    cites: tuple[str, ...]
    "The numbers that it comes from, each with the statement, table or setting that has them."
    gain: str | None
    "What following it saves; begins with the word expected or measured. None: cannot be told."
    statements: tuple[int, ...]
    "Indexes of the statements that it is about, the heaviest first; of a sweep those of its rows."
    share: float
    """Which part of the workload it is about, from 0 to 1: of the instructions where all were
    counted, else of the OS pages accessed or of SQLite's steps. The strongest comes first."""


def short_sql(sql: str) -> str:
    r"""Return SQL on one line, cut where it is long.

    Examples:
        >>> short_sql("SELECT *\n  FROM t")
        'SELECT * FROM t'
    """
    # Only so much of it is looked at: a statement can have megabytes.
    line = " ".join(sql[: 8 * SQL_CHARACTERS_MAX].split())
    return line if len(line) <= SQL_CHARACTERS_MAX else line[: SQL_CHARACTERS_MAX - 1] + "…"


def counted(number: float, noun: str) -> str:
    """Spell a count together with what it counts.

    Examples:
        >>> counted(1, "row"), counted(12345, "OS page"), counted(2, "query")
        ('1 row', '12,345 OS pages', '2 queries')
    """
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,.0f} {noun if number == 1 else plural}"


def percent(part: float, whole: float) -> str:
    """Spell a share in whole percents.

    Examples:
        >>> percent(1, 3), percent(1, 1000)
        ('33 %', '<1 %')
    """
    share = 100 * part / whole if whole else 100
    return "<1 %" if 0 < share < 1 else f"{share:.0f} %"


def quoted(name: str) -> str:
    """Return a name as SQL takes it.

    Examples:
        >>> quoted("track"), quoted("order"), quoted("a b")
        ('track', '"order"', '"a b"')
    """
    plain = name.isascii() and name.isidentifier() and name.upper() not in KEYWORDS
    return name if plain else '"' + name.replace('"', '""') + '"'
