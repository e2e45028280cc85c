"""The Internet Computer's units and limits: the tables keep their order, and say what was read."""

from datetime import date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlstable.errors import SettingsError, SqlstableError
from sqlstable.ic.limits import (
    EARLIEST_LIMITS_DATE,
    LATEST_LIMITS_DATE,
    LIMITS,
    NO_LIMIT,
    DatedValue,
    Limit,
    MessageLimits,
    latest_limits,
    limits_at,
)
from sqlstable.ic.units import (
    OS_PAGE_BYTES,
    OS_PAGES_PER_WASM_PAGE,
    WASM_PAGE_BYTES,
    os_pages_spanned,
    wasm_pages_needed,
)
from sqlstable.ic.words import MESSAGE_KINDS

DAY = timedelta(days=1)
GIB = 1_073_741_824
MIB = 1_048_576

# Written out, so that a row lost from a table is a failure here.
NAMES = """
stable_memory_bytes heap_wasm32_bytes heap_wasm64_bytes heap_default_limit_bytes
canister_memory_bytes subnet_memory_bytes subnet_reservation_threshold_bytes
wasm_module_bytes wasm_code_section_bytes wasm_functions wasm_globals
snapshots snapshot_slice_bytes instructions_snapshot instructions_snapshot_slice

instructions_update instructions_query instructions_install instructions_inspect_message
instructions_round execution_threads execution_threads_canister
instructions_slice_update instructions_slice_install
instructions_composite_query composite_query_depth_calls composite_query_seconds
instructions_composite_query_call instructions_compile_wasm_instruction
instructions_round_execution instructions_round_canister instructions_round_finalization
instructions_update_system_subnet instructions_install_system_subnet
instructions_slice_install_system_subnet
paused_executions message_slices update_slices install_slices instructions_slice_overrun
heap_os_pages_dirty_extra_slice instructions_heap_os_page_copy
ingress_message_bytes reply_update_bytes reply_query_bytes
query_threads query_threads_canister query_slice_ms
query_cache_bytes query_cache_seconds query_cache_certificate_seconds

os_page_bytes wasm_page_bytes wasm_page_os_pages
stable_os_pages_dirty_update stable_os_pages_dirty_query stable_os_pages_dirty_upgrade
stable_os_pages_accessed_update stable_os_pages_accessed_query stable_os_pages_accessed_upgrade
stable_bytemap_os_page_bytes stable_bytemap_bytes
stable_bytemap_written_mask stable_bytemap_accessed_mask
heap_delta_subnet_bytes heap_delta_initial_bytes heap_delta_released_bytes
heap_delta_canister_round_bytes heap_delta_canister_round_os_pages
heap_delta_update_pause_rounds heap_delta_iteration_bytes instructions_install_debit_round
checkpoint_rounds checkpoint_seconds_min checkpoint_seconds_max
state_chunk_bytes state_rehash_chunks state_sync_version
overlay_files overlay_shard_os_pages overlay_shard_bytes overlay_ahead_rounds
overlay_range_bytes overlay_os_page_count_bytes overlay_version_bytes
certified_data_bytes
""".split()  # noqa: SIM905  the groups are those of the sources, easier to compare so

