"""What an execution finds and leaves, as it lies in the shim's memories.

Both memories begin with numbers, eight bytes each, in the order of `EnvironmentNumbers` and
`OutcomeNumbers`. Behind those of the environment come its bytes and lists, wherever the numbers
say; a list has rows of numbers. Both are described here only: the text of the shim gets its offsets
from here.
"""

import ctypes
import struct
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from typing import Final, NamedTuple

from sqlstable.ic.cycle_fees import KEY_NODE_COUNTS, REFERENCE_NODE_COUNT, CycleFees
from sqlstable.wasm.environment import Callback, Environment, OutgoingCall

MINTING_ID: Final = bytes.fromhex("00000000000000040101")
"""The canister that may mint cycles, rkp4c-7iaaa-aaaaa-aaaca-cai."""


class EnvironmentNumbers(NamedTuple):
    """The numbers of an environment; what is 128 bits wide has two.

    Those of one message come first, then those of the canister, which seldom change.
    """

    time_ns: int
    deadline_ns: int
    version: int
    status: int
    balance_low: int
    balance_high: int
    freezing_low: int
    freezing_high: int
    available_low: int
    available_high: int
    refunded_low: int
    refunded_high: int
    reject_code: int
    timer_ns: int
    is_answered: int
    call_room: int
    instructions_before: int
    has_certificate: int
    caller_at: int
    caller_size: int
    method_name_at: int
    method_name_size: int
    reject_message_at: int
    reject_message_size: int
    certificate_at: int
    certificate_size: int
    info_at: int
    info_size: int
    signer_at: int
    signer_size: int
    waiting_at: int
    waiting_count: int
    # Of the canister.
    self_at: int
    self_size: int
    subnet_at: int
    subnet_size: int
    root_key_at: int
    root_key_size: int
    usage_header_at: int
    usage_header_size: int
    controllers_at: int
    controller_count: int
    variables_at: int
    variable_count: int
    keys_at: int
    key_count: int
    node_count: int
    may_mint: int
    call_price: int
    call_base_price: int
    response_price: int
    creation_price: int
    # Of an HTTP outcall, which of five numbers is which.
    request_bytes: int
    http_roundtrip_time_ms: int
    raw_response_bytes: int
    transformed_response_bytes: int
    transform_instructions: int


class OutcomeNumbers(NamedTuple):
    """The numbers that an execution leaves."""

    balance_low: int
    balance_high: int
    available_low: int
    available_high: int
    accepted_low: int
    accepted_high: int
    burned_low: int
    burned_high: int
    minted_low: int
    minted_high: int
    timer_ns: int
    is_timer_set: int
    is_certified: int
    certified_size: int
    is_accepted: int
    call_count: int
    calls_end: int
    is_calling: int
    prints_from: int
    counter_from: int
    "What the counter was when the execution began."
    # Of a trap: numbers for its text, and how much of the text is the canister's own.
    first: int
    second: int
    third: int
    said_size: int


CERTIFIED_AT: Final = 512
CALLS_AT: Final = 1024
"""Where certified data and calls lie behind the numbers of an outcome."""

_USAGE: Final = (
    "request_bytes",
    "http_roundtrip_time_ms",
    "raw_response_bytes",
    "transformed_response_bytes",
    "transform_instructions",
)

_NUMBERS: Final = struct.Struct(f"<{len(EnvironmentNumbers._fields)}Q")
_OUTCOME: Final = struct.Struct(f"<{len(OutcomeNumbers._fields)}Q")
_CALL: Final = struct.Struct("<14Q")
_MASK: Final = (1 << 64) - 1
_NONE: Final = _MASK
"""Stands for no function, and no end to waiting."""

OUTCOME_BYTES: Final = _OUTCOME.size

assert OUTCOME_BYTES <= CERTIFIED_AT


def _hash(name: str) -> int:
    """Return the number of a field in Candid.

    Source:
        dfinity/candid spec/Candid.md, "Records".
    """
    value = 0
    for byte in name.encode():
        value = (value * 223 + byte) & 0xFFFFFFFF
    return value


def _leb(value: int) -> bytes:
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


@cache
def usage_header() -> tuple[bytes, dict[str, int]]:
    """Return how Candid begins the usage of an HTTP outcall, and the place of each number.

    Examples:
        >>> usage_header()[0][:7].hex()
        '4449444c016c05'
    """
    fields = sorted(_USAGE, key=_hash)
    types = b"".join(_leb(_hash(name)) + b"\x78" for name in fields)
    header = b"DIDL\x01\x6c\x05" + types + b"\x01\x00"
    return header, {name: index for index, name in enumerate(fields)}


class _Block:
    """Bytes behind the numbers, as they are put together."""

    def __init__(self, start: int) -> None:
        self.parts: list[bytes] = []
        self.end = start

    def put(self, data: bytes) -> tuple[int, int]:
        """Add bytes; returns where they begin, and how many they are."""
        start = self.end
        self.parts.append(data)
        self.end += len(data)
        return start, len(data)

    def put_rows(self, rows: list[tuple[int, ...]]) -> tuple[int, int]:
        """Add a list; returns where it begins, and how many rows it has."""
        numbers = [*chain.from_iterable(rows)]
        start, _ = self.put(struct.pack(f"<{len(numbers)}Q", *numbers))
        return start, len(rows)


@cache
def _keys() -> tuple[tuple[bytes, int], ...]:
    prices = ((name, CycleFees.signature(key_name=name)) for name in KEY_NODE_COUNTS)
    return tuple((name.encode(), price) for name, price in prices if price is not None)


