"""Misuses of the command line: what was typed, the exit status, and the first line of the error.

Nothing may have changed on disk. Each line of the tables is one misuse; add to them what you find.
"""

import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sqlstable import Canister
from tests.test_cli import call

COMMANDS = r"""
2 run -> Missing argument 'SCRIPT.sql'.
2 run missing.sql -> there is no file missing.sql; give the path of an SQL script
2 run sub -> sub is a folder; give the path of an SQL script
2 run app.db -> app.db is a SQLite file, not a script; a database goes to --database, a trace to
2 run app.trace -> app.trace is a SQLite file, not a script; a database goes to --database, a
2 run app.stable -> app.stable, line 1: there is a NUL character, which SQL cannot hold; is this
2 run picture.png -> picture.png, line 3: there is a NUL character, which SQL cannot hold; is
2 run latin1.sql -> latin1.sql, line 1: byte 0xe9 is not UTF-8; convert the script
2 run utf16.sql -> utf16.sql, line 1: there is a NUL character, which SQL cannot hold; is this a
2 run nul.sql -> nul.sql, line 2: there is a NUL character, which SQL cannot hold; is this a text
1 run notes.txt -> notes.txt, line 1: near "just": syntax error; in: just a text, no SQL just a
2 run one.sql one.sql -> Got unexpected extra argument(s) (one.sql)
2 run one.sql --wrong -> No such option: --wrong (Possible options: --rows)
2 run dangling -> there is no file dangling; give the path of an SQL script
2 run '' -> . is a folder; give the path of an SQL script
2 run one.sql --database missing.db -> missing.db is not a file; give the path of a SQLite
2 run one.sql --database sub -> sub is not a file; give the path of a SQLite database
2 run one.sql --database empty -> empty is not a SQLite database: it begins with b''
2 run one.sql --database picture.png -> picture.png is not a SQLite database: it begins with
2 run one.sql --database notes.txt -> notes.txt is not a SQLite database: it begins with b'just a
2 run one.sql --database cut.db -> cut.db is truncated: its header states 17 SQLite pages of 4096
2 run one.sql --database odd.db -> odd.db is truncated: its header states 17 SQLite pages of 4096
2 run one.sql --database header.db -> header.db: the database header states SQLite pages of 7
2 run one.sql --database damaged.db -> damaged.db cannot be read as a SQLite database: database
2 run one.sql --database app.stable -> app.stable is an image of stable memory, no SQLite
2 run one.sql --database dangling -> dangling is not a file; give the path of a SQLite database
2 run one.sql --database '' -> . is not a file; give the path of a SQLite database
2 run one.sql --image sub -> sub is a folder; give the path of a file
2 run one.sql --image picture.png -> picture.png is 10248 bytes long, 10248 more than 0 Wasm
2 run one.sql --image app.db -> app.db is a SQLite database, no image; sqlstable import app.db
2 run one.sql --image app.trace -> app.trace is a SQLite database, no image; sqlstable import
2 run one.sql --image notes.txt -> notes.txt is 2000 bytes long, 2000 more than 0 Wasm pages of
2 run one.sql --image cut.stable -> cut.stable is 195608 bytes long, 64536 more than 2 Wasm pages
2 run one.sql --image short.stable -> short.stable: the memory manager's header is not sound: 2
2 run one.sql --image version.stable -> version.stable: the memory manager has layout version 9;
2 run one.sql --image dangling -> dangling cannot be opened as an image: No such file or directory
2 run one.sql --image missing/a.stable -> missing/a.stable cannot be opened as an image: No such
2 run one.sql --image '' -> . is a folder; give the path of a file
2 run one.sql --image app.stable --layout raw -> app.stable: the image has layout managed, not
2 run one.sql --image app.stable --database app.db -> app.stable has a database of 69632 bytes
2 run one.sql --image app.stable --durability maybe -> durability is 'maybe'; it must be one of
2 run one.sql --durability power -> --durability concerns an image file; name one with --image
2 run one.sql --trace sub -> sub is a folder; give the path of a file
2 run one.sql --trace app.db -> app.db exists already; choose another file, or add --force if it
2 run one.sql --trace app.db --force -> app.db exists and is not a trace; choose another file
2 run one.sql --trace picture.png --force -> picture.png exists and is not a trace; choose
2 run one.sql --trace app.trace -> app.trace exists already; choose another file, or add --force
2 run one.sql --trace missing/a.trace -> missing/a.trace cannot be written: unable to open
2 run one.sql --trace '' -> . is a folder; give the path of a file
2 run one.sql --trace sub --force -> sub is a folder; give the path of a file
2 run one.sql --trace one.sql --force -> one.sql exists and is not a trace; choose another file
2 run one.sql --engine fast -> Invalid value for '--engine': 'fast' is not one of 'native',
2 run one.sql --build lean -> --build concerns the wasm engine; add --engine wasm, or leave it out
2 run one.sql --track-heap -> --track-heap concerns the wasm engine; add --engine wasm, or leave
2 run one.sql --engine wasm --build tiny -> Invalid value for '--build': 'tiny' is not one of
2 run one.sql --layout stacked -> layout is 'stacked'; it must be one of managed, raw
2 run one.sql --layout raw --growth wasm-page -> growth wasm-page concerns layout managed: layout
2 run one.sql --layout raw --bucket-pages 4 -> --bucket-pages concerns layout managed; layout raw
2 run one.sql --layout raw --journal-mode persist -> journal_mode persist keeps a file beside the
2 run one.sql --layout raw --preset ic-rusqlite -> journal_mode persist (of preset ic-rusqlite)
2 run one.sql --journal-mode wal -> journal_mode wal is not available: no canister has the shared
2 run one.sql --journal-mode paper -> journal_mode is 'paper'; it must be one of memory, off,
2 run one.sql --engine wasm --journal-mode wal -> journal_mode wal is not available: no canister has
2 run one.sql --preset mysql -> no preset is named 'mysql'; there are ic-rusqlite, ic-sqlite-vfs
2 run one.sql --page-size 1000 -> page_size is 1000; it must be a power of two from 512 to 65536
2 run one.sql --page-size big -> Invalid value for '--page-size': Input should be a valid
2 run one.sql --page-size 131072 -> page_size is 131072; it must be a power of two from 512 to
2 run one.sql --cache-size 0 -> cache_size is 0; SQLite would then choose by itself: give 1 or
2 run one.sql --cache-size 99999999999 -> cache_size is 99999999999; it must be from -2147483647
2 run one.sql --bucket-pages 0 -> bucket_pages is 0; it must be from 1 to 65535
2 run one.sql --bucket-pages 65536 -> bucket_pages is 65536; it must be from 1 to 65535
2 run one.sql --growth quickly -> growth is 'quickly'; it must be one of bucket, wasm-page
2 run one.sql --seed x -> Invalid value for '--seed': Input should be a valid integer, unable to
2 run one.sql --now yesterday -> now is 'yesterday'; give a date and time such as 2026-01-01
2 run one.sql --limits 2020-01-01 -> no limits are known on 2020-01-01; the earliest date is
2 run one.sql --limits soon -> 'soon' is not a date; write it as YYYY-MM-DD, 2021-05-10 or later
2 run one.sql --limits none --no-enforce -> --no-enforce measures against limits, and --limits
2 run one.sql --cache hot -> Invalid value for '--cache': 'hot' is not one of 'fresh', 'cold',
2 run one.sql --depth deep -> Invalid value for '--depth': 'deep' is not one of 'counters',
2 run one.sql --format xml -> Invalid value for '--format': 'xml' is not one of 'table', 'json',
2 run one.sql --by day -> Invalid value for '--by': 'day' is not one of 'statement', 'shape',
2 run one.sql --rows --format json -> --rows does not go with --format json, whose output is one
2 run one.sql --rows --format csv -> --rows does not go with --format csv, whose output is one
2 report -> Missing argument 'TRACE'.
2 report missing.trace -> there is no trace file missing.trace; sqlstable run records one
2 report sub -> sub is a folder; give the path of a file
2 report empty -> empty is not a trace: it is not a SQLite file
2 report app.db -> app.db is a SQLite database but not a trace: its application_id is 0x00000000,
2 report picture.png -> picture.png is not a trace: it is not a SQLite file
2 report app.stable -> app.stable is not a trace: it is not a SQLite file
2 report cut.trace -> cut.trace is damaged: database disk image is malformed; record it again
2 report later.trace -> later.trace has trace format version 99, and this sqlstable reads up to
2 report app.trace --compare -> Option '--compare' requires an argument.
2 report app.trace --compare missing.trace -> there is no trace file missing.trace; sqlstable run
2 report app.trace --compare app.db -> app.db is a SQLite database but not a trace: its
2 report app.trace --compare app.trace --export accesses -> --compare and --export do not go
2 report app.trace --compare app.trace --by owner -> --compare goes statement by statement, not
2 report app.trace --export accesses --format json -> --export accesses writes CSV or Parquet, not
2 report app.trace --format parquet -> --format parquet goes with --export accesses, statements
2 report app.trace --export statements --output app.trace -> app.trace exists
2 report app.trace --export everything -> Invalid value for '--export': 'everything' is not one
2 report app.trace --by day -> Invalid value for '--by': 'day' is not one of 'statement',
2 report '' -> . is a folder; give the path of a file
2 import -> Missing argument 'APP.db'.
2 import app.db -> Missing argument 'IMAGE'.
2 import missing.db new.stable -> missing.db is not a file; give the path of a SQLite database
2 import sub new.stable -> sub is not a file; give the path of a SQLite database
2 import picture.png new.stable -> picture.png is not a SQLite database: it begins with
2 import empty new.stable -> empty is not a SQLite database: it begins with b''
2 import cut.db new.stable -> cut.db is truncated: its header states 17 SQLite pages of 4096
2 import damaged.db new.stable -> damaged.db cannot be read as a SQLite database: database disk
2 import app.stable new.stable -> app.stable is an image of stable memory, no SQLite database;
2 import app.db app.stable -> app.stable exists already; choose another file, or add --force if
2 import app.db app.db -> app.db exists already; choose another file, or add --force if it is an
2 import app.db app.db --force -> app.db is a SQLite database, no image; sqlstable import app.db
2 import app.db sub -> sub is a folder; give the path of a file
2 import app.db sub --force -> sub is a folder; give the path of a file
2 import app.db picture.png --force -> picture.png exists and is not an image of stable memory,
2 import app.db missing/new.stable -> the folder of missing/new.stable is not there; make it first
2 import app.db dangling -> dangling is a link to a file that is not there; remove it
2 import app.db new.stable --layout flat -> layout is 'flat'; it must be one of managed, raw
2 import app.db new.stable --limits 1999-01-01 -> no limits are known on 1999-01-01; the earliest
2 import app.db new.stable --durability never -> durability is 'never'; it must be one of
2 extract -> Missing argument 'IMAGE'.
2 extract app.stable -> Missing argument 'APP.db'.
2 extract missing.stable out.db -> there is no image file missing.stable; sqlstable import APP.db
2 extract sub out.db -> sub is a folder; give the path of a file
2 extract picture.png out.db -> picture.png is 10248 bytes long, 10248 more than 0 Wasm pages of
2 extract notes.txt out.db -> notes.txt is 2000 bytes long, 2000 more than 0 Wasm pages of 65536;
2 extract empty out.db -> empty holds no database where the main one lies; it has nothing
2 extract cut.stable out.db -> cut.stable is 195608 bytes long, 64536 more than 2 Wasm pages of
2 extract short.stable out.db -> short.stable: the memory manager's header is not sound: 2
2 extract version.stable out.db -> version.stable: the memory manager has layout version 9; only
2 extract app.trace out.db -> app.trace is a SQLite database, no image; sqlstable import
2 extract app.stable app.db -> app.db exists already; choose another file, or add --force if it
2 extract app.stable app.stable --force -> app.stable is the image itself; choose another file
2 extract app.stable picture.png --force -> picture.png exists and is not a SQLite database, so
2 extract app.stable sub --force -> sub is a folder; give the path of a file
2 extract app.stable missing/out.db -> the folder of missing/out.db is not there; make it first
2 extract app.stable dangling -> dangling is a link to a file that is not there; remove it
2 extract app.stable out.db --name other.db -> app.stable holds no database named other.db; it
2 extract app.stable out.db --layout raw -> app.stable: the image has layout managed, not
2 extract app.stable out.db --layout flat -> layout is 'flat'; it must be one of managed, raw
2 demo now -> Invalid value for 'STORY': 'now' is not one of 'shop', 'survival',
2 demo shop now -> Got unexpected extra argument(s) (now)
2 demo --engine fast -> Invalid value for '--engine': 'fast' is not one of 'native', 'wasm'.
2 frobnicate -> No such command 'frobnicate'.
2 --wrong -> No such option: --wrong (Possible options: --version)
"""