# Name, first day of a value, the value on that day, the value the day before.
CHANGES = [
    ("stable_memory_bytes", "2021-09-14", 8 * GIB, 4 * GIB),
    ("stable_memory_bytes", "2022-10-11", 32 * GIB, 8 * GIB),
    ("stable_memory_bytes", "2022-11-16", 48 * GIB, 32 * GIB),
    ("stable_memory_bytes", "2023-05-11", 64 * GIB, 48 * GIB),
    ("stable_memory_bytes", "2023-09-06", 96 * GIB, 64 * GIB),
    ("stable_memory_bytes", "2024-01-09", 400 * GIB, 96 * GIB),
    ("stable_memory_bytes", "2024-11-06", 500 * GIB, 400 * GIB),
    ("heap_wasm64_bytes", "2025-02-10", 6 * GIB, 4 * GIB),
    ("canister_memory_bytes", "2021-09-14", 12 * GIB, 8 * GIB),
    ("canister_memory_bytes", "2022-10-11", 36 * GIB, 12 * GIB),
    ("canister_memory_bytes", "2022-11-16", 52 * GIB, 36 * GIB),
    ("canister_memory_bytes", "2023-05-11", 68 * GIB, 52 * GIB),
    ("canister_memory_bytes", "2023-09-06", 100 * GIB, 68 * GIB),
    ("canister_memory_bytes", "2024-01-09", 404 * GIB, 100 * GIB),
    ("canister_memory_bytes", "2024-11-06", 504 * GIB, 404 * GIB),
    ("subnet_memory_bytes", "2022-03-11", 350 * GIB, 300 * GIB),
    ("subnet_memory_bytes", "2022-11-04", 450 * GIB, 350 * GIB),
    ("subnet_memory_bytes", "2023-09-19", 700 * GIB, 450 * GIB),
    ("subnet_memory_bytes", "2024-11-06", 1024 * GIB, 700 * GIB),
    ("subnet_memory_bytes", "2025-07-30", 2048 * GIB, 1024 * GIB),
    ("subnet_reservation_threshold_bytes", "2025-07-30", 750 * GIB, 450 * GIB),
    ("snapshots", "2025-03-03", 10, 1),
    ("instructions_update", "2022-10-19", 10_000_000_000, 5_000_000_000),
    ("instructions_update", "2022-12-01", 20_000_000_000, 10_000_000_000),
    ("instructions_update", "2024-03-18", 40_000_000_000, 20_000_000_000),
    ("instructions_install", "2024-09-27", 300_000_000_000, 200_000_000_000),
    ("instructions_slice_update", "2022-10-19", 2_000_000_000, 5_000_000_000),
    ("instructions_slice_install", "2022-10-05", 2_000_000_000, 200_000_000_000),
    ("stable_os_pages_dirty_update", "2022-10-11", 2_097_152, NO_LIMIT),
    ("stable_os_pages_dirty_update", "2024-05-15", 1_048_576, 2_097_152),
    ("stable_os_pages_dirty_update", "2024-07-08", 524_288, 1_048_576),
    ("stable_os_pages_dirty_query", "2022-10-11", 2_097_152, NO_LIMIT),
    ("stable_os_pages_dirty_query", "2024-07-03", 262_144, 2_097_152),
    ("stable_os_pages_dirty_upgrade", "2022-10-11", 2_097_152, NO_LIMIT),
    ("stable_os_pages_accessed_update", "2023-02-21", 2_097_152, NO_LIMIT),
    ("stable_os_pages_accessed_update", "2024-07-08", 524_288, 2_097_152),
    ("stable_os_pages_accessed_query", "2023-02-21", 2_097_152, NO_LIMIT),
    ("stable_os_pages_accessed_query", "2024-07-03", 262_144, 2_097_152),
    ("stable_os_pages_accessed_upgrade", "2023-02-21", 2_097_152, NO_LIMIT),
    ("heap_delta_subnet_bytes", "2021-11-01", 200 * GIB, 1024 * GIB),
    ("heap_delta_subnet_bytes", "2022-03-01", 150 * GIB, 200 * GIB),
    ("heap_delta_subnet_bytes", "2022-08-01", 140 * GIB, 150 * GIB),
    ("heap_delta_canister_round_bytes", "2022-03-01", 75 * MIB, 200 * MIB),
]

# Limits with one known number, on the day of the newest source.
CONSTANTS = {
    "heap_wasm32_bytes": 4 * GIB,
    "heap_default_limit_bytes": 3 * GIB,
    "wasm_module_bytes": 100 * MIB,
    "wasm_code_section_bytes": 10 * MIB,
    "wasm_functions": 50_000,
    "wasm_globals": 1_000,
    "snapshot_slice_bytes": 2_000_000,
    "instructions_snapshot": 2_000_000_000,
    "instructions_snapshot_slice": 5_000_000,
    "instructions_query": 5_000_000_000,
    "instructions_inspect_message": 200_000_000,
    "instructions_round": 7_000_000_000,
    "execution_threads": 4,
    "execution_threads_canister": 1,
    "instructions_composite_query": 5_000_000_000,
    "composite_query_depth_calls": 6,
    "composite_query_seconds": 10,
    "instructions_composite_query_call": 50_000_000,
    "instructions_compile_wasm_instruction": 6_000,
    "instructions_round_execution": 2_000_000,
    "instructions_round_canister": 8_000_000,
    "instructions_round_finalization": 12_000,
    "instructions_update_system_subnet": 50_000_000_000,
    "instructions_install_system_subnet": 1_000_000_000_000,
    "instructions_slice_install_system_subnet": 5_000_000_000,
    "paused_executions": 4,
    "message_slices": 400,
    "update_slices": 40,
    "install_slices": 300,
    "instructions_slice_overrun": 4_000_000_000,
    "heap_os_pages_dirty_extra_slice": 262_144,
    "instructions_heap_os_page_copy": 3_000,
    "ingress_message_bytes": 2_097_152,
    "reply_update_bytes": 2_097_152,
    "reply_query_bytes": 3_145_728,
    "query_threads": 4,
    "query_threads_canister": 2,
    "query_slice_ms": 20,
    "query_cache_bytes": 200 * MIB,
    "query_cache_seconds": 600,
    "query_cache_certificate_seconds": 60,
    "os_page_bytes": 4_096,
    "wasm_page_bytes": 65_536,
    "wasm_page_os_pages": 16,
    "stable_bytemap_os_page_bytes": 1,
    "stable_bytemap_bytes": 125 * MIB,
    "stable_bytemap_written_mask": 0b01,
    "stable_bytemap_accessed_mask": 0b10,
    "heap_delta_initial_bytes": 32 * GIB,
    "heap_delta_released_bytes": 108 * GIB,
    "heap_delta_canister_round_os_pages": 19_200,
    "heap_delta_update_pause_rounds": 27,
    "heap_delta_iteration_bytes": 200_000_000,
    "instructions_install_debit_round": 2_000_000_000,
    "checkpoint_rounds": 500,
    "checkpoint_seconds_min": 333,
    "checkpoint_seconds_max": 666,
    "state_chunk_bytes": MIB,
    "state_rehash_chunks": 10,
    "state_sync_version": 3,
    "overlay_files": 7,
    "overlay_shard_os_pages": 10_485_760,
    "overlay_shard_bytes": 40 * GIB,
    "overlay_ahead_rounds": 50,
    "overlay_range_bytes": 24,
    "overlay_os_page_count_bytes": 8,
    "overlay_version_bytes": 4,
    "certified_data_bytes": 32,
}