@dataclass(frozen=True, slots=True)
class _Lasting:
    """What is the same for many messages of a canister."""

    numbers: tuple[int, ...]
    data: bytes
    "Behind all numbers."
    end: int


@lru_cache(maxsize=64)
def _lasting(
    self_id: bytes,
    subnet_id: bytes,
    root_key: bytes,
    controllers: tuple[bytes, ...],
    variables: tuple[tuple[str, str], ...],
    node_count: int,
    is_64: bool,  # noqa: FBT001  likewise
) -> _Lasting:
    block = _Block(_NUMBERS.size)
    put, put_rows = block.put, block.put_rows
    header, places = usage_header()
    named = sorted((name.encode(), value.encode()) for name, value in variables)
    fees, reference = CycleFees(node_count, is_64), CycleFees(REFERENCE_NODE_COUNT, is_64)
    numbers = (
        *(*put(self_id), *put(subnet_id), *put(root_key), *put(header)),
        *put_rows([put(one) for one in controllers]),
        *put_rows([(*put(name), *put(value)) for name, value in named]),
        *put_rows([(*put(name), price) for name, price in _keys()]),
        *(node_count, int(self_id == MINTING_ID)),
        *(reference.call_base + reference.response_prepayment, fees.call_base),
        *(fees.response_prepayment, fees.canister_creation),
        *(places[name] for name in _USAGE),
    )
    return _Lasting(numbers, b"".join(block.parts), block.end)


def packed(environment: Environment, *, is_64: bool) -> bytes:
    r"""Return an environment as it lies in the shim's memory.

    Args:
        environment: It.
        is_64: Whether the heap has 64-bit addresses, by which prices differ.

    Examples:
        >>> from sqlstable.ic.contexts import Context
        >>> packed(Environment(Context.QUERY, time_ns=5), is_64=False)[:8]
        b'\x05\x00\x00\x00\x00\x00\x00\x00'
    """
    it = environment
    lasting = _lasting(
        *(it.self_id, it.subnet_id, it.root_key, it.controllers, it.variables),
        *(it.node_count, is_64),
    )
    pack = _fleeting if len(it.reject_message) < _CACHED_BYTES else _fleeting.__wrapped__
    places, data = pack(
        *(lasting.end, it.caller, it.method_name, it.reject_message, it.certificate),
        *(it.caller_info, it.calls_outstanding),
    )
    numbers = (
        *(it.time_ns, it.deadline_ns, it.version, it.status),
        *(it.cycle_balance & _MASK, it.cycle_balance >> 64),
        *(it.freezing_limit & _MASK, it.freezing_limit >> 64),
        *(it.cycles_available & _MASK, it.cycles_available >> 64),
        *(it.cycles_refunded & _MASK, it.cycles_refunded >> 64),
        *(it.reject_code, it.timer_ns, it.is_answered, it.call_room, it.instructions_before),
        it.certificate is not None,
        *places,
        *lasting.numbers,
    )
    return b"".join((_NUMBERS.pack(*numbers), lasting.data, data))


_CACHED_BYTES: Final = 1 << 12


@lru_cache(maxsize=64)
def _fleeting(
    start: int,
    caller: bytes,
    method_name: str,
    reject_message: bytes,
    certificate: bytes | None,
    caller_info: tuple[bytes, bytes],
    calls_outstanding: tuple[tuple[bytes, int], ...],
) -> tuple[tuple[int, ...], bytes]:
    """Return the places of what may be another's for each message, and its bytes from a start."""
    block = _Block(start)
    put = block.put
    places = (
        *(*put(caller), *put(method_name.encode()), *put(reject_message)),
        *(*put(certificate or b""), *put(caller_info[0]), *put(caller_info[1])),
        *block.put_rows([(*put(callee), count) for callee, count in calls_outstanding]),
    )
    return places, b"".join(block.parts)


def outcome_at(address: int) -> OutcomeNumbers:
    """Return the numbers of an outcome that begins at an address of this process."""
    return OutcomeNumbers._make(_OUTCOME.unpack_from(_OutcomeBytes.from_address(address)))


_OutcomeBytes: Final = ctypes.c_char * OUTCOME_BYTES


def calls_of(data: bytes, count: int) -> tuple[OutgoingCall, ...]:
    """Return the calls of an outcome.

    Args:
        data: The outcome's bytes from `CALLS_AT` on.
        count: How many calls there are.
    """
    calls, place = [], 0
    for _ in range(count):
        numbers = _CALL.unpack_from(data, place)
        place += _CALL.size
        parts = []
        for size in numbers[:3]:
            parts.append(data[place : place + size])
            place += size
        calls.append(_call_of(numbers, *parts))
    return tuple(calls)


def _call_of(
    numbers: tuple[int, ...], callee: bytes, method: bytes, argument: bytes
) -> OutgoingCall:
    reply, reject, cleanup = (Callback(*numbers[place : place + 2]) for place in (3, 5, 7))
    low, high, timeout, fee, prepayment = numbers[9:]
    return OutgoingCall(
        callee=callee,
        method=method.decode(errors="replace"),
        on_reply=reply,
        on_reject=reject,
        on_cleanup=None if cleanup.table_index == _NONE else cleanup,
        argument=argument,
        cycles=low | high << 64,
        timeout_s=None if timeout == _NONE else timeout,
        fee=fee,
        prepayment=prepayment,
    )
