"""How far statements travel is counted, and so can be held; trees are compared by equal rows."""

import pytest

from benchmarks import beside, journeys


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    return journeys.measure(tmp_path_factory.mktemp("journeys"))


@pytest.mark.slow
@pytest.mark.parametrize("what", [journeys.QUERY, journeys.TRACED])
def test_a_statement_travels_no_further_than_its_goal(counted, what):
    assert 20 < counted[what].calls <= journeys.GOALS[what]


@pytest.mark.slow
def test_the_shim_is_asked_once_for_each_wasm_query(counted):
    found = counted[journeys.WASM].by_function
    # Into Wasm: message and call begin, the canister runs, the shim tells, and all goes back.
    assert found["wasm/calls.py", "call"] == 5
    assert found["wasm/instance.py", "begin_message"] == 1
    assert found["wasm/instance.py", "call"] == 1
    assert found["wasm/instance.py", "rollback"] == 1


@pytest.mark.slow
def test_two_equal_trees_give_the_same_rows():
    pairs = beside.beside(beside.HERE, "durability", rounds=1)
    assert all(before > 0 and now > 0 for before, now in pairs.values())
    slower = [
        outcome for outcome in beside.outcomes(pairs) if outcome.what.endswith("slower by, %")
    ]
    assert len(slower) == len(pairs)


def test_what_is_slower_is_told_and_what_is_left_of_a_cold_query():
    pairs = {
        "plain APSW, in memory": (1.0, 1.0),
        "cold point query, depth pages": (11.0, 6.0),
        "scan": (100.0, 104.0),
    }
    found = {outcome.what: outcome for outcome in beside.outcomes(pairs)}
    assert not found["scan: slower by, %"].is_met
    assert found["cold point query, depth pages: slower by, %"].measured == 0
    left = found["cold point query, depth pages, over plain APSW: left, %"]
    assert (left.measured, left.is_met) == (50, True)
    assert "plain APSW, in memory: slower by, %" not in found
