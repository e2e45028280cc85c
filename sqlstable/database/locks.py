"""SQLite's lock levels among the connections of one database file, within this process.

A table is looked at and changed by one thread at a time: in its turn, see `Messages.turn`.

Rules: any number may hold SHARED; one may hold RESERVED beside them; PENDING keeps new SHARED
locks out; EXCLUSIVE demands that nobody else holds anything. Source: sqlite.org/lockingv3.html.
"""

import apsw

from sqlstable.database.openfile import OpenFile

NONE = apsw.SQLITE_LOCK_NONE
SHARED = apsw.SQLITE_LOCK_SHARED
RESERVED = apsw.SQLITE_LOCK_RESERVED
PENDING = apsw.SQLITE_LOCK_PENDING
EXCLUSIVE = apsw.SQLITE_LOCK_EXCLUSIVE


class LockTable:
    """Who holds which lock on one file."""

    def __init__(self) -> None:
        self._levels: dict[OpenFile, int] = {}

    def lock(self, holder: OpenFile, level: int) -> None:
        """Raise ``holder``'s lock to ``level``.

        Raises:
            apsw.BusyError: Another connection's lock stands against it.
        """
        own = self._levels.get(holder, NONE)
        if level <= own:
            return
        highest = max((at for who, at in self._levels.items() if who is not holder), default=NONE)
        if level == SHARED:
            allowed = highest < PENDING
        elif level == RESERVED:
            allowed = highest < RESERVED
        else:
            allowed = highest == NONE
            if not allowed and own >= RESERVED:
                # A writer that waits for readers keeps new ones out.
                self._levels[holder] = PENDING
        if not allowed:
            raise apsw.BusyError(
                "another connection holds a lock on the database; end its transaction first"
            )
        self._levels[holder] = level

    def unlock(self, holder: OpenFile, level: int) -> None:
        """Lower ``holder``'s lock to ``level``."""
        if level == NONE:
            self._levels.pop(holder, None)
        elif self._levels.get(holder, NONE) > level:
            self._levels[holder] = level

    def is_held_by(self, holder: OpenFile) -> bool:
        """Whether ``holder`` has any lock."""
        return holder in self._levels

    def level(self, holder: OpenFile) -> int:
        """Return the lock that ``holder`` has."""
        return self._levels.get(holder, NONE)

    def is_reserved_by_others(self, connection_id: int | None) -> bool:
        """Whether another connection than this one holds RESERVED or more."""
        return any(
            level >= RESERVED and holder.connection_id != connection_id
            for holder, level in self._levels.items()
        )

    def is_held(self) -> bool:
        """Whether any connection holds a lock."""
        return bool(self._levels)

    def is_reserved(self) -> bool:
        """Whether any connection holds RESERVED or more."""
        return any(level >= RESERVED for level in self._levels.values())
