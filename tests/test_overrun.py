"""SQL out of instructions: at the place that the heap's price passes, found by a plain witness."""

import random
from contextlib import closing, contextmanager, suppress
from itertools import islice, pairwise

import pytest

from sqlstable import Canister, LimitTrap, Trap
from sqlstable.ic.limits import latest_limits
from sqlstable.wasm.shimstore import shim_of
from tests.overrun_world import FILL, REGION, World, first_over, limited, random_body, walk
from tests.test_conservation import check

PLENTY = 10**9


@contextmanager
def pair(kind, body, **options):
    """A canister under limits, and the witness beside it, whose heap is not charged."""
    with (
        closing(World(kind, body, trace=":memory:", **options)) as world,
        closing(World(kind, body, trace=":memory:", track_heap=False, **options)) as witness,
    ):
        # What a message does is the same whether its heap is charged or not.
        assert world.run(PLENTY) == witness.run(PLENTY)
        assert world.ends == witness.ends
        assert world.trap is witness.trap is None
        yield world, witness


def check_limits(world, places):
    """Hold a canister against places that follow each other, at limits between any two."""
    limits = {place.total for place in places} | {place.total - 1 for place in places}
    for limit in sorted(it for it in limits if places[0].total <= it < places[-1].total):
        check_limit(world, places, limit)


def check_limit(world, places, limit):
    found, expected = world.run(limit), first_over(places, limit)
    assert (found.call, found.used, found.heap) == (expected.call, expected.used, expected.heap)
    # Its accesses and its phases are those up to there, and no more.
    assert (found.log, found.border_count) == (expected.log, expected.border_count)
    assert world.trap.limit == "instructions"
    assert f"exceeded the limit of {limit} instructions" in str(world.trap)


def check_body(kind, body, draw, *, points, **options):
    """Hold a message against the witness at limits in each of its calls."""
    with pair(kind, body, **options) as (world, witness):
        ends = witness.ends
        for before, end in pairwise([witness.begun, *ends]):
            for _ in range(points):
                # From anywhere in the call, and from where it begins, a few places on.
                used = draw.choice((before.used, draw.randrange(before.used, end.used)))
                first = witness.run(used)
                if first is not None and first.is_tested:
                    check_limits(world, [first, *islice(walk(witness, first, ends), 4)])
        return check(world.canister.trace())