# Limits that did not exist, or are not known, before a day.
FIRST_DAYS = {
    "heap_wasm64_bytes": "2025-01-21",
    "snapshots": "2024-08-02",
    "subnet_reservation_threshold_bytes": "2023-07-14",
    "instructions_round": "2021-08-05",
    "instructions_slice_update": "2022-07-15",
    "update_slices": "2024-03-18",
    "install_slices": "2024-09-27",
    "instructions_slice_overrun": "2022-10-19",
    "stable_bytemap_bytes": "2024-11-06",
    "heap_delta_released_bytes": "2022-08-01",
    "heap_delta_canister_round_bytes": "2021-11-01",
    "heap_delta_canister_round_os_pages": "2022-03-01",
    "heap_delta_update_pause_rounds": "2024-07-08",
    "overlay_files": "2024-05-21",
    "overlay_shard_os_pages": "2024-05-21",
    "overlay_shard_bytes": "2024-05-21",
    "overlay_ahead_rounds": "2024-05-21",
    "overlay_range_bytes": "2024-05-21",
    "overlay_os_page_count_bytes": "2024-05-21",
    "overlay_version_bytes": "2024-05-21",
}

UNVERIFIED = {
    ("canister_memory_bytes", "2022-10-11"),
    ("canister_memory_bytes", "2022-11-16"),
    ("canister_memory_bytes", "2023-05-11"),
    ("canister_memory_bytes", "2023-09-06"),
    ("canister_memory_bytes", "2024-01-09"),
    ("canister_memory_bytes", "2024-11-06"),
    ("instructions_query", "2026-08-01"),
    ("instructions_round_execution", "2026-08-20"),
    ("instructions_round_canister", "2026-08-20"),
    ("instructions_round_finalization", "2026-08-20"),
}


def rows():
    return [(limit.name, row) for limit in LIMITS.values() for row in limit.history]


# The tables.


def test_every_published_number_has_a_limit():
    assert list(LIMITS) == NAMES


def test_every_limit_is_checked_against_a_number_written_out():
    assert {name for name, *_ in CHANGES} | set(CONSTANTS) == set(NAMES)


def test_every_change_is_checked_against_a_number_written_out():
    dated = {(name, str(row.since)) for name, row in rows() if row.since is not None}
    checked = {(name, day) for name, day, *_ in CHANGES} | set(FIRST_DAYS.items())
    assert dated == checked | UNVERIFIED


@pytest.mark.parametrize("limit", LIMITS.values(), ids=NAMES)
def test_a_history_ascends_and_only_its_first_value_may_be_undated(limit):
    first, *later = [row.since for row in limit.history]
    assert None not in later
    dated = later if first is None else [first, *later]
    assert all(earlier < day for earlier, day in pairwise(dated))


def test_a_limit_is_found_under_its_name_and_says_what_it_is():
    for name, limit in LIMITS.items():
        assert limit.name == name
        assert limit.unit
        assert limit.description.endswith(".")


