"""Cycles of a report go by the prices of the day that instructions were counted by."""

from datetime import date

import pytest

from sqlstable import Canister, repriced
from sqlstable.analysis.totals import totals
from sqlstable.trace.fees import fees_day, trace_fees
from sqlstable.trace.model import TraceSettings


def settings(prices, limits):
    return TraceSettings({"prices": prices, "limits": limits})


@pytest.mark.parametrize(
    ("prices", "limits", "day"),
    [
        ("system-api-2021", "2022-05-01", date(2022, 5, 1)),
        # The list did not hold on that day: its own last one.
        ("system-api-2021", "2026-08-18", date(2022, 10, 10)),
        ("wasm-native", "2024-10-29", date(2024, 10, 29)),
        ("wasm-native", None, date(2026, 5, 6)),
        ("memory-tracker", "2026-08-18", date(2026, 8, 18)),
        ("memory-tracker", "2022-05-01", None),
        (["of", "format", 1], "2022-05-01", None),
        ("wasm-native", "yesterday", date(2026, 5, 6)),
        (None, None, None),
    ],
)
def test_the_day_is_that_of_the_limits_where_the_list_held_then(prices, limits, day):
    assert fees_day(settings(prices, limits)) == day


def test_a_message_costs_what_it_did_before_prices_were_raised():
    # 590,000 and 4 for ten instructions until 2024-10-29; 5,000,000 and 10 since.
    before = trace_fees(settings("wasm-native", "2024-10-29"))
    since = trace_fees(settings("wasm-native", "2024-10-30"))
    assert before.execution(instructions=1_000_000) == 590_000 + 400_000
    assert since.execution(instructions=1_000_000) == 5_000_000 + 1_000_000


def test_views_of_one_trace_agree_in_the_cycles_of_another_day():
    with Canister(engine="wasm", trace=":memory:") as canister:
        canister.update("CREATE TABLE t (a)")
        canister.update("INSERT INTO t VALUES (1)")
        with canister.trace() as trace:
            then = repriced(trace, "system-api")
    with then:
        updates = [it for it in then.messages if it.kind == "update"]
        assert len(updates) == 2
        # Until 2024-10-29 a message was 590,000, ten instructions 4, an argument's byte 2,000.
        by_hand = sum(
            590_000
            + 4 * it.instructions.total // 10
            + 1_200_000
            + 2_000 * it.payloads.request_bytes
            for it in updates
        )
        frame = then.messages_frame(library="pyarrow").to_pydict()
        of_updates = [
            cycles
            for kind, cycles in zip(frame["kind"], frame["cycles"], strict=True)
            if kind == "update"
        ]
        assert sum(of_updates) == by_hand
        assert totals(then).cycles.total == sum(frame["cycles"])
