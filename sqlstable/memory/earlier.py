"""What earlier parts of a message wrote, under the part that runs.

A step of a canister's life consists of parts, each with marks and limits of its own on OS pages,
and commits whole. So the marks go when a part ends, and what they stood for is put here: over the
committed bytes, which do not change before the message does.
"""

from sqlstable.ic.units import OS_PAGE_BYTES, os_pages_spanned
from sqlstable.memory.backing import Backing, Bytes


class EarlierParts:
    """Committed bytes, with those OS pages over them that earlier parts of a message wrote.

    Args:
        below: Keeps the committed bytes.
    """

    flat: memoryview | None = None

    def __init__(self, below: Backing) -> None:
        self.below = below
        self.pages: dict[int, bytes] = {}
        "OS pages by their index."
        self.accessed: set[int] = set()
        "All that were accessed, those included."

    def read(self, address: int, length: int) -> Bytes:
        """Return bytes as the parts before have left them."""
        found = [page for page in os_pages_spanned(address, length) if page in self.pages]
        if not found:
            return self.below.read(address, length)
        result = bytearray(self.below.read(address, length))
        for os_page in found:
            start = os_page * OS_PAGE_BYTES
            low, high = max(start, address), min(start + OS_PAGE_BYTES, address + length)
            result[low - address : high - address] = self.pages[os_page][low - start : high - start]
        return bytes(result)

    def write(self, address: int, data: Bytes) -> None:
        """Refuse: a message's writes are staged."""
        raise AssertionError(address, len(data))

    def discard(self, address: int, length: int) -> None:
        """Refuse, likewise."""
        raise AssertionError(address, length)

    def empty(self) -> Backing:
        """Return a new backing of the kind that is below."""
        return self.below.empty()

    def close(self) -> None:
        """Give back what is below."""
        self.below.close()
