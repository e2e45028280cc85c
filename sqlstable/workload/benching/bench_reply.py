"""What a benchmark replies, read from Candid.

Source:
    dfinity/canbench canbench-rs/src/lib.rs BenchResult and Measurement @ f35fd97, 2026.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Final

from sqlstable.analysis.benching.measured_bench import BenchResult, Measurement
from sqlstable.candid.interface import decode_as
from sqlstable.errors import CandidError

EMPTY_ARGUMENT: Final = bytes.fromhex("4449444c00017f")
"""One value of type null, which is how ``canbench`` calls. Another argument is another heap.

Source: dfinity/canbench canbench-bin/src/lib.rs run_benchmark, ``Encode!(&())`` @ f35fd97, 2026.
"""

_NUMBERS: Final = "; ".join(f"{field.name} : opt nat64" for field in fields(Measurement))
_TYPE: Final = (
    f"(record {{ total : record {{ {_NUMBERS} }}; "
    f"scopes : opt vec record {{ text; record {{ {_NUMBERS} }} }} }})"
)
"""What is optional, releases before it was measured leave out; others may add what is not here."""


def read_reply(data: bytes) -> BenchResult:
    """Return what a benchmark measured.

    Raises:
        CandidError: It is no such reply.

    Examples:
        >>> from sqlstable.candid.interface import encode_as
        >>> total = {"calls": 1, "instructions": 207}
        >>> types = "(record { total : record { calls : nat64; instructions : nat64 } })"
        >>> read_reply(encode_as(types, {"total": total})).total.instructions
        207
    """
    values = decode_as(_TYPE, data)
    if not values:
        raise CandidError("there is no value in it")
    scopes = values[0]["scopes"] or ()
    return BenchResult(
        _measurement(values[0]["total"]), {name: _measurement(it) for name, it in scopes}
    )


def _measurement(value: Mapping[str, int | str | None]) -> Measurement:
    """Take numbers, which are texts beyond 2^53."""
    return Measurement(**{name: int(it) for name, it in value.items() if it is not None})