FLAVOURS = {
    "update": ("update", {}),
    "update, lean": ("update", {"build": "lean"}),
    "query, warm": ("query", {"cache": "warm"}),
    "query, cold, lean": ("query", {"cache": "cold", "build": "lean"}),
    "query, fresh, lean": ("query", {"cache": "fresh", "build": "lean"}),
    "update, counters": ("update", {"depth": "counters", "build": "lean"}),
    "writes charged once": (
        "update",
        {"assume": {"stable-write-charges": "once"}, "build": "lean"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FLAVOURS)
def test_random_messages_stop_where_the_witness_does(name):
    kind, options = FLAVOURS[name]
    draw = random.Random(name)
    messages = check_body(kind, random_body(name), draw, points=1, **options)
    assert sum(message.trap_limit == "instructions" for message in messages) > 10


def small(message):
    """One call that touches a few regions."""
    yield message.execute("SELECT 1")


def test_a_message_stops_where_the_witness_does():
    check_body("update", small, random.Random(1), points=1, build="lean")


@pytest.mark.slow
def test_a_small_message_stops_at_the_first_place_of_all_that_is_over():
    """Each place of the message is walked through, from its first instruction to its end."""
    with pair("update", small) as (world, witness):
        places = list(walk(witness, witness.begun, witness.ends))
        assert len(places) > 300
        dearer = [at for at, (one, two) in enumerate(pairwise(places)) if two.heap > one.heap]
        assert len(dearer) >= 3
        draw = random.Random(2)
        others = range(len(places) - 2)
        for at in (*dearer[:8], *draw.sample(others, 8)):
            for limit in {places[at].total, places[at + 1].total - 1}:
                check_limit(world, places, limit)
        found = world.run(places[-1].total)
        assert (found, world.trap) == (places[-1], None)


# -- what is left, and what is told ----------------------------------------------------------------

COUNT = "SELECT count(*) FROM t WHERE y LIKE '%7%'"
CHANGE = "UPDATE t SET y = y || 'x' WHERE x < 40"


def count_and_change(message):
    yield message.execute(COUNT)
    yield message.execute(CHANGE)


def filled(**options):
    canister = Canister(engine="wasm", build="lean", **options)
    canister.update(FILL)
    return canister


def told(replies):
    return [(it.rows, it.message.instructions, it.message.stable) for it in replies]


@pytest.mark.parametrize("part", [0.01, 0.5, 0.97])
def test_messages_behind_it_go_on_as_if_it_had_trapped_by_itself(part):
    """Same rows, instructions and accesses, SQL's random numbers included."""
    found = []
    with closing(World("update", count_and_change, build="lean")) as world:
        whole = world.run(PLENTY).total
    for is_limited in (True, False):
        with filled() as canister:
            if is_limited:
                canister.memory.limits = limited("update", int(whole * part))
            with suppress(Trap), canister.message() as message:
                for _ in count_and_change(message) if is_limited else ():
                    pass
                message.trap()
            canister.memory.limits = latest_limits()
            replies = [
                canister.update("INSERT INTO t (y) VALUES (random())"),
                canister.query(COUNT),
                canister.update(CHANGE),
                canister.query("SELECT y FROM t", cache="cold"),
            ]
            found.append((told(replies), canister.image()))
    assert found[0] == found[1]


def test_a_trace_tells_of_the_message_as_it_stood_where_it_was_stopped():
    with closing(World("update", count_and_change, build="lean", trace=":memory:")) as world:
        world.run(PLENTY)
        first, last = world.ends
        limit = (first.total + last.total) // 2
        place = world.run(limit)
        trace = world.canister.trace()
    check(trace)
    message = trace.messages[-1]
    assert first.total < message.instructions.total == place.total < last.total
    # A first write to stable memory is the dearest thing that is done between two tests.
    assert limit < place.total < limit + 2 * REGION + 10_000
    assert message.instructions.heap == place.heap
    (use,) = (it for it in message.limits if it.name == "instructions")
    assert (use.used, use.limit) == (place.total, limit)
    counted, changed = trace.statements[-2:]
    whole_counted, whole_changed = trace.statements[-4:-2]
    assert (counted.instructions, counted.row_count) == (whole_counted.instructions, 1)
    assert (changed.sql, changed.row_count) == (CHANGE, 0)
    assert changed.instructions.total < whole_changed.instructions.total
    assert (
        changed.phases["commit"].bytes_written == 0 < whole_changed.phases["commit"].bytes_written
    )


def test_a_limit_may_be_met_by_the_last_instruction():
    with closing(World("update", small, build="lean")) as world:
        whole = world.run(PLENTY)
        assert (world.run(whole.total), world.trap) == (whole, None)
        world.run(whole.total - 1)
        assert isinstance(world.trap, LimitTrap)


def test_a_heap_that_is_charged_at_the_end_stops_no_sql():
    """What a message owes for its heap comes on top of instructions that it may use to the last."""
    with filled(prices="wasm-native") as canister:
        whole = canister.query(COUNT).message.instructions
        assert whole.heap > 1_000
        canister.memory.limits = limited("query", whole.total - whole.heap)
        reply = canister.query(COUNT)
        assert (reply.message.trap, reply.message.instructions) == (None, whole)
        canister.memory.limits = limited("query", whole.total - whole.heap - 10_000)
        with pytest.raises(LimitTrap):
            canister.query(COUNT)


def test_a_fresh_heap_that_is_too_dear_stops_while_it_opens_the_database():
    with filled() as canister, filled(track_heap=False) as witness:
        for limit in (150_000, 300_000):
            canister.memory.limits = limited("query", limit)
            with pytest.raises(LimitTrap, match=f"limit of {limit} instructions"):
                canister.query(COUNT, cache="fresh")
        canister.memory.limits = witness.memory.limits = latest_limits()
        rows = witness.query(COUNT, cache="fresh").rows
        assert canister.query(COUNT, cache="fresh").rows == rows


def test_requests_are_kept_while_a_limited_message_runs_and_no_longer():
    with filled() as canister:
        sent = canister._life.statements._overrun.sent
        with canister.message() as message:
            message.execute(COUNT)
            message.execute(CHANGE)
            assert len(sent) == 2
        assert sent == []
    for options in (
        {"limits": None},
        {"track_heap": False},
        {"prices": "wasm-native"},
        {"prices": "system-api", "track_heap": True},
    ):
        with filled(**options) as canister, canister.message() as message:
            message.execute(COUNT)
            assert canister._life.statements._overrun.sent == []


def test_a_message_in_which_python_uses_stable_memory_stops_behind_the_statement():
    """What Python did in it could not be done again."""
    with closing(World("update", count_and_change, build="lean")) as world:
        world.run(PLENTY)
        _, last = world.ends
        canister, memory = world.canister, world.canister.memory
        image = canister.image()
        canister.memory.limits = limited("update", last.total - 100)

        def write_and_change():
            with canister.message() as message:
                with message.window("by hand"):
                    memory.write(memory.wasm_pages * 65_536 - 10, b"by hand")
                message.execute(COUNT)
                message.execute(CHANGE)

        with pytest.raises(LimitTrap):
            write_and_change()
        assert canister.image() == image
        assert shim_of(memory).is_driven is False
        canister.memory.limits = latest_limits()
        assert world.run(PLENTY).total == last.total


def test_what_is_measured_beside_a_native_message_stops_there_too():
    found = []
    for engine in ("wasm", "both"):
        limits = limited("update", 2_000_000)
        with Canister(engine=engine, build="lean", trace=":memory:", limits=limits) as canister:
            with suppress(LimitTrap):
                canister.update(FILL)
            found.append(canister.trace().messages[-1])
    alone, beside = found
    assert 2_000_000 < alone.instructions.total < 2_000_000 + 2 * REGION + 10_000
    assert beside.instructions == alone.instructions
    assert (alone.outcome, beside.outcome) == ("trapped", "committed")
    assert "exceeded the limit of 2000000 instructions" in beside.sample.difference
