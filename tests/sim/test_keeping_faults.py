"""An upgrade that is cut off anywhere leaves stable memory and the heap as they were."""

import pytest

from sqlstable.errors import LimitTrap, Trap
from sqlstable.workload.upgrading.strategies import STRATEGIES
from tests.kept_world import canister, rows, state, table

pytestmark = pytest.mark.sim

COUNTED = "SELECT count(*), sum(owner), max(note) FROM item"
each = pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda it: it.name)


def grown(strategy):
    """A canister that has been upgraded once, and whose database has grown since: all there is."""
    one = canister(strategy, table(120, page_size=512), page_size=512)
    one.upgrade()
    one.update("INSERT INTO item SELECT id + 500, owner, note FROM item")
    return one


@each
def test_a_trap_at_any_access_of_stable_memory_undoes_the_upgrade(strategy):
    with grown(strategy) as one:
        before, answer = state(one), rows(one, COUNTED)
        with grown(strategy) as other:
            other.upgrade()
            calls = other.calls
        for index in range(calls):
            with pytest.raises(Trap, match="injected trap"):
                one.upgrade(trap_at=index)
            assert state(one) == before
        one.upgrade(trap_at=calls)
        # Whole: size, write, write; and size, read, read. Streamed: each SQLite page.
        assert calls > (5 if strategy.name == "whole" else 3)
        assert rows(one, COUNTED) == answer


@each
def test_out_of_instructions_anywhere_undoes_the_upgrade(strategy):
    with grown(strategy) as one:
        before, answer = state(one), rows(one, COUNTED)
        with grown(strategy) as other:
            used = sum(part.instructions for part in other.upgrade())
        step = max(used // 150, 1)
        for instructions in range(0, used, step):
            with pytest.raises(LimitTrap, match=f"the limit of {instructions} instructions"):
                one.upgrade(instructions_max=instructions)
            assert state(one) == before
        with pytest.raises(LimitTrap):
            one.upgrade(instructions_max=used - 1)
        assert state(one) == before
        one.upgrade(instructions_max=used)
        assert rows(one, COUNTED) == answer
