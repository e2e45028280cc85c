"""A trace of a small ledger, made by hand, counted under any price list."""

from dataclasses import replace

from sqlstable.ic.charged import Charged, Payloads
from sqlstable.ic.pricing import spent
from sqlstable.trace.model import HeapUse, Instructions, LimitUse, TraceSettings
from tests.hand_built import SETTINGS, HandBuiltTrace, message, statement, use

ADD = "INSERT INTO account (owner) VALUES (?)"
READ = "SELECT owner FROM account WHERE id = ?"

SMALL = Charged(
    {"replica": 50_000, "replica-flat": 45_000},
    stable_accesses=2,
    stable_bytes=8_192,
    stable_os_pages_dirty=2,
    stable_regions_accessed=1,
    stable_regions_dirty=1,
    heap_regions_accessed=18,
    heap_regions_written=17,
    heap_os_pages_written=40,
)
"""An update of one row."""

LARGE = replace(SMALL, computation={"replica": 250_000, "replica-flat": 200_000})

MIB = 1 << 20


def instructions(charged, regime):
    """Return what units cost as a trace has it."""
    found = spent(charged, regime)
    return Instructions(found.total, found.computation, found.stable, found.heap)


def ledger_trace(regime, *, is_counted=True):
    """Return a trace of a schema, two adds, a read, and an upgrade."""
    made, statements = [], []

    def take(kind, sql, charged, label=None, **changes):
        index = len(made)
        own = () if sql is None else (len(statements),)
        cost = instructions(charged, regime) if is_counted else None
        if sql is not None:
            statements.append(statement(own[0], index, sql, instructions=cost))
        limit = 300_000_000_000 if kind == "upgrade" else 40_000_000_000
        values = {
            "label": label,
            "instructions": cost,
            "heap": HeapUse(18, 17, 40, 2 * MIB),
            "payloads": Payloads(100, 20),
            "limits": (LimitUse("instructions", 0, limit),),
            "image_bytes": 8 * MIB,
            **changes,
        }
        made.append(message(index, kind, own, use(1), **values))

    take("update", "CREATE TABLE account (id, owner)", LARGE, "schema")
    take("update", ADD, SMALL)
    take("update", ADD, LARGE, image_bytes=16 * MIB)
    take("query", READ, SMALL, "read", image_bytes=16 * MIB)
    take("upgrade", None, LARGE, image_bytes=16 * MIB)
    settings = TraceSettings({**SETTINGS.values, "engine": "wasm", "price_regime": regime.name})
    return HandBuiltTrace(settings=settings, messages=tuple(made), statements=tuple(statements))
