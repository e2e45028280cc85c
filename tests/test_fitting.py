"""Whether messages fit: words, slices and rounds, heap delta, bulk copies, other limits."""

from dataclasses import replace

import pytest

from sqlstable.analysis.fitting.circumstances import trace_limits, trace_regime
from sqlstable.analysis.fitting.fit import message_fit
from sqlstable.analysis.fitting.message_pace import heap_delta, message_pace, slice_overrun
from sqlstable.analysis.fitting.uses import limit_uses
from sqlstable.analysis.verdict import verdict
from sqlstable.ic.charged import Payloads
from sqlstable.ic.limits import latest_limits, limits_at
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.ic.units import MIB, NO_LIMIT
from sqlstable.report.as_json import document
from sqlstable.report.as_table import render_table
from sqlstable.trace.model import (
    HeapUse,
    Instructions,
    LimitUse,
    ModuleCall,
    Part,
    TraceSettings,
)
from tests.hand_built import SETTINGS, HandBuiltTrace, accesses, message, statement, use

LATEST = latest_limits()
TRACKER, NATIVE = PRICE_REGIMES["memory-tracker"], PRICE_REGIMES["wasm-native"]


def spending(total, kind="update", accessed=1, dirty=0, **changes):
    """Return a message with so many instructions, held against today's limits."""
    one = message(0, kind, (0,), use(accessed, dirty), **changes)
    one = replace(one, instructions=Instructions(total, total, 0, 0))
    return replace(one, limits=limit_uses(one, LATEST))


@pytest.mark.parametrize(
    ("one", "word"),
    [
        (spending(5_000_000_000, "query"), "fits"),
        (spending(5_000_000_001, "query"), "fits only as an update"),
        (spending(40_000_000_000, "query"), "fits only as an update"),
        (spending(40_000_000_001, "query"), "does not fit"),
        (spending(5_000_000_001, "composite_query"), "does not fit"),
        (spending(9, "query", accessed=262_145), "fits only as an update"),
        (spending(9, "query", accessed=524_289), "does not fit"),
        (spending(40_000_000_000), "fits"),
        (spending(40_000_000_001), "does not fit"),
        (spending(9, outcome="trapped", trap="no"), "fits as far as it ran"),
        (
            spending(9, "query", outcome="trapped", trap="no", trap_limit="instructions"),
            "does not fit",
        ),
    ],
)
def test_a_message_fits_or_only_as_an_update_or_not(one, word):
    found = message_fit(one, LATEST)
    assert found.word == word
    assert (verdict(one) == "exceeds") == (word in ("does not fit", "fits only as an update"))


def test_an_update_that_wrote_nothing_is_held_against_the_limits_of_a_query():
    assert message_fit(spending(1_000_000_000), LATEST).as_other == LimitUse(
        "instructions", 1_000_000_000, 5_000_000_000
    )
    assert message_fit(spending(9, dirty=1), LATEST).as_other is None
    assert message_fit(spending(9), None).as_other is None


def test_nothing_is_said_of_messages_without_limits():
    found = message_fit(replace(spending(9), limits=()), LATEST)
    assert (found.word, found.tightest, found.as_other) == (None, None, None)


@pytest.mark.parametrize("when", ["2021-05-10", "2022-10-11", "2024-05-15", "2024-07-08"])
def test_uses_are_held_against_the_limits_of_any_day(when):
    limits = limits_at(when)
    found = {it.name: it for it in limit_uses(spending(7, accessed=5, dirty=3), limits)}
    assert found["stable_os_pages_accessed"] == LimitUse(
        "stable_os_pages_accessed", 5, limits.update.os_pages_accessed_max
    )
    assert found["stable_os_pages_dirty"].limit == limits.update.os_pages_dirty_max
    assert found["instructions"].limit == limits.update.instructions_max
    assert (found["stable_os_pages_accessed"].limit == NO_LIMIT) == (when < "2023")


def test_parts_of_a_step_have_limits_of_their_own():
    one = replace(
        message(0, "upgrade", (), use(9)),
        parts=(Part("pre_upgrade", 600_000, 4), Part("start", 300_000, 5)),
    )
    found = limit_uses(one, LATEST)
    # 300,000 of 524,288 is nearer than 600,000 of 2,097,152.
    assert found[0] == LimitUse("stable_os_pages_accessed", 300_000, 524_288)


