"""How long a database is whose header does not say.

SQLite before 3.7.0 left the number of SQLite pages alone, and some writers still do. SQLite goes by
the file's length then; memory is allocated by buckets, and what fills them up looks like SQLite
pages that nobody uses. So the last one that somebody does use counts.
"""

import apsw

from sqlstable.database.store import DatabaseStore
from sqlstable.errors import ImageError
from sqlstable.sqlite.freelist import Freelist
from sqlstable.sqlite.header import HEADER_BYTES, Header, parse_header, with_size


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
        free = _last_free(store, header)
    except (apsw.Error, ImageError):
        return None
    return max(int(used or 1), free) * header.page_size


def state_size(store: DatabaseStore) -> None:
    """Write the size into a header that lacks it, in the open message, as SQLite itself would."""
    if not store.states_size:
        store.write_direct(with_size(store.peek(HEADER_BYTES, 0), store.size_bytes), 0)


def _last_free(store: DatabaseStore, header: Header) -> int:
    """Return the highest number of a free SQLite page, 0 where there is none.

    Raises:
        ImageError: The freelist is damaged.
    """
    size = header.page_size
    freelist = Freelist()
    freelist.follow(
        header,
        store.size_bytes // size,
        lambda number: store.peek(size, (number - 1) * size),
        rewritten=[],
    )
    leaves = (int(each.max()) for each in freelist.leaves.values() if len(each))
    return max((*freelist.trunks, *leaves), default=0)