def test_every_value_is_positive_and_says_where_it_was_read():
    for name, row in rows():
        assert row.value > 0, name
        assert row.source.strip(), name


def test_unverified_values_are_marked_and_say_why():
    unverified = [(name, row) for name, row in rows() if row.unverified]
    assert {(name, str(row.since)) for name, row in unverified} == UNVERIFIED
    assert all(row.note for _, row in unverified)


def test_the_table_of_limits_cannot_be_changed():
    with pytest.raises(TypeError):
        LIMITS["instructions_query"] = LIMITS["instructions_update"]


def test_units_and_limits_agree_on_the_sizes_of_memory_units():
    assert LIMITS["os_page_bytes"].at(LATEST_LIMITS_DATE).value == OS_PAGE_BYTES
    assert LIMITS["wasm_page_bytes"].at(LATEST_LIMITS_DATE).value == WASM_PAGE_BYTES
    assert LIMITS["wasm_page_os_pages"].at(LATEST_LIMITS_DATE).value == OS_PAGES_PER_WASM_PAGE


# Values at dates.


@pytest.mark.parametrize(("name", "day", "value", "value_before"), CHANGES)
def test_a_value_holds_from_its_day_on_and_not_the_day_before(name, day, value, value_before):
    first_day = date.fromisoformat(day)
    assert LIMITS[name].at(first_day).value == value
    assert LIMITS[name].at(first_day - DAY).value == value_before


@pytest.mark.parametrize(("name", "value"), CONSTANTS.items())
def test_a_limit_with_one_known_number_has_it(name, value):
    assert LIMITS[name].at(LATEST_LIMITS_DATE).value == value
    assert {row.value for row in LIMITS[name].history} == {value}


@pytest.mark.parametrize(("name", "day"), FIRST_DAYS.items())
def test_asking_before_the_first_known_day_names_that_day(name, day):
    first_day = date.fromisoformat(day)
    assert LIMITS[name].at(first_day).since == first_day
    with pytest.raises(SettingsError, match=rf"{name} .* {first_day - DAY}.*ask for {day}"):
        LIMITS[name].at(first_day - DAY)


def test_an_undated_first_value_holds_as_far_back_as_anyone_asks():
    undated = [limit for limit in LIMITS.values() if limit.name not in FIRST_DAYS]
    assert all(limit.at(date.min) == limit.history[0] for limit in undated)


@given(limit=st.sampled_from(list(LIMITS.values())), when=st.dates(min_value=date(2025, 2, 10)))
def test_a_value_has_begun_on_the_day_asked_for_and_the_next_one_has_not(limit, when):
    row = limit.at(when)
    later = limit.history[limit.history.index(row) + 1 :]
    assert row.since is None or row.since <= when
    assert all(when < other.since for other in later)


def test_the_time_of_day_does_not_matter():
    assert limits_at(datetime.fromisoformat("2024-07-08T00:00:00")) == limits_at("2024-07-08")
    late = datetime.fromisoformat("2024-07-07T23:59:59")
    assert LIMITS["stable_os_pages_dirty_update"].at(late).value == 1_048_576


@pytest.mark.parametrize(
    "history",
    [
        (),
        (DatedValue(date(2022, 1, 1), 1, "a"), DatedValue(None, 2, "a")),
        (DatedValue(None, 1, "a"), DatedValue(None, 2, "a")),
        (DatedValue(date(2022, 1, 2), 1, "a"), DatedValue(date(2022, 1, 1), 2, "a")),
        (DatedValue(date(2022, 1, 1), 1, "a"), DatedValue(date(2022, 1, 1), 2, "a")),
        (DatedValue(None, 1, ""),),
    ],
    ids=["empty", "undated last", "undated twice", "descending", "same day", "no source"],
)
def test_a_broken_history_cannot_be_made(history):
    with pytest.raises(AssertionError, match="x_bytes"):
        Limit("x_bytes", "bytes", "Anything.", history)


# What is enforced at a date.


def test_the_earliest_date_knows_no_limits_on_os_pages():
    limits = limits_at("2021-05-10")
    assert limits.date == EARLIEST_LIMITS_DATE == date(2021, 5, 10)
    assert limits.stable_memory_wasm_pages_max == 65_536
    assert limits.subnet_memory_bytes == 300 * GIB
    no_pages = (NO_LIMIT, NO_LIMIT)
    assert limits.update == MessageLimits(*no_pages, instructions_max=5_000_000_000)
    assert limits.query == MessageLimits(*no_pages, instructions_max=5_000_000_000)
    assert limits.upgrade == MessageLimits(*no_pages, instructions_max=200_000_000_000)


