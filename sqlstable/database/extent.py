"""How long a database is whose header does not say.

SQLite before 3.7.0 left the number of SQLite pages alone, and some writers still do. SQLite goes by
the file's length then; memory is allocated by buckets, and what fills them up looks like SQLite
pages that nobody uses. So the last one that somebody does use counts.
"""

import struct
from typing import Final

import apsw

from sqlstable.database.store import DatabaseStore
from sqlstable.sqlite.header import HEADER_BYTES, parse_header, with_size

_FIRST_TRUNK: Final = slice(32, 36)
"""Where the header has the first trunk of the freelist; sqlite.org/fileformat.html, section 1.5."""


def exact_size_bytes(store: DatabaseStore, connection: apsw.Connection) -> int | None:
    """Return the size of a database by what is in it; None where it is damaged.

    Args:
        store: The database.
        connection: A look at it.
    """
    header = parse_header(store.peek(HEADER_BYTES, 0))
    assert header is not None
    try:
        used = connection.execute("SELECT max(pageno) FROM dbstat").get
        free = _last_free(store, header.page_size)
    except apsw.Error:
        return None
    if free is None:
        return None
    return max(int(used or 1), free) * header.page_size


def state_size(store: DatabaseStore) -> None:
    """Write the size into a header that lacks it, in the open message, as SQLite itself would."""
    if not store.states_size:
        store.write_direct(with_size(store.peek(HEADER_BYTES, 0), store.size_bytes), 0)


def _last_free(store: DatabaseStore, page_size: int) -> int | None:
    """Return the highest number of a free SQLite page, 0 where there is none; None if damaged."""
    last = 0
    seen: set[int] = set()
    trunk = int.from_bytes(store.peek(HEADER_BYTES, 0)[_FIRST_TRUNK], "big")
    while trunk:
        data = store.peek(page_size, (trunk - 1) * page_size)
        if trunk in seen or len(data) < page_size:
            return None
        seen.add(trunk)
        last = max(last, trunk)
        trunk, count = struct.unpack_from(">II", data)
        if count > page_size // 4 - 2:
            return None
        last = max(last, *struct.unpack_from(f">{count}I", data, 8), 0)
    return last