SCRIPTS = r"""
2 native --@ jump\nSELECT 1; -> stdin, line 1: --@ jump is not a directive; the known ones are
2 native SELECT 1; --@ query -> stdin, line 1: a directive needs a line of its own; move it to
2 native --@ label\nSELECT 1; -> stdin, line 1: --@ label lacks its argument; write --@ label NAME
2 native --@ repeat\nSELECT 1; -> stdin, line 1: --@ repeat lacks its argument; write --@ repeat N
2 native --@ repeat 0\nSELECT 1; -> stdin, line 1: --@ repeat 0 is not a whole number from 1 to
2 native --@ repeat many\nSELECT 1; -> stdin, line 1: --@ repeat many is not a whole number from
2 native --@ repeat 99999999999\nSELECT 1; -> stdin, line 1: --@ repeat 99999999999 is not a
2 native --@ upgrade now\nSELECT 1; -> stdin, line 1: --@ upgrade takes no argument; remove 'now'
2 native --@ query\n--@ update\nSELECT 1; -> stdin, line 1: --@ query holds no statements; write
2 native SELECT 1;\n--@ label end -> stdin, line 2: nothing follows --@ label that it could apply
2 native --@ label a\n--@ label b\nSELECT 1; -> stdin, line 2: --@ label stands on line 1
2 native --@ params missing.csv\nSELECT ?; -> stdin, line 1: --@ params missing.csv: cannot be
2 native --@ params sub\nSELECT ?; -> stdin, line 1: --@ params sub: cannot be read: it is no
2 native --@ params ragged.csv\nSELECT ?, ?; -> stdin, line 1: --@ params ragged.csv: line 2 has
2 native --@ params blank.csv\nSELECT ?; -> stdin, line 1: --@ params blank.csv: line 2 is blank;
2 native --@ params empty\nSELECT ?; -> stdin, line 1: --@ params empty: has no rows; write one
2 native --@ params quote.csv\nSELECT ?, ?; -> stdin, line 1: --@ params quote.csv: line 1 is not
2 native --@ params latin1.csv\nSELECT ?; -> stdin, line 1: --@ params latin1.csv: is not UTF-8;
2 native --@ params rows.csv\nSELECT :x; -> stdin, line 1: --@ params rows.csv: line 1 must name
2 native --@ params rows.csv\nSELECT :a, ?; -> stdin, line 1: --@ params rows.csv: the statement
2 native --@ params rows.csv\nBEGIN; COMMIT; -> stdin, line 1: --@ params stands before BEGIN,
2 native --@ trap\n--@ upgrade -> stdin, line 2: --@ trap stands before --@ upgrade, which runs
2 native SELECT\n--@ query\n1; -> stdin, line 2: a directive stands inside the statement that
2 native SELECT 'open; -> stdin, line 1: the statement that begins here never ends: ' opens on
2 native /* open -> stdin, line 1: /* opens here and never closes; close it with */
2 native .tables -> stdin, line 1: .tables is a command of the sqlite3 shell; a workload script
2 native .import a b\nSELECT 1; -> stdin, line 1: .import is a command of the sqlite3 shell; a
2 native CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; -> stdin, line 1: the statement that
1 native SELECT nothing; -> stdin, line 1: near "nothing": syntax error; in: SELECT nothing
1 native SELECT 1 FROM missing; -> stdin, line 1: no such table: missing; in: SELECT 1 FROM
1 native SELEC 1; -> stdin, line 1: near "SELEC": syntax error; in: SELEC 1
1 native PRAGMA journal_mode = wal; -> stdin, line 1: journal_mode wal is not available: no
1 native --@ params rows.csv\nSELECT ?; -> stdin, line 2: rows.csv, line 1: the
1 native --@ update\nBEGIN;\nSELECT 1; -> stdin, line 1: the update message ended with an open
1 native SELECT ?, 1 WHERE -> stdin, line 1: incomplete input; in: SELECT ?, 1 WHERE
1 native SELECT CAST(x'ff' AS TEXT); -> stdin, line 1: a text in the result is not UTF-8: 'utf-8'
1 native CREATE TABLE t(x UNIQUE); INSERT INTO t VALUES(1), (1); -> stdin, line 1: UNIQUE
1 native SELECT load_extension('x'); -> stdin, line 1: not authorized; in: SELECT
1 native ATTACH 'app.db-wal' AS a; -> stdin, line 1: 'app.db-wal' is what SQLite calls a file
1 wasm PRAGMA journal_mode = wal; -> stdin, line 1: journal_mode wal is not available: no
1 wasm ATTACH 'app.db-wal' AS a; -> stdin, line 1: 'app.db-wal' is what SQLite calls a file
"""


