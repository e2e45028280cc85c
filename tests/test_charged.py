"""What price lists charge for is counted once, and priced by any of them as by a run of its own."""

import random
from contextlib import suppress
from dataclasses import replace

import pytest
import wasmtime

from sqlstable import Canister, SqlError, Trap
from sqlstable.ic.charged import CHARGED_UNITS, Charged, charged_together
from sqlstable.ic.limits import limits_at
from sqlstable.ic.prices import PRICE_REGIMES, REPLICA, REPLICA_2023, REPLICA_FLAT, regime_of
from sqlstable.ic.pricing import Spent, spent
from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.ic.words import GROW, WRITE
from sqlstable.trace.recording.attribution import MessageFacts, attribute
from sqlstable.trace.recording.raw import OutsideSpan, RawMessage, statement_of
from sqlstable.wasm.rewrite.metering import EXTRAS, entry_weight, fields_of, weight_of
from sqlstable.wasm.rewrite.rewriter import RewriteOptions
from tests.bare_machine import BareMachine, wasm_of
from tests.test_few import Taken, random_rows, random_statements

# -- several tables of weights in one run ----------------------------------------------------------

TODAY = PRICE_REGIMES["memory-tracker"]
TABLES = (REPLICA, REPLICA_2023, REPLICA_FLAT)

MODULES = {
    "floats": """(module (memory 1) (global $g (mut f64) (f64.const 1.5))
      (func (export "run") (param $n i32) (result i32) (local $x f64)
        (loop $next
          (local.set $x (f64.div (f64.add (local.get $x) (global.get $g)) (f64.const 3)))
          (local.set $x (f64.copysign (f64.sqrt (f64.abs (local.get $x))) (f64.const -1)))
          (global.set $g (f64.min (local.get $x) (f64.const 7)))
          (local.set $n (i32.sub (local.get $n) (i32.const 1)))
          (br_if $next (i32.gt_s (local.get $n) (i32.const 0))))
        (i32.trunc_sat_f64_s (local.get $x))))""",
    "calls and branches": """(module (memory 1) (table 2 funcref) (elem (i32.const 0) $f $f)
      (type $t (func (param i32) (result i32)))
      (func $f (type $t) (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
        (then (local.get 0))
        (else (i32.add
          (call $f (i32.sub (local.get 0) (i32.const 1)))
          (call_indirect (type $t) (i32.rem_u (local.get 0) (i32.const 2)) (i32.const 1))))))
      (func (export "run") (param $n i32) (result i32)
        (block $a (block $b (block $c (br_table $a $b $c (local.get $n)))
          (return (call $f (local.get $n)))) (return (i32.const 5)))
        (i32.const 6)))""",
    "bulk": """(module (memory 2) (data $d "some bytes")
      (func (export "run") (param $n i32) (result i32)
        (memory.fill (i32.const 8) (i32.const 3) (local.get $n))
        (memory.copy (i32.const 900) (i32.const 8) (local.get $n))
        (memory.init $d (i32.const 0) (i32.const 0) (i32.const 4))
        (data.drop $d)
        (drop (memory.grow (i32.const 1)))
        (i32.load (i32.const 898))))""",
    "traps": """(module (memory 1)
      (func $deep (param $n i32) (result i32)
        (if (i32.eqz (local.get $n)) (then (return (i32.load (i32.const 65536)))))
        (i32.add (f32.ge (f32.const 1) (f32.const 2))
          (call $deep (i32.sub (local.get $n) (i32.const 1)))))
      (func (export "run") (param $n i32) (result i32)
        (i32.div_s (call $deep (local.get $n)) (i32.const 0))))""",
    "64-bit addresses": """(module (memory i64 1)
      (func (export "run") (param $n i32) (result i32) (local $at i64)
        (loop $next
          (i64.store (local.get $at) (i64.add (local.get $at) (i64.load (local.get $at))))
          (local.set $at (i64.add (local.get $at) (i64.const 8)))
          (br_if $next (i64.lt_u (local.get $at) (i64.extend_i32_u (local.get $n)))))
        (memory.fill (i64.const 0) (i32.const 1) (i64.const 100))
        (i32.wrap_i64 (local.get $at))))""",
    "vectors": """(module (memory 1)
      (func (export "run") (param $n i32) (result i32) (local $x v128)
        (loop $next
          (local.set $x (f64x2.div (f64x2.add (local.get $x) (v128.load (i32.const 0)))
            (f64x2.splat (f64.const 3))))
          (local.set $n (i32.sub (local.get $n) (i32.const 1)))
          (br_if $next (i32.gt_s (local.get $n) (i32.const 0))))
        (i32x4.extract_lane 0 (local.get $x))))""",
}


