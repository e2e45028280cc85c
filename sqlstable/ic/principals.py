"""Principals: who calls, who is called, who controls.

A principal is up to 29 bytes. Its text is those bytes behind their checksum, in base 32, in groups
of five characters.

Source:
    Interface specification, "Principals" and "Textual representation of principals"
    (dfinity/developer-docs docs/references/ic-interface-spec @ b58cf042, 2026-08-18).
"""

import base64
import binascii
from typing import Final

from sqlstable.errors import SettingsError

PRINCIPAL_BYTES_MAX: Final = 29
"""Bytes of a principal."""

ANONYMOUS_PRINCIPAL: Final = b"\x04"
"""A caller without an identity."""

MANAGEMENT: Final = b""
"""The management canister, which is no canister: ``aaaaa-aa``."""

LOCAL_CANISTERS_START: Final = 0x8000_0000_0010_0001
"""Number of the first canister of somebody who works with dfx: the one before is the wallet.

Source: dfinity/sdk, where it is ``bkyz2-fmaaa-aaaaa-qaaaq-cai``.
"""

_GROUP: Final = 5


def canister_id(index: int) -> bytes:
    """Return the principal of a canister of a local network, in the order of their creation.

    Args:
        index: From 0.

    Examples:
        >>> principal_text(canister_id(0)), principal_text(canister_id(1))
        ('bkyz2-fmaaa-aaaaa-qaaaq-cai', 'bd3sg-teaaa-aaaaa-qaaba-cai')
    """
    return (LOCAL_CANISTERS_START + index).to_bytes(8, "big") + b"\x01\x01"


def is_canister_id(principal: bytes) -> bool:
    """Return whether a principal is a canister's: eight bytes, and those that tell its class.

    Examples:
        >>> is_canister_id(canister_id(0)), is_canister_id(ANONYMOUS_PRINCIPAL)
        (True, False)
    """
    return len(principal) == 10 and principal.endswith(b"\x01\x01")


def principal_text(principal: bytes) -> str:
    """Return a principal as text.

    Examples:
        >>> principal_text(b""), principal_text(ANONYMOUS_PRINCIPAL)
        ('aaaaa-aa', '2vxsx-fae')
    """
    assert len(principal) <= PRINCIPAL_BYTES_MAX
    checked = binascii.crc32(principal).to_bytes(4, "big") + principal
    letters = base64.b32encode(checked).decode().rstrip("=").lower()
    return "-".join(letters[at : at + _GROUP] for at in range(0, len(letters), _GROUP))


def principal_of(text: str) -> bytes:
    """Return the principal of a text.

    Raises:
        SettingsError: It is none.

    Examples:
        >>> principal_of("aaaaa-aa"), principal_of("2vxsx-fae").hex()
        (b'', '04')
        >>> principal_of("2vxsx-faf")
        Traceback (most recent call last):
            ...
        sqlstable.errors.SettingsError: '2vxsx-faf' is no principal: its checksum is wrong; copy it again
    """  # noqa: E501  one line of output
    letters = text.replace("-", "").upper()
    try:
        checked = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except (binascii.Error, ValueError):
        raise SettingsError(
            f"{text!r} is no principal: these are letters a to z and digits 2 to 7 in groups of "
            "five, as in bkyz2-fmaaa-aaaaa-qaaaq-cai"
        ) from None
    principal = checked[4:]
    if len(checked) < 4 or len(principal) > PRINCIPAL_BYTES_MAX:
        raise SettingsError(
            f"{text!r} is no principal: it stands for {max(len(checked) - 4, 0)} bytes behind a "
            f"checksum of 4, and a principal has up to {PRINCIPAL_BYTES_MAX}; copy it again"
        )
    if binascii.crc32(principal).to_bytes(4, "big") != checked[:4]:
        raise SettingsError(f"{text!r} is no principal: its checksum is wrong; copy it again")
    if principal_text(principal) != text.lower():
        raise SettingsError(f"{text!r} is no principal; did you mean {principal_text(principal)}?")
    return principal


def self_authenticating(key: bytes) -> bytes:
    """Return the principal of a public key, given as DER.

    Examples:
        >>> len(self_authenticating(b"any")), self_authenticating(b"any")[-1]
        (29, 2)
    """
    from hashlib import sha224  # noqa: PLC0415  slow to import

    return sha224(key).digest() + b"\x02"
