"""What the driver and the module say to each other: settings, requests, replies.

The byte layouts are drawn in ``module/source/execute.c`` and, for the settings, ``module.h``.
Values travel exactly: 64-bit integers, the bits of every double (a NaN becomes NULL, as SQLite has
it), text with NULs, empty blobs.

A reply is a stream of records that may come in chunks of any size; `ReplyReader` takes them as
they come.
"""

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import apsw

from sqlstable.database.settings import Settings
from sqlstable.database.values import encoded_sql
from sqlstable.errors import ModuleError, SettingsError, SqlError
from sqlstable.ic.units import INT64_MAX, INT64_MIN
from sqlstable.layout.layouts import LAYOUTS, layout_named

Params = Sequence[Any] | Mapping[str, Any] | None
Row = tuple[Any, ...]

NAME_BYTES_MAX: Final = 254
"""Longest name of a database, in bytes of UTF-8."""

SQLITE_OK: Final = 0

# Flags of a request.
_NAMES: Final = 1
_COLD: Final = 2
_DESCRIBE: Final = 4
_RANDOM: Final = 8
_COUNTERS: Final = 16

# Types of a value.
_NULL: Final = 0
_INTEGER: Final = 1
_FLOAT: Final = 2
_TEXT: Final = 3
_BLOB: Final = 4
_ZEROS: Final = 5

# Kinds of parameters.
_POSITIONAL: Final = 1
_NAMED: Final = 2

# Kinds of records.
_STATEMENT: Final = 1
_ROW: Final = 2
_END: Final = 3
_ERROR: Final = 4
_LOOP: Final = 5
_FINISH: Final = 6

_SETTINGS: Final = struct.Struct("<10Iq")
_HEAP_VERSION: Final = 3
_U32: Final = struct.Struct("<I")
_F64: Final = struct.Struct("<d")
_TYPED_I64: Final = struct.Struct("<Bq")
_TYPED_F64: Final = struct.Struct("<Bd")
_TYPED_U32: Final = struct.Struct("<BI")

_FIXED: Final = {
    1: struct.Struct("<q").unpack_from,
    2: struct.Struct("<d").unpack_from,
    6: struct.Struct("<b").unpack_from,
    7: struct.Struct("<h").unpack_from,
    8: struct.Struct("<i").unpack_from,
}
"""Readers of the values in replies that have a fixed size, by type."""

_FIXED_BYTES: Final = {1: 8, 2: 8, 6: 1, 7: 2, 8: 4}

_COUNTERS_COUNT: Final = 9
_NUMBER_BYTES_MAX: Final = 10

_UINT32_MAX: Final = (1 << 32) - 1

_GROWTHS: Final = {"bucket": 0, "wasm-page": 1}
_JOURNALS: Final = {"memory": 0, "off": 1, "delete": 2, "truncate": 3, "persist": 4}
_FILES_VERSION: Final = 4


# -- settings -------------------------------------------------------------------------------------


def encode_settings(
    settings: Settings,
    *,
    now_ms: int,
    name: str = "main.db",
    is_foreign: bool = False,
    files: bytes = b"",
) -> bytes:
    """Return the argument of ``canister_init`` and ``canister_post_upgrade``.

    Args:
        settings: How the database is opened.
        now_ms: ``settings.now`` in milliseconds since the Julian epoch, see
            `sqlstable.database.vfs.julian_milliseconds`; more than 0.
        name: What SQLite calls the database.
        is_foreign: Whether the database came from elsewhere, and is to be opened defensively.
        files: Those beside it in stable memory, see `sqlstable.engine.measured.further_files`.

    Raises:
        SettingsError: The module does not know the layout, or the name is too long.

    Examples:
        >>> len(encode_settings(Settings(), now_ms=1, name="app.db"))
        54
    """
    layout = layout_named(settings.layout)
    if layout.traits.module_settings is None:
        known = " or ".join(it.name for it in LAYOUTS if it.traits.module_settings is not None)
        raise SettingsError(
            f"the wasm engine does not know layout {layout.name}; choose the native engine, or "
            f"layout {known}: sqlstable extract and import carry a database over"
        )
    name_bytes = name.encode()
    if not 0 < len(name_bytes) <= NAME_BYTES_MAX or b"\0" in name_bytes:
        raise SettingsError(
            f"the name of the database has {len(name_bytes)} bytes; it can have 1 to "
            f"{NAME_BYTES_MAX}, and no NUL"
        )
    version, number = layout.traits.module_settings
    if files:
        version = _FILES_VERSION
    head = _SETTINGS.pack(
        version,
        settings.page_size,
        settings.cache_size,
        number,
        settings.bucket_pages,
        _GROWTHS[settings.growth],
        _JOURNALS[settings.journal_mode],
        int(settings.foreign_keys),
        int(is_foreign),
        len(name_bytes),
        now_ms,
    )
    return head + name_bytes + files


