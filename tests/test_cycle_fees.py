"""Prices in cycles: each formula against an example worked by hand, and against exact fractions."""

from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlstable.errors import SettingsError
from sqlstable.ic.cycle_fees import CycleFees, fee_rates
from sqlstable.ic.fee_tables import FEES, STORAGE
from sqlstable.ic.idle_burn import (
    RESERVATION_PERIOD_S,
    Allocations,
    IdleBurn,
    MemorySizes,
    SubnetMemory,
    freezing_limit,
    idle_burn,
    subnet_memory,
)
from sqlstable.ic.money import CURRENCIES, XDR_RATES, xdr_rate
from sqlstable.ic.units import GIB, MIB

TODAY, BEFORE = date(2026, 8, 18), date(2024, 10, 29)
NODES = st.integers(1, 60)
SIZES = st.integers(0, 600 * GIB)


# -- worked by hand --------------------------------------------------------------------------------


def test_an_update_of_today_and_of_before():
    fees = CycleFees.on(TODAY)
    # 5,000,000 + 2,120,000; with 64-bit addresses 5,000,000 + 2 * 2,120,000.
    assert fees.execution(instructions=2_120_000) == 7_120_000
    assert CycleFees.on(TODAY, is_64=True).execution(instructions=2_120_000) == 9_240_000
    # 590,000 + 0.4 * 2,120,000; a tenth of a cycle is dropped: 0.4 * 7 = 2.8.
    old = CycleFees.on(BEFORE)
    assert old.execution(instructions=2_120_000) == 1_438_000
    assert old.execution(instructions=7) == 590_002
    # (5,000,000 + 2,120,000) * 34 / 13 = 18,621,538.46.
    assert CycleFees.on(TODAY, node_count=34).execution(instructions=2_120_000) == 18_621_538


def test_what_arrives_and_what_is_sent():
    fees, large = CycleFees(), CycleFees(34)
    # 1,200,000 + 100 * 2,000; with 34 nodes each part for itself: 3,138,461 + 523,076.
    assert fees.ingress(message_bytes=100) == 1_400_000
    assert large.ingress(message_bytes=100) == 3_661_537
    # 260,000 + 100 * 1,000; with 34 nodes 680,000 + 261,538.
    assert fees.call_sending(payload_bytes=100) == 360_000
    assert large.call_sending(payload_bytes=100) == 941_538
    # Of a response: 1,000 a byte, and nothing else.
    assert fees.transmission(payload_bytes=7) == 7_000


def test_what_has_to_be_there_before_a_message_runs():
    # The limit of an update is 40 billion instructions; of an upgrade 300 billion.
    fees = CycleFees()
    assert fees.prepayment(instruction_limit=40_000_000_000) == 40_005_000_000
    assert fees.prepayment(instruction_limit=300_000_000_000) == 300_005_000_000
    # forum.dfinity.org 19345: 80 B cycles at the limit of 200 billion, and 0.4 each.
    old = CycleFees.on(BEFORE)
    assert old.prepayment(instruction_limit=200_000_000_000) == 80_000_590_000