# -- sizes of arguments and replies --------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "request_bytes", "reply_bytes", "word", "name"),
    [
        ("update", 2 * MIB, 9, "fits", "request_bytes"),
        ("update", 2 * MIB + 1, 9, "does not fit", "request_bytes"),
        ("update", 9, 2 * MIB + 1, "does not fit", "reply_bytes"),
        ("query", 9, 3 * MIB, "fits", "reply_bytes"),
        ("query", 9, 3 * MIB + 1, "does not fit", "reply_bytes"),
        ("replicated_query", 9, 2 * MIB + 1, "does not fit", "reply_bytes"),
        ("update", 0, 0, "fits", "stable_memory_bytes"),
        ("timer", 9 * MIB, 9 * MIB, "fits", "stable_memory_bytes"),
    ],
)
def test_arguments_and_replies_have_limits(kind, request_bytes, reply_bytes, word, name):
    one = replace(spending(9, kind), payloads=Payloads(request_bytes, reply_bytes))
    found = message_fit(one, LATEST)
    assert (found.word, found.tightest.name) == (word, name)
    # The verdict on the limits that the run enforced is what it was.
    assert verdict(one) == "fits"


def test_of_a_module_the_reply_is_known_without_other_bytes():
    call = ModuleCall("m", "m()", "reply", 2 * MIB, None, 0)
    assert message_fit(replace(spending(9), call=call), LATEST).tightest == LimitUse(
        "reply_bytes", 2 * MIB, 2 * MIB
    )


# -- slices and rounds -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "slices"),
    [(0, 1), (1, 1), (2_000_000_000, 1), (2_000_000_001, 2), (40_000_000_000, 20)],
)
def test_a_message_has_a_slice_for_each_2_b_instructions(total, slices):
    found = message_pace(spending(total), None, TRACKER)
    assert (found.slices, found.rounds) == (slices, slices)
    assert found.seconds_min == pytest.approx(slices / 1.5)
    assert found.seconds_max == pytest.approx(slices / 0.75)


def test_queries_are_not_sliced_and_nothing_is_where_nobody_counted():
    assert message_pace(spending(4_000_000_000, "query"), None, TRACKER).slices is None
    uncounted = message(0, "update", (), use(1))
    assert message_pace(uncounted, None, TRACKER).rounds is None


def test_slices_of_another_day_were_longer():
    one = spending(4_000_000_000)
    assert message_pace(one, limits_at("2022-08-01"), TRACKER).slices == 1
    assert message_pace(one, limits_at("2022-11-01"), TRACKER).slices == 2
    assert message_pace(one, limits_at("2021-11-01"), TRACKER).slices == 1  # Not sliced yet.


def test_a_large_dirty_heap_takes_a_slice_more():
    def rounds(os_pages):
        heap = HeapUse(os_pages // 16, os_pages // 16, os_pages, 4 << 30)
        return message_pace(replace(spending(9), heap=heap), None, TRACKER).rounds

    assert (rounds(262_144), rounds(262_160)) == (1, 2)


# -- heap delta --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dirty", "pause"),
    [(0, 0), (19_200, 0), (19_201, 1), (38_400, 1), (38_401, 2), (524_288, 27)],
)
def test_a_canister_pauses_for_what_is_above_75_mib_a_round(dirty, pause):
    """19,200 OS pages are 75 MiB; 2 GiB are 27 rounds, as the facts derive."""
    found = heap_delta(spending(9, accessed=dirty, dirty=dirty), None, TRACKER)
    assert (found.stable_os_pages, found.heap_os_pages) == (dirty, None)
    assert (found.size_bytes, found.pause_rounds) == (dirty * 4096, pause)


def test_the_heap_counts_by_wasm_pages_under_the_memory_tracker_only():
    heap = HeapUse(5, 3, 7, 1 << 20)
    one = replace(spending(9, dirty=2), heap=heap)
    assert heap_delta(one, None, TRACKER).size_bytes == (2 + 3 * 16) * 4096
    assert heap_delta(one, None, NATIVE).size_bytes == (2 + 7) * 4096


@pytest.mark.parametrize(("kind", "outcome"), [("query", "discarded"), ("update", "trapped")])
def test_queries_and_failed_messages_add_nothing(kind, outcome):
    one = replace(spending(9, kind, dirty=9), outcome=outcome, heap=HeapUse(1, 1, 1, 1))
    assert heap_delta(one, None, TRACKER).size_bytes == 0


# -- bulk copies -------------------------------------------------------------------------------


def copying(kind, length, prices=None):
    """Return a trace of one message that moves so many bytes by one call, and 4 KiB by another."""
    made = accesses((0, 0, 4096, -1), (kind, 0, length, -1))
    stable = replace(use(1), bytes_read=4096 + length * (kind == 0))
    stable = replace(stable, bytes_written=length * (kind == 1))
    one = replace(spending(9), stable=stable)
    settings = TraceSettings({**SETTINGS.values, "prices": prices})
    return HandBuiltTrace(
        settings,
        messages=(one,),
        statements=(statement(0, 0, "x"),),
        accesses_by_statement=(made,),
    )