def encode_heap_settings(settings: Settings, *, now_ms: int, way: int, window: int) -> bytes:
    """Return the argument of the same calls for build ``heap``, whose database is in the heap.

    Args:
        settings: How the database is opened; layout and buckets mean nothing there.
        now_ms: As for `encode_settings`.
        way: How it is kept over an upgrade: 0 whole, 1 streamed.
        window: SQLite pages that are in the heap twice while it is streamed; 1 or more.

    Examples:
        >>> len(encode_heap_settings(Settings(), now_ms=1, way=0, window=16))
        55
    """
    assert window > 0
    raw = encode_settings(replace(settings, layout="raw"), now_ms=now_ms)
    version, page_size, cache_size, *_ = numbers = list(_SETTINGS.unpack_from(raw))
    numbers[:6] = [_HEAP_VERSION, page_size, cache_size, way, window, 0]
    assert version != _HEAP_VERSION
    return _SETTINGS.pack(*numbers) + raw[_SETTINGS.size :]


def random_key(seed: int, message_number: int) -> bytes:
    """Return what makes the module draw the numbers of ``Random(f"{seed}:{message_number}")``.

    Python seeds its generator from a text by reading the text and its SHA-512 as one big number;
    the module takes that number's bytes, lowest first.

    Source:
        ``random.Random.seed``, version 2, documented in the Python library reference.
    """
    text = f"{seed}:{message_number}".encode()
    return (text + hashlib.sha512(text).digest())[::-1]


# -- requests -------------------------------------------------------------------------------------


def encode_request(
    sql: str,
    params: Params = None,
    *,
    names: bool = False,
    cold: bool = False,
    describe: bool = False,
    counters: bool = False,
    key: bytes | None = None,
) -> bytes:
    """Return the request that runs SQL once.

    Args:
        sql: One or more statements.
        params: Values to bind. Positional ones are used up by the statements in their order.
        names: Whether the reply names the columns.
        cold: Whether SQLite's page cache is emptied first.
        describe: Whether to prepare the statements only, and say what is known of them.
        counters: Whether the reply has SQLite's counters; reading them is not free.
        key: The message's `random_key`; needed where SQL may ask for random numbers.

    Raises:
        SqlError: The SQL has a NUL, or a value is none that SQLite knows.
    """
    flags = _NAMES * names | _COLD * cold | _DESCRIBE * describe | _COUNTERS * counters
    parts = _head(sql, flags, key)
    if params is None:
        parts.append(_U32.pack(0))
    else:
        parts.append(_U32.pack(1))
        _append_row(parts, params)
    return b"".join(parts)


def encode_many(
    sql: str, rows: Iterable[Params], *, counters: bool = False, key: bytes | None = None
) -> bytes | None:
    """Return the request that runs one statement once per row, or None where there are no rows.

    Raises:
        SqlError: The SQL has a NUL, or a value is none that SQLite knows.
    """
    request, refused = encode_until(sql, rows, counters=counters, key=key)
    if refused is not None:
        raise refused
    return request


def encode_until(
    sql: str, rows: Iterable[Params], *, counters: bool, key: bytes | None
) -> tuple[bytes | None, Exception | None]:
    """Return the request for the rows before one that cannot be had or bound, and why it cannot.

    Args:
        sql: One statement.
        rows: Values to bind, for each run.
        counters: Whether the reply has SQLite's counters.
        key: The message's `random_key`.

    Raises:
        SqlError: The SQL has a NUL.
    """
    parts = [*_head(sql, _COUNTERS * counters, key), b""]
    at, end = len(parts) - 1, len(parts)
    count = 0
    refused = None
    try:
        for row in rows:
            assert row is not None, "bindable_rows refuses it"
            _append_row(parts, row)
            count += 1
            end = len(parts)
    except Exception as error:  # noqa: BLE001  whoever asked is told
        refused = error
    parts[at] = _U32.pack(count)
    return b"".join(parts[:end]) if count else None, refused


def _head(sql: str, flags: int, key: bytes | None) -> list[bytes]:
    text = encoded_sql(sql)
    if key is None:
        parts = [_U32.pack(flags)]
    else:
        parts = [_U32.pack(flags | _RANDOM), _U32.pack(len(key)), key]
    parts += (_U32.pack(len(text)), text)
    return parts


