"""The schema of a file, whatever it is: SQL, a database, an image, a snapshot.

A file that begins as a SQLite database does, or whose size is whole Wasm pages and which begins as
an image, is opened as one and only read; what its log holds counts, as for `Canister`. Everything
else is taken for SQL.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import apsw

from sqlstable.database.checking import check, prepare
from sqlstable.database.foreign import SourceOptions, open_source
from sqlstable.database.looking import LookingVFS, Read
from sqlstable.database.transfer import read_database
from sqlstable.database.vfs import StableVFS
from sqlstable.errors import ImageError, SchemaError
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.layout.contents import contents_of
from sqlstable.layout.layout import Peek
from sqlstable.layout.layouts import recognised
from sqlstable.memory.stable import StableMemory
from sqlstable.schema.ledger import is_reserved
from sqlstable.schema.schema_model import Schema
from sqlstable.schema.schema_reading import SQL_CHARACTERS_MAX, objects_of
from sqlstable.sqlite.header import SQLITE_MAGIC

SchemaSource = Literal["sql", "database", "image"]
"""What a schema was read from."""

SNAPSHOT_IMAGE: Final = "stable_memory.bin"
"""The file of a snapshot's folder that has stable memory."""

_FIRST_BYTES: Final = 24
"""Layouts say in these what they are, with bytes that no text has."""

_BYTES_MAX: Final = 4 * SQL_CHARACTERS_MAX
"""Bytes of SQL that are read; a character has at most four."""


def read_schema(path: Path | str) -> Schema:
    """Return the schema of a file.

    Args:
        path: A SQL file, a SQLite database, an image of stable memory or a snapshot's folder. It is
            only read.

    Raises:
        SchemaError: It holds no schema that can be read.
        ImageError: It is a damaged database or image.
    """
    path = Path(path)
    if source_kind(path) == "sql":
        return Schema.from_sql(_text(path), name=str(path))
    with opened_database(path) as connection:
        return own_part(Schema(**objects_of(connection, name=str(path))))


def own_part(schema: Schema) -> Schema:
    """Return a schema without what sqlstable keeps in a database for itself.

    Examples:
        >>> schema = Schema.from_sql("CREATE TABLE t (a); CREATE TABLE _sqlstable_tables (a)")
        >>> [table.name for table in own_part(schema).tables]
        ['t']
    """
    return Schema(
        tables=tuple(it for it in schema.tables if not is_reserved(it.name)),
        indexes=tuple(
            it for it in schema.indexes if not is_reserved(it.name) and not is_reserved(it.table)
        ),
        views=tuple(it for it in schema.views if not is_reserved(it.name)),
        triggers=tuple(
            it for it in schema.triggers if not is_reserved(it.name) and not is_reserved(it.table)
        ),
        notes=schema.notes,
    )


def source_kind(path: Path | str) -> SchemaSource:
    """Return what a file is taken for.

    Raises:
        SchemaError: It is no file, or a folder that is no snapshot.
    """
    path = image_of(Path(path))
    try:
        with path.open("rb") as file:
            start = file.read(WASM_PAGE_BYTES)
    except OSError as error:
        raise SchemaError(f"{path} cannot be read: {error.strerror}") from error
    size_bytes = path.stat().st_size
    is_whole = size_bytes > 0 and size_bytes % WASM_PAGE_BYTES == 0
    if start.startswith(SQLITE_MAGIC) and path.name != SNAPSHOT_IMAGE:
        # In the raw layout an image is a database with room behind it.
        is_filled = contents_of(start, size_bytes).database_bytes == size_bytes
        return "image" if is_whole and not is_filled else "database"
    is_image = is_whole and b"\0" in start[:_FIRST_BYTES]
    return "image" if is_image or path.name == SNAPSHOT_IMAGE else "sql"