def test_the_latest_limits_are_those_of_the_newest_source():
    limits = latest_limits()
    assert limits.date == LATEST_LIMITS_DATE == date(2026, 8, 18)
    assert limits.stable_memory_wasm_pages_max == 8_192_000
    assert limits.subnet_memory_bytes == 2048 * GIB
    assert limits.update == MessageLimits(524_288, 524_288, 40_000_000_000)
    assert limits.query == MessageLimits(262_144, 262_144, 5_000_000_000)
    assert limits.upgrade == MessageLimits(2_097_152, 2_097_152, 300_000_000_000)


@pytest.mark.parametrize(
    ("day", "accessed", "dirty"),
    [
        ("2022-10-10", (None, None, None), (None, None, None)),
        ("2022-10-11", (None, None, None), (8, 8, 8)),
        ("2023-02-20", (None, None, None), (8, 8, 8)),
        ("2023-02-21", (8, 8, 8), (8, 8, 8)),
        ("2024-05-14", (8, 8, 8), (8, 8, 8)),
        ("2024-05-15", (8, 8, 8), (4, 8, 8)),
        ("2024-07-02", (8, 8, 8), (4, 8, 8)),
        ("2024-07-03", (8, 1, 8), (4, 1, 8)),
        ("2024-07-07", (8, 1, 8), (4, 1, 8)),
        ("2024-07-08", (2, 1, 8), (2, 1, 8)),
    ],
)
def test_limits_on_os_pages_by_date_for_update_query_upgrade_in_gib(day, accessed, dirty):
    def gib(os_pages):
        return None if os_pages == NO_LIMIT else os_pages * 4096 / GIB

    limits = limits_at(day)
    kinds = (limits.update, limits.query, limits.upgrade)
    assert tuple(gib(kind.os_pages_accessed_max) for kind in kinds) == accessed
    assert tuple(gib(kind.os_pages_dirty_max) for kind in kinds) == dirty


def test_a_date_and_its_iso_form_give_the_same_limits():
    assert limits_at(date(2024, 1, 9)) == limits_at("2024-01-09")


def test_later_dates_get_the_newest_values_under_their_own_date():
    later, latest = limits_at("2100-01-01"), latest_limits()
    assert later.date == date(2100, 1, 1)
    assert later.stable_memory_wasm_pages_max == latest.stable_memory_wasm_pages_max
    assert later.subnet_memory_bytes == latest.subnet_memory_bytes
    assert all(later.of(kind) == latest.of(kind) for kind in MESSAGE_KINDS)


@pytest.mark.parametrize("text", ["", "none", "2024", "2024-13-01", "2023-02-29", "08.07.2024"])
def test_what_is_no_date_is_refused_with_the_earliest_date(text):
    with pytest.raises(SettingsError, match=rf"'{text}' is not a date.*2021-05-10"):
        limits_at(text)


@pytest.mark.parametrize("when", ["2021-05-09", date(2021, 5, 9), date.min])
def test_a_day_before_the_sources_is_refused_with_the_earliest_date(when):
    with pytest.raises(SettingsError, match="earliest date is 2021-05-10"):
        limits_at(when)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("update", "update"),
        ("query", "query"),
        ("upgrade", "upgrade"),
        ("install", "upgrade"),
        ("reinstall", "upgrade"),
    ],
)
def test_every_kind_of_message_has_limits(kind, field):
    limits = latest_limits()
    assert limits.of(kind) is getattr(limits, field)
    assert kind in MESSAGE_KINDS


def test_an_unknown_kind_of_message_is_refused_with_the_known_ones():
    known = "update, query, upgrade, install, reinstall"
    with pytest.raises(SqlstableError, match=f"'tymer'; use one of {known}"):
        latest_limits().of("tymer")


# Units.


@given(offset=st.integers(0, 1 << 62), length=st.integers(1, 100_000))
def test_the_os_pages_spanned_are_those_of_the_first_to_the_last_byte(offset, length):
    spanned = os_pages_spanned(offset, length)
    assert spanned[0] == offset >> 12
    assert spanned[-1] == (offset + length - 1) >> 12


@given(offset=st.integers(0, 1 << 62))
def test_no_bytes_span_no_os_pages(offset):
    assert len(os_pages_spanned(offset, 0)) == 0


@pytest.mark.parametrize(
    ("size_bytes", "wasm_pages"),
    [(0, 0), (1, 1), (65_535, 1), (65_536, 1), (65_537, 2), (1 << 62, 1 << 46)],
)
def test_wasm_pages_needed_round_up(size_bytes, wasm_pages):
    assert wasm_pages_needed(size_bytes) == wasm_pages
