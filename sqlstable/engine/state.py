"""What a workload sets on SQLite's connection, apart from the database: taken, and given again.

A canister has one connection, in its heap, and the heap comes back after a query or a trap. Here
queries have a connection of their own, and a trap ends the one of the updates. So what lives in a
connection is taken after the messages that may have changed it, and given to those that follow:
the settings of PRAGMAs, the TEMP database, and what is attached. Rows of the main database never
belong to it.

Nothing here is recorded: call it inside of `DatabaseStore.unrecorded`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import apsw

from sqlstable.database.library import quoted

OWN_SETTINGS: Final = (
    *("encoding", "temp_store", "locking_mode", "analysis_limit", "automatic_index"),
    *("busy_timeout", "cell_size_check", "checkpoint_fullfsync", "count_changes"),
    *("empty_result_callbacks", "foreign_keys", "full_column_names", "fullfsync"),
    *("ignore_check_constraints", "legacy_alter_table", "query_only", "read_uncommitted"),
    *("recursive_triggers", "reverse_unordered_selects", "short_column_names", "trusted_schema"),
    *("wal_autocheckpoint", "writable_schema"),
)
"""PRAGMAs that set what belongs to the connection as a whole, in the order to set them in."""

SCHEMA_SETTINGS: Final = (
    *("cache_size", "cache_spill", "journal_mode", "journal_size_limit", "locking_mode"),
    *("max_page_count", "secure_delete", "synchronous"),
)
"""PRAGMAs that set what belongs to each database of the connection."""

LIKE: Final = "case_sensitive_like"
"""It cannot be asked for by its name, but ``LIKE`` tells."""

DEFERRED: Final = "defer_foreign_keys"
"""Ends with the next statement that reads; see `defer_foreign_keys`."""

PENDING_SETTINGS: Final = ("auto_vacuum", "page_size")
"""They wait for a new database, or for VACUUM, and meanwhile nobody tells what they are set to."""

_OF_WAL: Final = "wal_autocheckpoint"
"""No stable memory has a write-ahead log, and a canister's SQLite does not know the setting."""

TEMP: Final = "temp"

_LIKE_ASKED: Final = "SELECT 'a' LIKE 'A'"
_TEMP_CACHE_SIZE: Final = f"PRAGMA {TEMP}.cache_size"
_READ_ONCE_OF_SCHEMA: Final = "SELECT 1 FROM {}.sqlite_schema LIMIT 0"
_TOUCHES: Final = (
    "SELECT 1 FROM {0}.{1} LIMIT 0",
    # A full-text index looks at its configuration once more when it is first searched.
    "SELECT 1 FROM {0}.{1} WHERE {1} MATCH '\"a\"' LIMIT 1",
)
_VIRTUAL_TABLES: Final = (
    "SELECT name FROM {}.sqlite_schema WHERE type = 'table' AND rootpage = 0 ORDER BY rowid"
)

_Key = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class Attached:
    """One attached database."""

    name: str
    filename: str
    "Empty for one that lives in the heap."
    content: bytes | None = None
    "Its bytes, where it lives in the heap."


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """What a connection holds besides the database."""

    settings: Mapping[_Key, Any] | None = None
    "Values by schema, or None, and PRAGMA; None as long as they are what they were at first."
    pending: Mapping[str, str] = field(default_factory=dict)
    "What `PENDING_SETTINGS` were set to."
    temp: bytes | None = None
    "The TEMP database; None where there is none yet."
    temp_cache_size: int = 0
    "Of TEMP; 0 until its schema is read again, which anything may bring about."
    attached: tuple[Attached, ...] = ()

    @property
    def has_content(self) -> bool:
        """Whether it has bytes that statements may change without a word about it."""
        return self.temp is not None or any(one.content is not None for one in self.attached)

    @property
    def is_deferring(self) -> bool:
        """Whether it has a setting that any statement may end."""
        return self.settings is not None and bool(self.settings[None, DEFERRED])

    @property
    def has_names(self) -> bool:
        """Whether names may mean something that the main database alone does not know."""
        return bool(self.temp) or bool(self.attached)


NOTHING_SET: Final = ConnectionState()


class Setting(NamedTuple):
    """One setting, as a connection is asked for it and told it."""

    asks: str
    rows: list[tuple[Any, ...]]
    "What it is to answer."
    sets: str


def take_state(
    connection: apsw.Connection,
    before: ConnectionState,
    *,
    pending: Mapping[str, str],
    has_settings: bool,
) -> ConnectionState:
    """Return what a connection holds.

    Args:
        connection: It must be in no SQL transaction.
        before: What it held before.
        pending: What `PENDING_SETTINGS` were set to.
        has_settings: Whether settings may have changed; asking costs some 50 µs.
    """
    with without_authorizer(connection):
        # First, because other questions end it.
        deferred = _ask(connection, f"PRAGMA {DEFERRED}") if has_settings else 0
        temp, temp_cache_size = None, 0
        if is_temp_open(connection):
            temp_cache_size = _ask(connection, _TEMP_CACHE_SIZE)
            temp = _content(connection, TEMP)
        attached = tuple(
            Attached(name, filename, None if filename else _content(connection, name))
            for name, filename in attached_databases(connection)
        )
        settings = before.settings
        if has_settings:
            settings = _settings(connection)
            settings[None, DEFERRED] = deferred
    state = ConnectionState(settings, dict(pending), temp, temp_cache_size, attached)
    defer_foreign_keys(connection, state)
    return state