def counted(machine, argument):
    """Return what calling a machine used, what it counted beyond today's weights, and its end."""
    names = [name for name in EXTRAS if name in machine.shared]
    before = {name: machine.extra(name) for name in names}
    counter = machine.get("counter")
    try:
        end = machine.call("run", argument)
    except wasmtime.Trap as trap:
        end = trap.trap_code
    beyond = {name: machine.extra(name) - before[name] for name in names}
    return counter - machine.get("counter"), beyond, end


@pytest.mark.parametrize("main", TABLES, ids=lambda it: it.name)
@pytest.mark.parametrize("name", MODULES)
def test_other_tables_are_counted_as_by_runs_of_their_own(name, main):
    wasm = wasm_of(MODULES[name])
    for has_marks in (False, True):
        options = RewriteOptions(main, has_heap_marks=has_marks)
        together = BareMachine(wasm, replace(options, has_extras=True))
        alone = {it.name: BareMachine(wasm, replace(options, weights=it)) for it in TABLES}
        for argument in (0, 1, 2, 9, 20):
            used, beyond, end = counted(together, argument)
            expected = {key: counted(machine, argument) for key, machine in alone.items()}
            assert {it[2] for it in expected.values()} == {end}
            assert used == expected[main.name][0]
            today = expected[REPLICA.name][0]
            for extra, table in EXTRAS.items():
                assert today + beyond[extra] == expected[table.name][0], (argument, extra)


def test_the_fields_of_a_weight_are_apart_however_they_are_added():
    assert fields_of(weight_of(REPLICA, "i64.load", is_64=True, has_extras=True)) == [2, -1, -1]
    assert fields_of(weight_of(REPLICA_FLAT, "f32.min", is_64=False, has_extras=True)) == [
        1,
        2,
        -17,
    ]
    assert fields_of(weight_of(REPLICA, "f32.min", is_64=False, has_extras=False)) == [18, 0, 0]
    most = 1_000_000
    call = weight_of(REPLICA, "table.grow", is_64=False, has_extras=True)
    assert fields_of(most * call) == [300 * most, 0, -299 * most]
    assert fields_of(entry_weight(REPLICA, has_extras=True)) == [1, 0, -1]
    assert fields_of(entry_weight(REPLICA_FLAT, has_extras=True)) == [0, 0, -1]


# -- first touches in order ------------------------------------------------------------------------


def charged_by_hand(rows, payer_of, part_starts):
    """Walk through accesses one by one: what each payer is charged for, None being the driver."""
    found = {}
    seen = set()
    for at, (kind, address, length, _) in enumerate(rows):
        if at in part_starts:
            seen.clear()
        payer = payer_of(at)
        units = found.setdefault(payer, [0] * 6)
        units[2] += kind == GROW
        if kind > WRITE:
            continue
        units[0] += 1
        units[1] += length
        if payer is None:
            continue
        for byte in {*range(address, address + length, 4096), address + length - 1}:
            if length <= 0:
                continue
            os_page, region = byte // OS_PAGE_BYTES, byte // WASM_PAGE_BYTES
            touches = [(4, "accessed", region)]
            if kind == WRITE:
                touches += [(3, "dirty", os_page), (5, "dirty region", region)]
            for unit, *what in touches:
                units[unit] += (*what,) not in seen
                seen.add((*what,))
    return found