def test_memory_for_a_month():
    # 127,000 * 2,592,000 s = 329,184,000,000; published as ~329 and ~861 billion.
    month = 30 * 86_400
    assert CycleFees().memory(size_bytes=GIB, seconds=month) == 329_184_000_000
    assert CycleFees(34).memory(size_bytes=GIB, seconds=month) == 860_942_769_230
    assert CycleFees().memory(size_bytes=GIB // 4, seconds=1) == 31_750
    # A byte: 127,000 * 10,000 / 2^30 = 1.18.
    assert CycleFees().memory(size_bytes=1, seconds=10_000) == 1
    # Newer source, as it is quoted: 317,500 a GiB and second, and 10,000 a second beside.
    quoted = CycleFees.on(TODAY, storage="quoted")
    assert quoted.memory(size_bytes=GIB, seconds=month) == 822_960_000_000
    assert quoted.presence(seconds=month) == 25_920_000_000
    assert CycleFees().presence(seconds=month) == 0


def test_compute_allocation():
    # 10,000,000 a percent and second: 5 % for a day.
    assert CycleFees().compute(percent=5, seconds=86_400) == 4_320_000_000_000
    assert CycleFees(34).compute(percent=1, seconds=1) == 26_153_846
    assert CycleFees.on(date(2022, 8, 18)).compute(percent=1, seconds=1) == 100_000
    assert CycleFees.on(date(2022, 8, 19)).compute(percent=1, seconds=1) == 10_000_000


def test_creation_by_date():
    assert CycleFees.on(date(2024, 11, 5)).canister_creation == 100_000_000_000
    assert CycleFees.on(date(2024, 11, 6)).canister_creation == 500_000_000_000


def test_snapshots():
    fees = CycleFees()
    # 2 billion instructions and one for each byte, as an execution: + 5,000,000.
    assert fees.snapshot(size_bytes=8 * MIB) == 2_013_388_608
    # Slices of 2,000,000 bytes: 12,000,000 each, and 11,000,000 for the third, of 1,000,000.
    assert fees.snapshot_transfer(size_bytes=5_000_000) == 2 * 12_000_000 + 11_000_000
    assert fees.snapshot_transfer(size_bytes=4_000_000) == 24_000_000
    assert fees.snapshot_transfer(size_bytes=0) == 0


def test_idle_burn_and_freezing():
    # Three GiB for a day, 127,000 * 86,400 * 3; 1 % compute: 864 billion.
    sizes = MemorySizes(stable=2 * GIB, heap=GIB // 2, module=GIB // 4, snapshots=GIB // 4)
    burn = idle_burn(CycleFees(), sizes, Allocations(compute_percent=1))
    assert burn == IdleBurn(memory=32_918_400_000, presence=0, compute=864_000_000_000)
    # For 30 days, of which 10 billion are set aside already.
    assert freezing_limit(burn, Allocations()) == 30 * burn.total
    assert freezing_limit(burn, Allocations(), reserved_cycles=10**10) == 30 * burn.total - 10**10
    assert freezing_limit(burn, Allocations(freezing_threshold_s=0)) == 0
    assert burn.days(2 * burn.total) == 2
    assert burn.days(-1) == 0


def test_reserved_memory_is_paid_for_whether_it_is_used_or_not():
    fees, used = CycleFees(), MemorySizes(stable=GIB)
    more = idle_burn(fees, used, Allocations(memory_bytes=4 * GIB))
    assert more.total == fees.memory(size_bytes=4 * GIB, seconds=86_400)
    # Since 2025-11 an allocation is no cap: what lies beyond it is paid for as well.
    assert idle_burn(fees, used, Allocations(memory_bytes=1)) == idle_burn(
        fees, used, Allocations()
    )


def test_nothing_held_burns_nothing():
    burn = idle_burn(CycleFees.on(TODAY, storage="quoted"), MemorySizes(), Allocations())
    assert (burn.total, burn.days(10)) == (0, None)


def test_reservation_by_hand():
    # 1,000 GiB in use: 250 above 750, of 1,298 to the 2,048. The last byte at 1,000 GiB reserves
    # 300,000,000 s * 250 / 1,298 = 57,781,201 s, all below it half of that on average: 28,890,600.
    # 250 GiB * 127,000 * 28,890,600 = 917,276,550,000,000.
    subnet, fees = subnet_memory(TODAY), CycleFees()
    assert subnet.reserved(fees, 1000 * GIB) == 917_276_550_000_000
    assert subnet.reserved(fees, 750 * GIB) == 0
    assert subnet.reservation(fees, usage_bytes=0, grown_bytes=1000 * GIB) == 917_276_550_000_000
    # Without a threshold on the day nothing is reserved.
    assert subnet_memory(date(2023, 7, 13)).reserved(fees, 400 * GIB) == 0
    assert subnet_memory(date(2023, 7, 14)).threshold_bytes == 450 * GIB


# -- against other ways to work it out ------------------------------------------------------------


@given(NODES, SIZES, st.integers(0, 10**7), st.sampled_from(sorted(STORAGE)))
def test_memory_against_fractions(nodes, size, seconds, storage):
    fees = CycleFees.on(TODAY, node_count=nodes, storage=storage)
    exact = Fraction(size * seconds * fees.rates.storage_gib_second * nodes, GIB * 13)
    # Rounded down before and behind the scaling.
    assert 0 <= exact - fees.memory(size_bytes=size, seconds=seconds) < 1 + Fraction(nodes, 13)


@given(NODES, st.integers(0, 10**13))
def test_prices_are_scaled_by_nodes_and_rounded_down(nodes, cycles):
    exact = Fraction(cycles * nodes, 13)
    assert 0 <= exact - CycleFees(nodes).scaled(cycles) < 1
    assert CycleFees(13).scaled(cycles) == cycles


@given(NODES, st.integers(0, 2048), st.integers(0, 2048))
def test_the_reservation_is_what_each_byte_reserves(nodes, low, high):
    """Against a numeric integration: each GiB at the price of its middle, which is exact."""
    low, high = sorted((low, high))
    subnet, fees = subnet_memory(TODAY), CycleFees(nodes)
    threshold, capacity = (it // GIB for it in (subnet.threshold_bytes, subnet.capacity_bytes))
    halves_above = sum(max(2 * start + 1 - 2 * threshold, 0) for start in range(low, high))
    share = Fraction(halves_above, 2 * (capacity - threshold))
    total = share * RESERVATION_PERIOD_S * fees.rates.storage_gib_second * Fraction(nodes, 13)
    found = subnet.reservation(fees, usage_bytes=low * GIB, grown_bytes=(high - low) * GIB)
    # Seconds are whole, and halved: at most 2 s of a whole subnet's storage at either end.
    assert abs(found - total) <= 4 * fees.memory(size_bytes=subnet.capacity_bytes, seconds=1) + 2


@given(st.integers(0, 1200), st.integers(0, 400), st.integers(0, 400))
def test_reservations_in_steps_come_to_one(usage, first, second):
    subnet, fees = subnet_memory(TODAY), CycleFees()
    usage_bytes, one, other = (it * GIB for it in (usage, first, second))
    steps = subnet.reservation(fees, usage_bytes=usage_bytes, grown_bytes=one)
    steps += subnet.reservation(fees, usage_bytes=usage_bytes + one, grown_bytes=other)
    assert steps == subnet.reservation(fees, usage_bytes=usage_bytes, grown_bytes=one + other)


@given(st.dates(date(2021, 5, 10), date(2027, 1, 1)), st.sampled_from(sorted(STORAGE)))
def test_prices_of_a_day_are_those_of_the_tables(day, storage):
    rates = fee_rates(day, storage=storage)
    for name in ("message", "ten_instructions", "canister_creation", "compute_percent_second"):
        rows = [row for row in FEES[name].history if row.since is None or row.since <= day]
        assert getattr(rates, name) == rows[-1].value


# -- money ----------------------------------------------------------------------------------------


def test_money_at_a_stated_rate():
    # 329.184 billion cycles are 0.329184 XDR; the documentation has ~$0.45.
    cycles = 329_184_000_000
    assert float(xdr_rate("usd").money(cycles)) == pytest.approx(0.44980689, abs=1e-8)
    assert xdr_rate("xdr").money(cycles) == Fraction("0.329184")
    assert float(xdr_rate("eur", 1.2).money(cycles)) == pytest.approx(0.3950208)
    assert xdr_rate("eur", 1.2).words == "1 T cycles = 1 XDR = 1.2 EUR (as given)"
    assert "2025-10-20" in xdr_rate("eur").words


def test_every_currency_has_a_rate_with_a_source():
    assert tuple(XDR_RATES) == CURRENCIES
    assert all(rate.source for rate in XDR_RATES.values())


# -- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CycleFees(0), "0 nodes; it has 1 or more"),
        (lambda: fee_rates(storage="cheap"), "'cheap'; they must be one of documented, quoted"),
        (lambda: MemorySizes(heap=-1), "heap was to have -1 bytes"),
        (lambda: Allocations(compute_percent=101), "101 %; it is 100 at most"),
        (lambda: Allocations(memory_bytes=-1), "memory bytes was to be -1"),
        (lambda: xdr_rate("gbp"), "'gbp'; it must be one of usd, eur, xdr"),
        (lambda: xdr_rate("eur", 0.0), "1 XDR was to be 0.0 EUR"),
        (lambda: xdr_rate("eur", float("nan")), "1 XDR was to be nan EUR"),
        (lambda: xdr_rate("xdr", 2.0), "leave the rate out"),
        (lambda: SubnetMemory(10, 5).reserved(CycleFees(), 11), "11 bytes in use; it has room"),
        (lambda: SubnetMemory(10, 5).reserved(CycleFees(), -1), "-1 bytes in use"),
    ],
)
def test_what_cannot_be(make, words):
    with pytest.raises(SettingsError, match=words):
        make()
