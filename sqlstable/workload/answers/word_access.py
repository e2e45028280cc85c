"""Words of stable memory one by one, by the OS page, and as a direct load would cost.

Each way sums the 131,072 words of 1 MiB (``module/ready/words.wat``).
"""

from collections.abc import Iterator
from typing import Final

from sqlstable.module.canister_module import CanisterModule
from sqlstable.trace.model import Message

MODULE: Final = "@words.wasm"

WORDS: Final = 131_072
"""Words of 8 bytes, 1 MiB."""

WAYS: Final = {
    "by_word": "a call of stable64_read for each word",
    "by_os_page": "a call for each OS page, then loads from the copy in the heap",
    "direct": "loads only, of the heap: what direct loads of stable memory would cost",
}


def word_accesses() -> Iterator[tuple[str, Message]]:
    """Sum the words in each way, and yield its message.

    Examples:
        >>> [(way, message.stable.calls.read) for way, message in word_accesses()]
        [('by_word', 131072), ('by_os_page', 256), ('direct', 0)]
    """
    with CanisterModule(MODULE) as canister:
        for way in WAYS:
            yield way, canister.update(way).message
