"""A small shop of labelled messages, made by hand, for tests of budgets and baselines."""

from dataclasses import replace

from sqlstable.trace.model import Instructions, LimitUse, SchemaObject
from tests.hand_built import HandBuiltTrace, message, owner, statement, use

FIND = "SELECT name FROM artist WHERE name = 'Iron || Maiden'"
FIND_SHAPE = "SELECT name FROM artist WHERE name = ?"

SCHEMA = (
    SchemaObject("table", "Artist", "Artist", "CREATE TABLE Artist (id, name)"),
    SchemaObject("index", "by_name", "Artist", "CREATE INDEX by_name ON Artist (name)"),
)


def spent(total):
    """Instructions, all of them computation."""
    return Instructions(total, total, 0, 0)


def counted(made, total, limit=5_000_000_000):
    """Return a message with its instructions counted, and held against their limit."""
    return replace(
        made,
        instructions=spent(total),
        limits=(*made.limits, LimitUse("instructions", total, limit)),
    )


def find(index, pages, instructions, plan=("SEARCH artist USING INDEX by_name (name=?)",)):
    """Return a query with the label of a search, and its statement."""
    one = statement(
        index,
        index,
        FIND,
        pages,
        shape=FIND_SHAPE,
        plan=plan,
        row_count=1,
        owners=(owner("Artist", pages),) if pages else (),
        instructions=spent(instructions - 1000),
    )
    whole = message(index, "query", [index], use(pages), label="find artist")
    return counted(whole, instructions), one


def shop(*found):
    """Return a trace of searches: each the OS pages, instructions, and maybe the plan of one."""
    rows = [find(index, *it) for index, it in enumerate(found)]
    return HandBuiltTrace(
        messages=[it for it, _ in rows], statements=[it for _, it in rows], schema=SCHEMA
    )


SCAN = ("SCAN artist",)
