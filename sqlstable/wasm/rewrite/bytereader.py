"""Bytes of a module read one after the other, with an error that says where; and written back.

Every number that counts something is compared with what is left of its section before anything is
made of it: a damaged module costs no more work than its length.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from sqlstable.errors import ModuleError

_Item = TypeVar("_Item")

_U32_BYTES_MAX: Final = 5
_S64_BYTES_MAX: Final = 10


def unsigned(value: int) -> bytes:
    """Return ``value`` as an unsigned LEB128 number.

    Examples:
        >>> unsigned(624485).hex()
        'e58e26'
    """
    assert value >= 0
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def signed(value: int) -> bytes:
    """Return ``value`` as a signed LEB128 number.

    Examples:
        >>> signed(-123456).hex(), signed(64).hex()
        ('c0bb78', 'c000')
    """
    result = bytearray()
    while not -64 <= value < 64:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value & 0x7F)
    return bytes(result)


def name(text: str) -> bytes:
    r"""Return a string as a module holds it: its length, then UTF-8.

    Examples:
        >>> name("ic0")
        b'\x03ic0'
    """
    data = text.encode()
    return unsigned(len(data)) + data


def vector(items: list[bytes]) -> bytes:
    """Return items behind their count."""
    return unsigned(len(items)) + b"".join(items)


class Reader:
    r"""A position in a module's bytes, inside one section.

    Args:
        data: The whole module.
        start: First byte that belongs to the section.
        stop: Byte behind the section.
        section: Its name, for errors.

    Examples:
        >>> reader = Reader(b"\xe5\x8e\x26\x02hi", 0, 6, "example")
        >>> reader.u32(), reader.name()
        (624485, 'hi')
    """

    def __init__(self, data: bytes, start: int, stop: int, section: str) -> None:
        """Begin at ``start``."""
        self.data = data
        self.position = start
        self.stop = stop
        self.section = section

    def error(self, what: str, position: int | None = None) -> ModuleError:
        """Return an error that says where."""
        place = self.position if position is None else position
        return ModuleError(f"byte {place}, {self.section}: {what}")

    def unsupported(self, what: str, position: int | None = None) -> ModuleError:
        """Return an error about a feature that is not supported."""
        return self.error(f"{what} is not supported; build the module without it", position)

    def take(self, length: int) -> bytes:
        """Return the next ``length`` bytes."""
        stop = self.position + length
        if stop > self.stop:
            raise self.error(
                f"{length} bytes are needed and {self.stop - self.position} are left; "
                "the module is truncated or damaged"
            )
        taken = self.data[self.position : stop]
        self.position = stop
        return taken

    def byte(self) -> int:
        """Return the next byte."""
        if self.position >= self.stop:
            raise self.error("a byte is needed and none is left; the module is truncated")
        value = self.data[self.position]
        self.position += 1
        return value

    def u32(self) -> int:
        """Return an unsigned number below 2^32."""
        return self._unsigned(32, _U32_BYTES_MAX)

    def u64(self) -> int:
        """Return an unsigned number below 2^64."""
        return self._unsigned(64, _S64_BYTES_MAX)

    def _unsigned(self, bits: int, bytes_max: int) -> int:
        start = self.position
        value = 0
        for index in range(bytes_max):
            byte = self.byte()
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if value >> bits:
                    break
                return value
        raise self.error(f"a number there has more than {bits} bits; the module is damaged", start)

    def signed(self, bits: int) -> int:
        """Return a signed number of at most ``bits`` bits."""
        start = self.position
        value = 0
        for index in range(_S64_BYTES_MAX):
            byte = self.byte()
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if byte & 0x40:
                    value -= 1 << (7 * index + 7)
                if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
                    break
                return value
        raise self.error(f"a number there has more than {bits} bits; the module is damaged", start)

    def name(self) -> str:
        """Return a string."""
        start = self.position
        data = self.take(self.u32())
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self.error("a name there is not UTF-8; the module is damaged", start) from None

    def count(self) -> int:
        """Return how many items follow, each of which takes a byte or more."""
        start = self.position
        count = self.u32()
        if count > self.stop - self.position:
            raise self.error(
                f"{count} items cannot fit in the {self.stop - self.position} bytes left; "
                "the module is truncated or damaged",
                start,
            )
        return count

    def vector(self, read: Callable[[], _Item]) -> tuple[_Item, ...]:
        """Return a vector's items, each read by ``read``."""
        return tuple(read() for _ in range(self.count()))

    def finish(self) -> None:
        """Insist that the section is used up."""
        if self.position != self.stop:
            raise self.error(
                f"{self.stop - self.position} bytes are left over; the module is damaged"
            )