def rows_of(table):
    """Each line is an exit status, what was typed, and how the error begins."""
    rows = []
    for line in table.strip().splitlines():
        typed, _, reason = line[2:].partition(" -> ")
        rows.append(pytest.param(typed, int(line[0]), reason, id=typed))
    return rows


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with files of many kinds, most of them wrong, and what is in each."""
    folder = tmp_path_factory.mktemp("misuse")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_texts()
        make_databases()
        make_images()
        make_traces()
    return folder, contents(folder)


def make_texts():
    Path("sub").mkdir()
    Path("dangling").symlink_to("missing/there")
    for name, data in {
        "one.sql": b"SELECT 1;\n",
        "empty": b"",
        "picture.png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40,
        "notes.txt": b"just a text, no SQL\n" * 100,
        "latin1.sql": b"SELECT '\xe9';\n",
        "utf16.sql": "SELECT 1;\n".encode("utf-16"),
        "nul.sql": b"SELECT 1;\n\0",
        "rows.csv": b"a,b\n1,2\n",
        "ragged.csv": b"1,2\n3\n",
        "blank.csv": b"1\n\n2\n",
        "quote.csv": b'"a"b,1\n',
        "latin1.csv": b"\xe9\n",
    }.items():
        Path(name).write_bytes(data)


def make_databases():
    with closing(sqlite3.connect("app.db")) as connection, connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
        connection.executemany("INSERT INTO t (x) VALUES (?)", [("x" * 900,)] * 60)
    data = Path("app.db").read_bytes()
    Path("cut.db").write_bytes(data[: len(data) // 2])
    Path("odd.db").write_bytes(data[:-1])
    Path("header.db").write_bytes(data[:16] + b"\0\7" + data[18:])
    Path("damaged.db").write_bytes(data[:8192] + b"\xff" * 100 + data[8292:])


def make_images():
    with Canister("app.stable", bucket_pages=1) as canister:
        canister.import_database("app.db")
    image = Path("app.stable").read_bytes()
    Path("cut.stable").write_bytes(image[:-1000])
    Path("short.stable").write_bytes(image[:65_536])
    Path("version.stable").write_bytes(image[:3] + b"\x09" + image[4:])


def make_traces():
    assert call("run", "one.sql", "--trace", "app.trace").exit_code == 0
    trace = Path("app.trace").read_bytes()
    Path("cut.trace").write_bytes(trace[:5000])
    Path("later.trace").write_bytes(trace[:60] + b"\0\0\0\x63" + trace[64:])


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def check(result, status, reason):
    """The status, the beginning of the error, no traceback; no data where nothing was run."""
    assert result.exit_code == status, result.output
    first = next(line for line in result.stderr.splitlines() if line.startswith("Error: "))
    assert first.startswith(f"Error: {reason}"), first
    assert "should not have happened" not in result.stderr
    assert (result.stdout == "") == (status == 2)


@pytest.mark.parametrize(("command", "status", "reason"), rows_of(COMMANDS))
def test_a_misused_command_is_refused_in_words(files, monkeypatch, command, status, reason):
    folder, before = files
    monkeypatch.chdir(folder)
    check(call(*shlex.split(command)), status, reason)
    assert contents(folder) == before


@pytest.mark.parametrize(("typed", "status", "reason"), rows_of(SCRIPTS))
def test_a_misused_script_is_refused_in_words(files, monkeypatch, typed, status, reason):
    folder, before = files
    monkeypatch.chdir(folder)
    engine, _, script = typed.partition(" ")
    script = script.replace("\\n", "\n")
    check(call("run", "-", "--engine", engine, stdin=script), status, reason)
    assert contents(folder) == before