@pytest.mark.parametrize("seed", range(60))
def test_who_touches_first_is_charged_in_the_order_of_accesses(seed):
    rng = random.Random(seed)
    rows = random_rows(rng, rng.choice((0, 1, 5, 40, 100)), 4096)
    statements, outside = random_statements(rng, len(rows))
    if outside and rng.random() < 0.5:
        outside = (*outside[:-1], OutsideSpan(*outside[-1][:2], "import"))
    part_starts = tuple(sorted({rng.randrange(len(rows) + 1) for _ in range(rng.choice((0, 2)))}))
    raw = RawMessage(Taken(rows, is_few=rng.random() < 0.5), statements, outside)
    raw = raw._replace(part_starts=part_starts)
    facts = MessageFacts(0, "update", "committed", 65_536)
    attributed = attribute(raw, facts, first_statement=0)
    spans = [statement_of(it).spans for it in statements]

    def payer_of(at):
        for place, each in enumerate(spans):
            if any(start <= at < stop for start, stop, _ in each):
                return place
        is_driver = any(it.start <= at < it.stop and it.name == "import" for it in outside)
        return None if is_driver else "around"

    expected = charged_by_hand(rows, payer_of, part_starts)
    nothing = [0] * 6
    for place, statement in enumerate(attributed.statements):
        assert statement.charged == Charged(None, *expected.get(place, nothing))
    paid = [units for payer, units in expected.items() if payer is not None] or [nothing]
    assert attributed.message.charged == Charged(None, *map(sum, zip(*paid, strict=True)))


def test_what_is_charged_together_adds_up_and_does_not_know_what_one_does_not():
    one = Charged({"a": 3, "b": 4}, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert charged_together([one, one]) == Charged({"a": 6, "b": 8}, 2, 4, 6, 8, 10, 12, 14, 16, 18)
    assert charged_together([one, Charged(None, 1)]) == Charged(None, 2, 2, 3, 4, 5, 6)
    assert charged_together([one, Charged({"a": 1}, 0)]).computation == {"a": 4}
    assert charged_together([]) == Charged(None)


# -- whole messages --------------------------------------------------------------------------------

WORDS = ("ant", "bee", "cow", "x" * 3000)

NUMBERS = (
    "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT %d) "
    "INSERT INTO t (name, score) SELECT 'n' || i, i / 7.0 FROM n"
)


def random_sql(rng):
    """A statement that may fail, may write nothing, and may touch much."""
    return rng.choice(
        (
            f"INSERT INTO t (name, score) VALUES ('{rng.choice(WORDS)}', {rng.random()})",
            NUMBERS % rng.randrange(1, 300),
            f"SELECT count(*), sum(score * 1.5) FROM t WHERE id % {rng.randrange(1, 9)} = 0",
            f"UPDATE t SET score = score + sqrt(id) WHERE id < {rng.randrange(100)}",
            f"DELETE FROM t WHERE id > {rng.randrange(5, 500)}",
            "SELECT * FROM no_such_table",
            "CREATE INDEX IF NOT EXISTS t_name ON t (name)",
            "DROP INDEX IF EXISTS t_name",
        )
    )


def random_run(seed, **options):
    """Run a script that a seed stands for; returns the trace's messages and statements."""
    rng = random.Random(seed)
    with Canister(engine="wasm", trace=":memory:", **options) as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, score REAL)")
        for _ in range(14):
            action = rng.random()
            if action < 0.1:
                canister.upgrade()
            elif action < 0.3:
                canister.query(f"SELECT name, score FROM t LIMIT {rng.randrange(40)}")
            else:
                run_update(canister, rng)
        with canister.trace() as trace:
            return [*trace.messages], [*trace.statements]


def run_update(canister, rng):
    with suppress(Trap), canister.message("update") as message:
        for _ in range(rng.randrange(4)):
            with suppress(SqlError):
                message.execute(random_sql(rng))
        if rng.random() < 0.3:
            rows = [(f"m{at}", at / 3) for at in range(rng.randrange(60))]
            message.executemany("INSERT INTO t (name, score) VALUES (?, ?)", rows)
        if rng.random() < 0.1:
            message.trap("asked for")


