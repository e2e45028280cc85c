"""Out of instructions at each block of a module, its heap charged as it is touched."""

from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from sqlstable.errors import LimitTrap
from sqlstable.ic.assumptions import ASSUMPTIONS, assumed
from sqlstable.ic.limits import latest_limits
from sqlstable.ic.prices import PRICE_REGIMES, REPLICA
from sqlstable.replica.replica import Replica
from sqlstable.wasm.exact_stop import StoppedAt, first_over
from sqlstable.wasm.rewrite.rewriter import RewriteOptions
from tests.witness_driver import Machine

WAT = """(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (memory 8)
  (table funcref (elem $leaf))
  (data $bytes "some bytes")
  (global $calls (mut i32) (i32.const 0))
  (func $leaf (param $at i32) (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (i32.store (local.get $at) (i32.const 7))
    (i32.load (local.get $at)))
  (func $choose (param $n i32) (result i32)
    (block $b2 (block $b1 (block $b0
      (br_table $b0 $b1 $b2 (local.get $n)))
      (return (call $leaf (i32.const 65536))))
      (return (call_indirect (param i32) (result i32) (i32.const 131072) (i32.const 0))))
    (i32.load (i32.const 196608)))
  (func (export "canister_update go") (local $i i32)
    (drop (call $grow (i64.const 2)))
    (loop $next
      (drop (call $choose (local.get $i)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (i32.const 5))))
    (if (i32.gt_u (local.get $i) (i32.const 3))
      (then (memory.fill (i32.const 262144) (i32.const 1) (i32.const 70000)))
      (else (unreachable)))
    (memory.copy (i32.const 0) (i32.const 262144) (i32.const 90))
    (memory.init $bytes (i32.const 8) (i32.const 0) (i32.const 5))
    (drop (memory.grow (i32.const 1)))
    (call $write (i64.const 0) (i64.const 524288) (i64.const 70))
    (call $read (i64.const 393216) (i64.const 65536) (i64.const 70))
    (drop (call $leaf (i32.const 458752)))
    (call $reply)))"""

REGION = 80_000
TRACKER = PRICE_REGIMES["memory-tracker"]


@dataclass(frozen=True)
class Place:
    """How far the witness came: instructions without the heap, and what the heap had cost."""

    used: int
    heap: int

    @property
    def total(self):
        return self.used + self.heap


def witnessed():
    """Return each place where code tests the counter, and the end, from the plain driver.

    It charges no heap: each place is found by a run with what was used at the one before, and has
    its heap's price from the marks.
    """
    options = RewriteOptions(REPLICA, has_heap_marks=True)
    machine = Machine(bytes(wasmtime.wat2wasm(WAT)), options, costs=TRACKER.costs)
    places, most, is_stopped = [], -1, True
    while is_stopped:
        machine.begin(max(most, 0))
        machine.set("counter", most)
        try:
            machine.call("canister_update go")
            is_stopped = False
        except LimitTrap:
            is_stopped = True
        used = most - machine.get("counter")
        read, written = ({os_page // 16 for os_page in it} for it in machine.marks())
        places.append(Place(used, REGION * (len(read | written) + len(written))))
        most = used
        machine.rollback()
        if not is_stopped:
            # What is left of the last one's instructions is too few to be stopped by.
            return places
    return places


@pytest.fixture(scope="module")
def places():
    return witnessed()


@pytest.fixture(scope="module")
def replica():
    made = Replica()
    made.create("app")
    made.install("app", bytes(wasmtime.wat2wasm(WAT)))
    yield made
    made.close()


def run(replica, instructions):
    """Run the method with so many instructions; returns what was executed, and what is left."""
    [canister] = replica.canisters
    limits = latest_limits()
    update = replace(limits.update, instructions_max=instructions)
    canister.memory.limits = replace(limits, update=update)
    before = canister.memory.image(), canister.instance.heap_bytes()
    [executed] = replica.update("app", "go").executed
    if executed.trap is not None:
        assert (canister.memory.image(), canister.instance.heap_bytes()) == before
    return executed


def test_the_module_has_places_of_all_kinds(places):
    """Worked by hand: the function's entry costs 1, and its first block before anything ran.

    ``i64.const``, ``call`` and ``drop`` of the grow are 1 + 5 + 1; then the grow itself costs 100.
    """
    assert places[:2] == [Place(8, 0), Place(108, 0)]
    assert len(places) >= 20
    assert all(one.used < two.used for one, two in pairwise(places[:-1]))
    # 6 regions in computing, one by the fill more, and what the calls on stable memory touch.
    assert places[-1].heap >= 12 * REGION


def test_with_any_number_of_instructions_it_stops_where_the_witness_does(replica, places):
    *tested, end = places
    totals = sorted({it.total for it in places})
    limits = {0, *totals, *(it - 1 for it in totals)}
    limits |= {(one + two) // 2 for one, two in pairwise(totals)}
    # The message that fits changes the canister, so it comes last.
    for limit in sorted(it for it in limits if it < end.total):
        executed = run(replica, limit)
        expected = next((it for it in tested if it.total > limit), end)
        assert isinstance(executed.trap, LimitTrap)
        assert executed.trap.limit == "instructions"
        assert f"exceeded the limit of {limit} instructions" in str(executed.trap)
        found = Place(executed.instructions, executed.heap_instructions)
        assert found == expected, limit
    executed = run(replica, end.total)
    assert executed.trap is None
    assert (executed.instructions, executed.heap_instructions) == (end.used, end.heap)


@pytest.mark.parametrize("unit", ASSUMPTIONS["heap-dirty-unit"].values)
def test_a_heap_that_is_charged_at_the_end_stops_no_message(unit):
    """A message may use its last instruction; the heap comes on top, whatever it is counted in."""
    regime = assumed(PRICE_REGIMES["wasm-native"], {"heap-dirty-unit": unit})
    with closing(Replica(regime=regime)) as made:
        made.create("app")
        made.install("app", bytes(wasmtime.wat2wasm(WAT)))
        whole = run(made, latest_limits().update.instructions_max)
        assert whole.heap_instructions >= 1000
        made.install("app", bytes(wasmtime.wat2wasm(WAT)), mode="reinstall")
        short = run(made, whole.instructions)
        assert short.trap is None
        assert short.heap_instructions == whole.heap_instructions
        made.install("app", bytes(wasmtime.wat2wasm(WAT)), mode="reinstall")
        assert isinstance(run(made, whole.instructions - 1).trap, LimitTrap)


# -- the search --------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(0, 4)), min_size=1, max_size=40),
    st.data(),
)
def test_the_first_place_over_a_limit_is_found_in_few_runs(steps, data):
    used = heap = 0
    places = []
    for computation, regions in steps:
        used, heap = used + computation, heap + 80 * regions
        places.append(StoppedAt(used, heap, is_tested=True))
    end = replace(places.pop(), is_tested=False)
    runs = []

    def run(most):
        runs.append(most)
        return next((it for it in places if it.used > most), end)

    limit = data.draw(st.integers(0, end.used + end.heap - 1))
    last = run(limit)
    if last.used + last.heap <= limit:
        return
    expected = next((it for it in places if it.used + it.heap > limit), end)
    assert first_over(run, limit, last) == expected
    assert run(runs[-1]) == expected
    assert len(runs) <= 40
