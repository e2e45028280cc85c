"""Certificates that queries present: of the right form, and signed by nobody.

A certificate is CBOR: a tree that holds the canister's certified data and the time, and a
signature. The one here has all of it and zeros for the signature, so that code which hands it on
runs as it does in a network; who checks it finds that it is not the Internet Computer's.

Source:
    Interface specification, "Certification" and "Encoding of certificates"
    (docs/references/ic-interface-spec/certification.md, developer-docs @ b58cf042).
"""

from typing import Final

_SIGNATURE_BYTES: Final = 48
_BYTES: Final = 2 << 5
_TEXT: Final = 3 << 5
_ARRAY: Final = 4 << 5
_MAP: Final = 5 << 5
_SELF_DESCRIBED: Final = b"\xd9\xd9\xf7"


def data_certificate(canister: bytes, certified_data: bytes, time_ns: int) -> bytes:
    r"""Return the certificate of a canister's certified data.

    Examples:
        >>> data_certificate(b"\x01", b"root", 0)[:8].hex()
        'd9d9f7a264747265'
    """
    data = _labeled(b"certified_data", _leaf(certified_data))
    tree = _fork(
        _labeled(b"canister", _labeled(canister, data)), _labeled(b"time", _leaf(_leb128(time_ns)))
    )
    signature = _head(_TEXT, 9) + b"signature" + _bytes(bytes(_SIGNATURE_BYTES))
    return _SELF_DESCRIBED + _head(_MAP, 2) + _head(_TEXT, 4) + b"tree" + tree + signature


def _fork(left: bytes, right: bytes) -> bytes:
    return _head(_ARRAY, 3) + b"\x01" + left + right


def _labeled(label: bytes, tree: bytes) -> bytes:
    return _head(_ARRAY, 3) + b"\x02" + _bytes(label) + tree


def _leaf(data: bytes) -> bytes:
    return _head(_ARRAY, 2) + b"\x03" + _bytes(data)


def _bytes(data: bytes) -> bytes:
    return _head(_BYTES, len(data)) + data


def _head(kind: int, size: int) -> bytes:
    return bytes([kind | size]) if size < 24 else bytes([kind | 24, size])


def _leb128(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