@pytest.mark.parametrize(
    ("kind", "length", "prices", "is_overrun"),
    [
        # 1 a byte and 80,000 for 65,536 bytes: 2.22 a byte read, 3.44 a byte written.
        (0, 1_750_000_000, None, False),
        (0, 1_850_000_000, None, True),
        (1, 1_100_000_000, None, False),
        (1, 1_200_000_000, None, True),
        # 1 a byte and 1,000 for 4,096 bytes written.
        (0, 2_147_483_648, "wasm-native", False),
        (1, 2_147_483_648, "wasm-native", False),
    ],
)
def test_a_copy_that_costs_two_slices_overruns_its_own(kind, length, prices, is_overrun):
    trace = copying(kind, length, prices)
    assert slice_overrun(trace, trace.messages[0]) is is_overrun


def test_many_small_copies_overrun_nothing():
    trace = copying(0, 65_536)
    one = replace(trace.messages[0], stable=replace(use(1), bytes_read=1 << 40))
    assert slice_overrun(replace(trace, messages=(one,)), one) is False
    assert slice_overrun(trace, replace(one, kind="query")) is None


# -- circumstances and views ---------------------------------------------------------------------


def test_the_settings_of_a_trace_say_under_which_limits_and_prices():
    assert trace_limits(SETTINGS) == latest_limits()
    assert trace_limits(TraceSettings({"limits": "no date"})) is None
    assert trace_regime(SETTINGS) == TRACKER
    assert trace_regime(TraceSettings({"limits": "2024-01-01"})) == NATIVE
    assert trace_regime(TraceSettings({"prices": "system-api"})).name == "system-api"
    assumed_by = {"price_regime": "memory-tracker", "assumptions": {"stable-write-charges": "once"}}
    assert trace_regime(TraceSettings(assumed_by)).label == (
        "memory-tracker, stable-write-charges=once"
    )


def test_tables_and_json_say_what_takes_rounds_and_what_would_fit_otherwise():
    trace = HandBuiltTrace(
        messages=(
            spending(6_000_000_000, accessed=40_000, dirty=40_000),
            replace(spending(6_000_000_000, "query"), index=1, statements=()),
            replace(spending(6_000_000_000, accessed=3), index=2, statements=(1,)),
        ),
        statements=(statement(0, 0, "INSERT"), statement(1, 2, "SELECT 1")),
    )
    words = " ".join(render_table(trace, by="message").split())
    for said in (
        "3 slices, a round each: 2.0 to 4.0 s",
        "heap delta 156.2 MiB, heap not counted: 2 rounds of pause",
        "fits only as an update: 6.0B of 40.0B instructions, 15.0%",
        "wrote nothing; as a query it does not fit: 6.0B of 5.0B instructions, 120%",
        "most rounds: message 0, 3, 2.0 to 4.0 s (modelled: a round for each slice",
        "largest heap delta: message 0, 156.2 MiB, heap not counted, 2 rounds of pause",
    ):
        assert said in words
    first, second, third = document(trace)["messages"]
    assert first["pace"] == {
        "slices": 3,
        "rounds": 3,
        "seconds_min": 2.0,
        "seconds_max": 4.0,
        "slice_overrun": False,
    }
    assert first["heap_delta"]["pause_rounds"] == 2
    assert (second["fit"], second["verdict"]) == ("fits only as an update", "exceeds")
    assert second["fit_as_other"] == {
        "name": "instructions",
        "used": 6_000_000_000,
        "limit": 40_000_000_000,
        "kind": "update",
        "words": "fits only as an update",
    }
    assert third["fit_as_other"]["words"] == "as a query it does not fit"
    assert first["fit_as_other"] is None


def test_json_says_of_another_kind_what_the_table_says():
    """An update that found no row to change wrote nothing, and is no query."""
    trace = HandBuiltTrace(
        messages=(
            replace(spending(1_000, accessed=3), statements=(0,)),
            replace(spending(1_000, accessed=3), index=1, statements=(1,)),
        ),
        statements=(statement(0, 0, "UPDATE t SET x = 1"), statement(1, 1, "SELECT 1")),
    )
    table = " ".join(render_table(trace, by="message").split())
    said = [it["fit_as_other"] for it in document(trace)["messages"]]
    assert said[0] is None
    assert (said[1]["kind"], said[1]["words"]) == ("query", "as a query it fits")
    assert table.count("wrote nothing; as a query it fits: ") == 1
