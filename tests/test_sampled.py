"""Totals of samples against what all messages took: real data, and what the comparison rests on."""

import pytest

from benchmarks.datasets import MissingDataError
from benchmarks.sampled import (
    ERROR_GOAL,
    Workload,
    chinook,
    compared,
    known,
    run,
    sampled,
    tpch_messages,
)

OWN = Workload(
    "own",
    lambda it: it.update("CREATE TABLE t (id INTEGER PRIMARY KEY, a); CREATE INDEX ta ON t (a)"),
    (
        ("INSERT INTO t (a) VALUES (?)", ((1, 9),)),
        ("SELECT count(*) FROM t WHERE a = ?", ((1, 9),)),
        ("UPDATE t SET a = a + 1 WHERE id = ?", ((1, 40),)),
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["auto", "2", "20%"])
def test_a_sample_that_is_worked_out_is_the_sample_that_is_measured(measure):
    messages = known(run(OWN, 150, "all"))
    blocks, _ = sampled(messages, measure, 0)
    trace = run(OWN, 150, measure)
    there = [it for it in trace.summary.blocks if not it.group.reason]
    assert sum(it.messages for it in there) == sum(it.messages for it in blocks) == len(messages)
    # Changes of the schema are measured in any case, and have no other ones to stand for.
    assert sum(it.measured for it in there) == sum(it.measured for it in blocks)
    worked_out, found = (sum(it.mean * it.messages for it in part) for part in (blocks, there))
    assert worked_out == pytest.approx(found, rel=1e-12)


@pytest.fixture(scope="module", params=["chinook", "TPC-H"])
def real(request, tmp_path_factory):
    """What messages on real data took, all measured."""
    try:
        workload = (
            chinook()
            if request.param == "chinook"
            else tpch_messages(tmp_path_factory.mktemp("tpch"))
        )
    except MissingDataError as error:
        pytest.skip(str(error))
    return known(run(workload, 600, "all"))


@pytest.mark.slow
@pytest.mark.external
@pytest.mark.parametrize("measure", ["auto", "16"])
def test_totals_of_real_data_lie_within_what_is_stated(real, measure):
    found = compared(real, measure, range(100))
    assert found.outside <= 5
    assert 100 * max(found.errors) <= ERROR_GOAL