def image_of(path: Path) -> Path:
    """Return the file that is meant: of a snapshot's folder its stable memory.

    Raises:
        SchemaError: There is nothing, or it is no file.
    """
    if path.is_dir():
        image = path / SNAPSHOT_IMAGE
        if not image.exists() and any(path.glob("[0-9]*_*.sql")):
            raise SchemaError(
                f"{path} is a folder of numbered migrations, and these are not checked; sqlstable "
                f"schema migrate IMAGE {path} applies them, and tries their ways back"
            )
        if not image.exists():
            raise SchemaError(
                f"{path} is a folder without {SNAPSHOT_IMAGE}, so it is no snapshot of a canister; "
                "give the path of a file"
            )
        return image
    if path.exists() and not path.is_file():
        raise SchemaError(f"{path} is no regular file; give the path of a file")
    return path


@contextmanager
def opened_database(path: Path) -> Iterator[apsw.Connection]:
    """Yield a connection that reads a database, or the one in an image, and writes nothing.

    Raises:
        ImageError: It is neither, or damaged.
    """
    with ExitStack() as stack:
        read, size_bytes = (
            _database_bytes(path, stack)
            if source_kind(path) == "database"
            else _image_bytes(image_of(path), stack)
        )
        vfs = LookingVFS(read, size_bytes)
        stack.callback(vfs.unregister)
        try:
            connection = apsw.Connection("main.db", flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs.name)
            stack.callback(connection.close, force=True)
            prepare(connection, ())
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except apsw.Error as error:
            raise ImageError(f"{path} cannot be read as a SQLite database: {error}") from error
        yield connection


@contextmanager
def copied_database(path: Path) -> Iterator[apsw.Connection]:
    """Yield a connection to a copy of a database, or of the one in an image, to be changed.

    The copy is a temporary file; ``TMPDIR`` says where.

    Raises:
        ImageError: It is neither, or damaged, or there is no room for a copy.
    """
    with ExitStack() as stack:
        source = stack.enter_context(opened_database(path))
        try:
            folder = stack.enter_context(TemporaryDirectory(prefix="sqlstable-"))
            copy = apsw.Connection(str(Path(folder) / "copy.db"))
            stack.callback(copy.close, force=True)
            copy.execute("PRAGMA journal_mode = memory; PRAGMA synchronous = off").fetchall()
            with copy.backup("main", source, "main") as backup:
                backup.step(-1)
            prepare(copy, ())
            copy.execute("PRAGMA foreign_keys = off")
        except (OSError, apsw.Error) as error:
            raise ImageError(
                f"a copy of {path} cannot be made: {error}; TMPDIR names another folder for it"
            ) from error
        _check_whole(copy, path)
        yield copy


def _check_whole(connection: apsw.Connection, path: Path) -> None:
    try:
        damage = check(connection).damage
    except apsw.Error as error:
        damage = (str(error),)
    if damage:
        raise ImageError(f"the database in {path} is damaged: {'; '.join(damage)}")


def _database_bytes(path: Path, stack: ExitStack) -> tuple[Read, int]:
    source = stack.enter_context(open_source(path, SourceOptions(is_checked=False)))
    return source.read, source.size_bytes


def _image_bytes(image: Path, stack: ExitStack) -> tuple[Read, int]:
    memory = stack.enter_context(
        StableMemory.open(image, limits=None, is_read_only=True, is_created=False)
    )
    layout = recognised(Peek.at(memory))
    if layout is None:
        raise ImageError(f"{image} is an image of no layout that is known; sqlstable inspect says")
    try:
        vfs = StableVFS(memory, layout=layout.name)
    except ImageError as error:
        raise ImageError(f"{image}: {error}") from error
    stack.callback(vfs.unregister)
    store = vfs.store
    if not store.size_bytes:
        raise ImageError(f"{image} holds no database yet")
    return (lambda offset, length: read_database(store, offset, length)), store.size_bytes


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_BYTES_MAX + 1)
    if len(data) > _BYTES_MAX:
        raise SchemaError(f"{path} is longer than a schema is; give the database itself")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SchemaError(
            f"{path} is neither a SQLite database nor text in UTF-8: byte {error.start} is "
            f"{data[error.start]:#04x}; save it as UTF-8"
        ) from error