def _append_row(parts: list[bytes], params: Sequence[Any] | Mapping[str, Any]) -> None:
    # Tuples are most of them, and asking for a mapping costs more than all the rest.
    if type(params) is not tuple and isinstance(params, Mapping):
        parts.append(_TYPED_U32.pack(_NAMED, len(params)))
        for name, value in params.items():
            text = _utf8(name, "the name of a parameter")
            parts += (_U32.pack(len(text)), text)
            _append_value(parts, value, name)
    else:
        parts.append(_TYPED_U32.pack(_POSITIONAL, len(params)))
        for number, value in enumerate(params, 1):
            _append_value(parts, value, number)


def _append_value(parts: list[bytes], value: object, name: int | str) -> None:
    if value is None:
        parts.append(b"\0")
    elif isinstance(value, int):
        if not INT64_MIN <= value <= INT64_MAX:
            raise SqlError(f"parameter {name} is {value}; SQLite's integers have 64 bits")
        parts.append(_TYPED_I64.pack(_INTEGER, value))
    elif isinstance(value, float):
        parts.append(_TYPED_F64.pack(_FLOAT, value))
    elif isinstance(value, str):
        _append_bytes(parts, _TEXT, _utf8(value, f"parameter {name}"), name)
    elif isinstance(value, apsw.zeroblob):
        parts.append(_TYPED_I64.pack(_ZEROS, value.length()))
    else:
        try:
            data = bytes(memoryview(value))  # type: ignore[arg-type]  # the error says so
        except (TypeError, ValueError, BufferError):
            raise SqlError(
                f"parameter {name} is of type {type(value).__name__}; SQLite takes None, int, "
                "float, str and bytes"
            ) from None
        _append_bytes(parts, _BLOB, data, name)


def _append_bytes(parts: list[bytes], kind: int, data: bytes, name: int | str) -> None:
    if len(data) > _UINT32_MAX:
        raise SqlError(f"parameter {name} has {len(data)} bytes; a heap has 4 GiB")
    parts += (_TYPED_U32.pack(kind, len(data)), data)


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise SqlError(f"{what} is not to be had in UTF-8: {error}") from None


# -- replies --------------------------------------------------------------------------------------


class StatementFacts(NamedTuple):
    """What SQLite knows of a statement once it is prepared."""

    begin: int
    "Byte of the request's SQL, in UTF-8, at which the statement begins."
    end: int
    "Byte behind it."
    is_readonly: bool
    "Whether it leaves the database alone."
    explain: int
    "1 for EXPLAIN, 2 for EXPLAIN QUERY PLAN, else 0."
    parameter_count: int
    "Parameters that it has."
    column_count: int
    "Columns that its rows have; 0 where it returns none."
    column_names: tuple[str, ...] | None
    "Their names, if asked for."

    def cut_from(self, sql: str) -> str:
        """Return the statement's part of the request's SQL."""
        return sql.encode()[self.begin : self.end].decode()


class StatementCounters(NamedTuple):
    """SQLite's counters of one statement, and of the SQL that virtual tables ran for it."""

    vm_steps: int
    fullscan_steps: int
    sorts: int
    autoindex_rows: int
    reprepares: int
    cache_hits: int
    cache_misses: int
    cache_writes: int
    cache_spills: int


class Loop(NamedTuple):
    """One loop of a statement's plan; from the profile build only."""

    loops: int
    "How often it began; -1 where SQLite does not count."
    visits: int
    "Rows that it visited; -1 where SQLite does not count."
    estimated_rows: float
    "Rows for each beginning that the planner expected."
    select_id: int
    "Number by which inner loops name this one, as in EXPLAIN QUERY PLAN."
    parent_id: int
    "``select_id`` of the outer one, or 0."
    name: str
    "Table or index."
    plan: str
    "The line of EXPLAIN QUERY PLAN."


class Failure(NamedTuple):
    """Why a statement failed."""

    code: int
    "SQLite's primary result code."
    extended_code: int
    "SQLite's extended result code."
    offset: int
    "Byte of the request's SQL that the message is about, or -1."
    message: str
    "SQLite's message, or ours where SQLite's says less."


@dataclass(slots=True)
class StatementResult:
    """What one statement answered."""

    facts: StatementFacts
    rows: list[Row] = field(default_factory=list)
    runs: int = 0
    "How often it ran: once, or once for each row of parameters."
    changes: int = 0
    "Rows that its last run changed."
    last_rowid: int = 0
    counters: StatementCounters | None = None
    loops: list[Loop] = field(default_factory=list)
    is_ended: bool = False
    "False where it was only described."