def give_state(
    connection: apsw.Connection,
    state: ConnectionState,
    *,
    without: tuple[str, ...] = (),
    pending: Mapping[str, str] | None = None,
) -> None:
    """Make a connection hold what ``state`` says, and nothing else.

    Args:
        connection: It must be in no SQL transaction; it may hold anything.
        state: What it is to hold.
        without: PRAGMAs that are left as they are.
        pending: What `PENDING_SETTINGS` were set to on this connection.
    """
    with without_authorizer(connection):
        settings = dict(state.settings or {})
        settings.pop((None, DEFERRED), None)
        for key in [key for key in settings if key[1] in without]:
            del settings[key]
        _set(connection, {key: settings.pop(key) for key in list(settings) if key[0] is None})
        _set_pending(connection, state.pending, pending or {})
        give_databases(connection, state)
        _set(connection, settings)
        _look(connection, _READ_ONCE_OF_SCHEMA.format("main"))


def defer_foreign_keys(connection: apsw.Connection, state: ConnectionState) -> None:
    """Set what the next statement that reads would end; so this comes last."""
    if state.is_deferring:
        with without_authorizer(connection):
            connection.pragma(DEFERRED, True)  # noqa: FBT003  a value


def give_databases(
    connection: apsw.Connection, state: ConnectionState, *, only_looks: bool = False
) -> None:
    """Attach what a state says, and fill what lives in the heap.

    Args:
        connection: Whatever it has attached otherwise goes.
        state: What it is to hold.
        only_looks: Whether the connection cannot write.
    """
    wanted = [(one.name, one.filename) for one in state.attached]
    found = attached_databases(connection)
    if found != wanted:
        for name, _ in found:
            _look(connection, f"DETACH {quoted(name)}")
        for name, filename in wanted:
            _look(connection, f"ATTACH ? AS {quoted(name)}", (filename or ":memory:",))
    for one in state.attached:
        if one.content is None or _content(connection, one.name) == one.content:
            continue
        if only_looks:
            # Nothing can be copied into what it has attached.
            connection.deserialize(one.name, one.content)
        else:
            _fill(connection, one.name, one.content)
    _give_temp(connection, state.temp, state.temp_cache_size)


def settings_of(state: ConnectionState) -> Iterator[Setting]:
    """Yield what PRAGMAs have set, for a connection that holds nothing else."""
    for (schema, name), value in (state.settings or {}).items():
        if value is None or schema not in (None, "main") or name in (DEFERRED, _OF_WAL):
            continue
        if name == LIKE:
            yield Setting(_LIKE_ASKED, [(value,)], f"PRAGMA {LIKE} = {0 if value else 1}")
            continue
        pragma = f"PRAGMA {'' if schema is None else 'main.'}{name}"
        yield Setting(pragma, [(value,)], f"{pragma} = {_spelled(name, value)}")


def connect_virtual_tables(connection: apsw.Connection) -> bool:
    """Let the virtual tables read their configuration; returns whether there are any."""
    has_any = False
    with without_authorizer(connection):
        names = [name for name, _ in attached_databases(connection)]
        schemas = ["main", *([TEMP] if is_temp_open(connection) else []), *names]
        for schema in map(quoted, schemas):
            for (name,) in _look(connection, _VIRTUAL_TABLES.format(schema)):
                has_any = True
                for touch in _TOUCHES:
                    # Without its module, damaged, or of another kind: whoever asks is told.
                    with suppress(Exception):
                        _look(connection, touch.format(schema, quoted(name)))
    return has_any


def attached_databases(connection: apsw.Connection) -> list[tuple[str, str]]:
    """Return name and file name of each attached database, in the order they are looked in."""
    names = connection.db_names()
    return [(name, connection.db_filename(name)) for name in names[2:]]


def is_temp_open(connection: apsw.Connection) -> bool:
    """Whether anything has asked for the TEMP database since the connection was opened."""
    return connection.db_filename(TEMP) is not None


# -- settings ---------------------------------------------------------------------------------


def _settings(connection: apsw.Connection) -> dict[_Key, Any]:
    values: dict[_Key, Any] = {
        (None, name): _ask(connection, f"PRAGMA {name}") for name in OWN_SETTINGS
    }
    values[None, LIKE] = _ask_like(connection)
    names = [name for name, _ in attached_databases(connection)]
    for schema in ("main", *([TEMP] if is_temp_open(connection) else []), *names):
        for name in SCHEMA_SETTINGS:
            values[schema, name] = _ask(connection, f"PRAGMA {quoted(schema)}.{name}")
    values.pop((TEMP, "cache_size"), None)
    return values


