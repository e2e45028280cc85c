"""An open database file as those below its handle have it: locks, messages and the store."""

from collections.abc import Callable

from sqlstable.database.doubt import Doubt
from sqlstable.database.hotpath import Read, Write
from sqlstable.database.quietfile import QuietFile


class OpenFile(QuietFile):
    """What is known of one open database file, by whomever.

    ``xRead``, ``xWrite`` and ``xFileSize`` are set by the store, which changes them as messages
    come and go: SQLite asks for all three with every message.
    """

    xRead: Read
    xWrite: Write
    xFileSize: Callable[[], int]

    connection_id: int | None = None
    "Address of SQLite's own connection object: the files of one connection have the same."
    is_dead = False
    "Whether the message that it was in has trapped, or its heap is gone."
    is_lost = False
    "Whether its heap is gone, in the middle of an SQL transaction."

    def __init__(self) -> None:
        self.doubt = Doubt()