def parts_of(instructions):
    return Spent(instructions.computation, instructions.stable, instructions.heap)


def check_adds_up(messages, statements, regime):
    """Units cost what was counted, part by part; statements have no more of any than a message."""
    for message in messages:
        if message.instructions is None:
            continue
        assert spent(message.charged, regime) == parts_of(message.instructions)
        own = [statements[index] for index in message.statements] if statements else []
        for statement in own:
            assert spent(statement.charged, regime) == parts_of(statement.instructions)
        together = charged_together([it.charged for it in own])
        for unit in CHARGED_UNITS:
            assert (getattr(together, unit) or 0) <= (getattr(message.charged, unit) or 0), unit
        for table, computed in (together.computation or {}).items():
            assert computed <= message.charged.computation[table]
        assert message.charged.computation.keys() == {it.name for it in TABLES}


@pytest.mark.slow
@pytest.mark.parametrize("build", ["standard", "lean"])
@pytest.mark.parametrize("seed", range(4))
def test_units_cost_what_was_counted_in_every_message(build, seed):
    messages, statements = random_run(seed, build=build)
    check_adds_up(messages, statements, TODAY)
    assert any(message.parts for message in messages)


@pytest.mark.slow
@pytest.mark.parametrize("build", ["standard", "lean"])
@pytest.mark.parametrize("day", ["2023-05-01", "2024-06-01"])
def test_prices_of_another_day_are_those_of_a_run_under_its_list(build, day):
    regime = regime_of(limits_at(day))
    for seed in range(2):
        today, todays = random_run(seed, build=build)
        then, thens = random_run(seed, build=build, limits=day)
        assert [it.outcome for it in today] == [it.outcome for it in then]
        check_adds_up(then, thens, regime)
        for now, before in (*zip(today, then, strict=True), *zip(todays, thens, strict=True)):
            priced, ran = spent(now.charged, regime), before.instructions
            assert (priced.computation, priced.stable) == (ran.computation, ran.stable)
            assert priced.heap == ran.heap
            # And back: an old run has what today's list charges for.
            assert spent(before.charged, TODAY) == parts_of(now.instructions)


def test_a_message_has_its_payloads_and_units_by_all_tables():
    with Canister(engine="wasm") as canister:
        canister.update("CREATE TABLE t (a REAL)")
        short = canister.update("INSERT INTO t VALUES (1.5)").message
        long = canister.update(f"INSERT INTO t VALUES ('{'x' * 1000}')").message
        reply = canister.query("SELECT a FROM t").message
        check_adds_up([short, long, reply], (), TODAY)
    assert long.payloads.request_bytes == short.payloads.request_bytes + len("x" * 1002) - 3
    assert reply.payloads.reply_bytes > 1000 > short.payloads.reply_bytes
    counts = long.charged.computation
    assert counts["replica-flat"] < counts["replica"] <= counts["replica-2023"]


def test_natively_stable_memory_is_charged_as_in_wasm():
    found = []
    for engine in ("native", "wasm"):
        with Canister(engine=engine) as canister:
            canister.update("CREATE TABLE t (a, b)")
            with canister.message("update") as message:
                message.execute("INSERT INTO t VALUES (1, 2)")
                message.executemany(
                    "INSERT INTO t VALUES (?, ?)", [(it, "x" * 99) for it in range(500)]
                )
            replies = [message.reply, canister.query("SELECT count(*) FROM t", cache="cold")]
            found.append(
                [
                    tuple(getattr(it.charged, name) for name in CHARGED_UNITS if "stable" in name)
                    for reply in replies
                    for it in (reply.message, *reply.statements)
                ]
            )
            charged = replies[0].message.charged
    assert found[0] == found[1]
    assert charged.heap_regions_accessed > 0


def test_a_heap_that_is_not_to_be_watched_is_not_charged_for():
    with Canister(engine="wasm", track_heap=False) as canister:
        message = canister.update("CREATE TABLE t (a)").message
    assert message.charged.heap_regions_accessed is None
    assert spent(message.charged, TODAY).heap is None
    assert message.instructions.heap == 0