def _set(connection: apsw.Connection, settings: Mapping[_Key, Any]) -> None:
    """Set what is not so already."""
    for (schema, name), value in settings.items():
        if name == LIKE:
            if value is not None and _ask_like(connection) != value:
                _look(connection, f"PRAGMA {LIKE} = {0 if value else 1}")
            continue
        prefix = "" if schema is None else f"{quoted(schema)}."
        if value is None or _ask(connection, f"PRAGMA {prefix}{name}") == value:
            continue
        _look(connection, f"PRAGMA {prefix}{name} = {_spelled(name, value)}")


def _spelled(name: str, value: Any) -> str:  # noqa: ANN401  of whatever type it is
    """Return a value as a PRAGMA takes it."""
    if name == "secure_delete" and value not in (0, 1):
        return "fast"  # the word for what is told as 2
    return str(value) if isinstance(value, int) else quoted(str(value))


def _set_pending(
    connection: apsw.Connection, wanted: Mapping[str, str], found: Mapping[str, str]
) -> None:
    for name in PENDING_SETTINGS:
        if wanted.get(name) == found.get(name):
            continue
        now = _ask(connection, f"PRAGMA {name}")
        if name == "auto_vacuum" and now:
            # There it is no setting any more, but a write to the database's header.
            continue
        _look(connection, f"PRAGMA {name} = {quoted(str(wanted.get(name) or now))}")


def _ask_like(connection: apsw.Connection) -> int | None:
    """Return whether LIKE takes upper for lower case; None where somebody else's refuses."""
    try:
        value = _ask(connection, _LIKE_ASKED)
    except Exception:  # noqa: BLE001  a function of the user's may raise anything
        return None
    return value if isinstance(value, int) else None


# -- databases that live in the heap ------------------------------------------------------------


def _content(connection: apsw.Connection, name: str) -> bytes:
    """Return a database as bytes: copied below SQL, so that nothing on the connection moves."""
    keeper = apsw.Connection(":memory:")
    try:
        # A TEMP trigger on a table of main is no schema by itself, and need not be one.
        keeper.config(apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA, 1)
        _copy(connection, name, keeper, "main")
        return keeper.serialize("main") or b""
    finally:
        keeper.close()


def _fill(connection: apsw.Connection, name: str, content: bytes) -> None:
    keeper = apsw.Connection(":memory:")
    try:
        if content:
            keeper.deserialize("main", content)
        _copy(keeper, "main", connection, name)
    finally:
        keeper.close()


def _copy(source: apsw.Connection, name: str, target: apsw.Connection, target_name: str) -> None:
    with target.backup(target_name, source, name) as backup:
        while not backup.done:
            backup.step()


def _give_temp(connection: apsw.Connection, content: bytes | None, cache_size: int) -> None:
    is_open = is_temp_open(connection)
    if content is None:
        if is_open:
            # Another place for temporary things begins with an empty one.
            # The size of its cache outlives it, and is 0 where there was none.
            place = _ask(connection, "PRAGMA temp_store")
            _look(connection, f"{_TEMP_CACHE_SIZE} = 0")
            _look(connection, f"PRAGMA temp_store = {1 if place != 1 else 2}")
            _look(connection, f"PRAGMA temp_store = {place}")
            _expire_statements(connection)
        return
    if not is_open:
        _look(connection, _READ_ONCE_OF_SCHEMA.format(TEMP))
    if _content(connection, TEMP) != content:
        _fill(connection, TEMP, content)
    if _ask(connection, _TEMP_CACHE_SIZE) != cache_size:
        _look(connection, f"{_TEMP_CACHE_SIZE} = {cache_size}")


def _expire_statements(connection: apsw.Connection) -> None:
    """Let all statements be prepared anew.

    SQLite does so after its own settings, but not where TEMP has gone: a prepared PRAGMA that asks
    for its header would then look at nothing, and end the process.
    """
    _look(connection, f"PRAGMA automatic_index = {_ask(connection, 'PRAGMA automatic_index')}")


# -- asking -----------------------------------------------------------------------------------


@contextmanager
def without_authorizer(connection: apsw.Connection) -> Iterator[None]:
    """Keep an authorizer of the user's out of what is none of the workload's."""
    authorizer = connection.authorizer
    if authorizer is None:
        yield
        return
    connection.authorizer = None
    try:
        yield
    finally:
        connection.authorizer = authorizer


def _look(connection: apsw.Connection, sql: str, params: tuple[Any, ...] = ()) -> list[Any]:
    # Without the statement cache, whose other entries would be pushed out.
    return connection.cursor().execute(sql, params, can_cache=False).fetchall()


def _ask(connection: apsw.Connection, sql: str) -> Any:  # noqa: ANN401  an SQL value
    rows = _look(connection, sql)
    return rows[0][0] if rows else None