class Finish(NamedTuple):
    """How the connection was left."""

    is_autocommit: bool
    "Whether no SQL transaction is open."
    txn_state: int
    "0 none, 1 reading, 2 writing; the highest of all databases."
    open_statements: int
    "Statements in the middle of their rows."
    total_changes: int
    "Rows changed since the heap began."
    database_bytes: int
    "Bytes of the database file."
    heap_bytes: int
    "Bytes of the heap that SQLite holds; 0 in the lean build, which does not count them."


@dataclass(slots=True)
class Answer:
    """All records of one reply."""

    statements: list[StatementResult] = field(default_factory=list)
    failure: Failure | None = None
    "Why the last statement failed, or the one after it could not be prepared."
    finish: Finish | None = None

    @property
    def rows(self) -> list[Row]:
        """All rows of all statements."""
        return [row for statement in self.statements for row in statement.rows]


class _IncompleteError(Exception):
    """The record is not all there yet."""

    def __init__(self, needed: int) -> None:
        """Tell up to which byte there must be data at least."""
        super().__init__(needed)
        self.needed = needed


class ReplyReader:
    """Decodes a reply that comes in chunks.

    Examples:
        >>> reader = ReplyReader()
        >>> record = bytes([6, 1, 0, 3, 0x80, 0x40, 0])
        >>> reader.feed(record[:5])
        >>> reader.feed(record[5:])
        >>> reader.finish().finish.database_bytes
        8192
    """

    def __init__(self) -> None:
        self.reply = Answer()
        self._data = b""
        self._chunks: list[bytes] = []
        self._received = 0
        self._needed = 1
        self._at = 0
        "Where the next record begins in what is being decoded."

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next chunk, of any size.

        Raises:
            ModuleError: It is no reply.
            SqlError: A text is not UTF-8.
        """
        self._chunks.append(bytes(chunk))
        self._received += len(chunk)
        if self._received < self._needed:
            return
        data = b"".join((self._data, *self._chunks))
        self._chunks.clear()
        self._at, self._needed = 0, 1
        try:
            self.records(data)
        except _IncompleteError as missing:
            self._needed = missing.needed - self._at
        except (IndexError, struct.error):
            # The data end inside of a number.
            self._needed = len(data) - self._at + 1
        self._data = data[self._at :]
        self._received = len(self._data)

    def finish(self) -> Answer:
        """Return the whole reply.

        Raises:
            ModuleError: It is cut off.
        """
        if self._received or self.reply.finish is None:
            raise ModuleError(
                f"the reply is cut off: its end is missing, and {self._received} bytes are left"
            )
        return self.reply

    # -- records: each method decodes one from byte ``at`` on, and returns where it ends ----------

    def records(self, data: bytes) -> None:
        """Decode all records of ``data``."""
        reply, size = self.reply, len(data)
        while (at := self._at) < size:
            kind = data[at]
            if reply.finish is not None:
                raise ModuleError(f"a record of kind {kind} follows the last one")
            if kind in _OF_STATEMENT and not reply.statements:
                raise ModuleError(f"a record of kind {kind} comes before any statement")
            if kind == _ROW:
                statement = reply.statements[-1]
                row, self._at = _row(
                    data, at + 1, statement.facts.column_count, len(statement.rows)
                )
                statement.rows.append(row)
                continue
            decode = _DECODERS.get(kind)
            if decode is None:
                raise ModuleError(f"the reply has a record of kind {kind}")
            self._at = decode(self, data, at + 1)

    def _begin_statement(self, data: bytes, at: int) -> int:
        (begin, end, parameters, columns), at = _numbers(data, at, 4)
        bits, at = data[at], at + 1
        names = None
        if bits & 8:
            names, at = _texts(data, at, columns)
        facts = StatementFacts(
            begin, end, bool(bits & 1), bits >> 1 & 3, parameters, columns, names
        )
        self.reply.statements.append(StatementResult(facts))
        return at

    def _end_statement(self, data: bytes, at: int) -> int:
        statement = self.reply.statements[-1]
        (runs, rows, changes, last_rowid), at = _numbers(data, at, 4)
        is_counted, at = data[at], at + 1
        if is_counted:
            counters, at = _numbers(data, at, _COUNTERS_COUNT)
            statement.counters = StatementCounters(*counters)
        if rows != len(statement.rows):
            raise ModuleError(f"{rows} rows were sent, and {len(statement.rows)} arrived")
        statement.runs = runs
        statement.changes = changes >> 1 ^ -(changes & 1)
        statement.last_rowid = last_rowid >> 1 ^ -(last_rowid & 1)
        statement.is_ended = True
        return at

    def _take_failure(self, data: bytes, at: int) -> int:
        (code, extended_code, offset), at = _numbers(data, at, 3)
        (message,), at = _texts(data, at, 1)
        self.reply.failure = Failure(code, extended_code, offset - 1, message)
        return at

    def _take_loop(self, data: bytes, at: int) -> int:
        statement = self.reply.statements[-1]
        (loops, visits), at = _numbers(data, at, 2)
        (estimated_rows,) = _F64.unpack_from(data, at)
        (select_id, parent_id), at = _numbers(data, at + 8, 2)
        (name, plan), at = _texts(data, at, 2)
        statement.loops.append(
            Loop(_signed(loops), _signed(visits), estimated_rows, select_id, parent_id, name, plan)
        )
        return at

    def _take_finish(self, data: bytes, at: int) -> int:
        bits = data[at]
        numbers, at = _numbers(data, at + 1, 4)
        self.reply.finish = Finish(bool(bits & 1), bits >> 1, *numbers)
        return at


_OF_STATEMENT: Final = (_ROW, _END, _LOOP)

_DECODERS: Final = {
    _STATEMENT: ReplyReader._begin_statement,  # noqa: SLF001  a table of its own methods
    _END: ReplyReader._end_statement,  # noqa: SLF001
    _ERROR: ReplyReader._take_failure,  # noqa: SLF001
    _LOOP: ReplyReader._take_loop,  # noqa: SLF001
    _FINISH: ReplyReader._take_finish,  # noqa: SLF001
}


def _signed(number: int) -> int:
    return number >> 1 ^ -(number & 1)


def _numbers(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    """Decode numbers of seven bits a byte; returns them and where they end."""
    numbers = []
    for _ in range(count):
        number = data[at]
        at += 1
        shift = 0
        while number >> shift > 0x7F:
            shift += 7
            if shift == 7 * _NUMBER_BYTES_MAX:
                raise ModuleError(f"a number of the reply has more than {_NUMBER_BYTES_MAX} bytes")
            number += (data[at] << shift) - (1 << shift)
            at += 1
        numbers.append(number)
    return numbers, at


def _texts(data: bytes, at: int, count: int) -> tuple[tuple[str, ...], int]:
    """Decode texts, each behind its length."""
    texts = []
    for _ in range(count):
        (length,), at = _numbers(data, at, 1)
        end = at + length
        if end > len(data):
            raise _IncompleteError(end)
        # SQLite's messages quote the user's text, which may be no UTF-8.
        texts.append(data[at:end].decode(errors="replace"))
        at = end
    return tuple(texts), at


def _row(data: bytes, at: int, column_count: int, row_index: int) -> tuple[Row, int]:
    """Decode one row; returns it and where it ends.

    Written out, because a result may have millions of values.
    """
    values: list[Any] = []
    append = values.append
    for column in range(column_count):
        kind = data[at]
        at += 1
        if kind in (_TEXT, _BLOB):
            length = data[at]
            at += 1
            if length > 0x7F:
                (length,), at = _numbers(data, at - 1, 1)
            end = at + length
            if end > len(data):
                raise _IncompleteError(end)
            content = data[at:end]
            append(content if kind == _BLOB else _decoded(content, row_index, column))
            at = end
        elif kind == _NULL:
            append(None)
        elif kind in _FIXED:
            append(_FIXED[kind](data, at)[0])
            at += _FIXED_BYTES[kind]
        else:
            raise ModuleError(f"row {row_index} has a value of type {kind}")
    return tuple(values), at


def _decoded(content: bytes, row_index: int, column: int) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise SqlError(
            f"the text in column {column} of row {row_index} is not UTF-8: {error}; "
            "ask for CAST(… AS BLOB)"
        ) from None


def decode_reply(chunks: Iterable[bytes]) -> Answer:
    """Return the reply that ``chunks`` hold.

    Raises:
        ModuleError: They hold none.
        SqlError: A text is not UTF-8.
    """
    reader = ReplyReader()
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish()


def decode_whole(data: bytes) -> Answer:
    """Return the reply that ``data`` holds whole: as `decode_reply`, and quicker where it is small.

    Raises:
        ModuleError: It holds none.
        SqlError: A text is not UTF-8.
    """
    reader = ReplyReader()
    try:
        reader.records(data)
    except (_IncompleteError, IndexError, struct.error):
        # Cut off; the reader of chunks knows how to say so.
        return decode_reply((data,))
    return reader.reply if reader.reply.finish is not None else decode_reply((data,))
