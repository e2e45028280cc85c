"""A message that traps: its statement keeps its kind, plan and numbers; its limit has a name."""

from dataclasses import replace

import pytest

from sqlstable.analysis.compare import compare
from sqlstable.analysis.verdict import covered, not_counted, tightest_limit, verdict
from sqlstable.canister.canister import Canister
from sqlstable.errors import LimitTrap
from sqlstable.ic.limits import latest_limits

SCAN = "SELECT count(*) FROM t AS a, t AS b WHERE a.y < b.y"
FILL = (
    "CREATE TABLE t (x INTEGER PRIMARY KEY, y TEXT);"
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300)"
    " INSERT INTO t SELECT i, hex(randomblob(200)) FROM n"
)
MESSAGES = {
    "read": ("query", SCAN),
    "with": ("query", "WITH n AS (SELECT * FROM t) " + SCAN),
    "write": ("update", "INSERT INTO t (y) " + SCAN),
}
FEW = {
    "wasm": ("instructions_max", 9_000_000, "instructions"),
    "native": ("os_pages_accessed_max", 9, "stable_os_pages_accessed"),
}


def traced(engine, what, *, is_limited):
    """Return the trace of a message that traps where it is limited."""
    kind, sql = MESSAGES[what]
    name, maximum, _ = FEW[engine]
    with Canister(engine=engine, trace=":memory:") as canister:
        canister.update(FILL)
        if is_limited:
            limits = latest_limits()
            of_kind = replace(getattr(limits, kind), **{name: maximum})
            canister.memory.limits = replace(limits, **{kind: of_kind})
            with pytest.raises(LimitTrap), canister.message(kind) as message:
                message.execute(sql)
        else:
            getattr(canister, kind)(sql)
        return canister.trace()


@pytest.mark.slow
# A native update finds all of it in its cache, and accesses too few OS pages to trap.
@pytest.mark.parametrize(
    ("engine", "what"),
    [*(("wasm", what) for what in MESSAGES), ("native", "read"), ("native", "with")],
)
def test_a_statement_that_trapped_keeps_its_kind_and_its_plan(engine, what):
    whole, trapped = (traced(engine, what, is_limited=it) for it in (False, True))
    done, statement = whole.statements[-1], trapped.statements[-1]
    assert trapped.messages[-1].outcome == "trapped"
    assert statement.plan
    assert (statement.sql, statement.kind, statement.plan) == (done.sql, done.kind, done.plan)
    assert compare(whole, trapped).pairs[-1].plan_changed is False


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_a_limit_that_trapped_is_the_tightest_and_has_a_name(engine):
    message = traced(engine, "read", is_limited=True).messages[-1]
    _, maximum, limit = FEW[engine]
    assert (message.trap_limit, verdict(message)) == (limit, "exceeds")
    tightest = tightest_limit(message)
    assert (tightest.name, tightest.limit) == (limit, maximum)
    assert tightest.used >= maximum * 0.9


@pytest.mark.slow
def test_instructions_are_among_the_limits_where_they_are_counted_and_only_there():
    trace = traced("wasm", "read", is_limited=False)
    kinds = {"query": "query", "update": "update", "install": "upgrade"}
    for message in trace.messages:
        of_kind = getattr(latest_limits(), kinds[message.kind])
        (use,) = (use for use in message.limits if use.name == "instructions")
        assert (use.used, use.limit) == (message.instructions.total, of_kind.instructions_max)
        # A step has no argument and no reply.
        payload = () if message.kind == "install" else ("argument and reply",)
        assert (covered(message), not_counted(message)) == (
            ("OS pages", "stable memory", "instructions", *payload),
            (),
        )
    for message in traced("native", "read", is_limited=False).messages:
        assert (covered(message), not_counted(message)) == (
            ("OS pages", "stable memory"),
            ("instructions",),
        )
