"""Frames: every library gets the same columns, of every version of the format, whole."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

from sqlstable import Canister, TraceError, open_trace
from sqlstable.ic.words import PHASES
from sqlstable.trace.access_stream import joined_blocks
from sqlstable.trace.format.file import TraceWriter
from tests.test_trace_file import GOLDEN

LIBRARIES = ("pandas", "polars", "pyarrow")
FRAMES = ("accesses", "messages", "statements", "owners", "limits")


@pytest.fixture(scope="module", name="trace")
def trace_fixture():
    with Canister(trace=":memory:", bytes_changed=True) as canister:
        canister.update("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        canister.update("INSERT INTO t (b) VALUES ('x'), (hex(zeroblob(9000)))")
        canister.query("SELECT b FROM t WHERE a = 2")
        canister.upgrade()
        yield canister.trace()


def plain(frame, library):
    """Return a frame as lists by name, None for what is missing."""
    if library == "pyarrow":
        return frame.to_pydict()
    if library == "polars":
        return frame.to_dict(as_series=False)
    missing = importlib.import_module("pandas").isna
    return {
        name: [None if missing(value) else value for value in frame[name].tolist()]
        for name in frame.columns
    }


@pytest.mark.parametrize("which", FRAMES)
def test_all_libraries_have_the_same_frame(trace, which):
    pandas, polars, arrow = (
        plain(getattr(trace, f"{which}_frame")(library=library), library) for library in LIBRARIES
    )
    assert pandas == polars == arrow
    assert all(pandas.values()), "every frame of this trace has rows"


def test_the_frame_of_accesses_is_the_stream(trace):
    block = joined_blocks([*trace.access_blocks()])
    frame = plain(trace.accesses_frame(), "pandas")
    assert frame["position"] == block.position.tolist()
    assert frame["length"] == block.length.tolist()
    owners = [trace.access_owners[it] for it in block.owner]
    for name, field in (("owner", "name"), ("table", "table"), ("role", "role")):
        assert frame[name] == [getattr(it, field) for it in owners]
    assert frame["phase"] == [None if it < 0 else PHASES[it] for it in block.phase]
    assert frame["statement"] == [None if it < 0 else it for it in block.statement.tolist()]
    inside = (block.offset >= 0) & (block.moved_bytes > 0)
    numbers = (block.offset // 4096 + 1).tolist()
    assert frame["sqlite_page"] == [
        number if is_inside else None for number, is_inside in zip(numbers, inside, strict=True)
    ]
    assert set(frame["kind"]) == {"read", "write", "size", "grow"}


def test_the_frame_of_messages_says_all_of_them(trace):
    frame = plain(trace.messages_frame(), "pandas")
    messages = trace.messages
    assert frame["bytes_changed"] == [it.bytes_changed for it in messages]
    assert frame["os_pages_dirty"] == [it.stable.os_pages_dirty for it in messages]
    used = [{use.name: use.used for use in it.limits} for it in messages]
    for name in used[0]:
        assert frame[f"used_{name}"] == [it[name] for it in used]


def test_the_frame_of_statements_is_that_of_to_pandas(trace):
    frame = trace.statements_frame().set_index("statement_index")
    expected = trace.to_pandas()
    assert [*frame.columns] == [*expected.columns]
    for name in frame.columns:
        assert frame[name].astype(object).where(frame[name].notna(), None).tolist() == (
            expected[name].astype(object).where(expected[name].notna(), None).tolist()
        )


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("library", LIBRARIES)
def test_frames_of_every_format_version_have_the_same_columns(version, library, trace):
    with open_trace(GOLDEN / f"trace_v{version}.trace") as old:
        for which in FRAMES:
            made = plain(getattr(old, f"{which}_frame")(library=library), library)
            expected = plain(getattr(trace, f"{which}_frame")(library=library), library)
            # There are two columns for each limit that a trace names.
            names = [
                [name for name in columns if not name.startswith(("used_", "limit_"))]
                for columns in (made, expected)
            ]
            assert names[0] == names[1]


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_empty_trace_has_empty_frames(library):
    with TraceWriter(None, {}) as writer, writer.trace() as empty:
        for which in FRAMES:
            columns = plain(getattr(empty, f"{which}_frame")(library=library), library)
            assert columns
            assert not any(columns.values())


def test_numbers_are_not_rounded_and_texts_are_categories(trace):
    frame = trace.accesses_frame()
    assert {str(frame[name].dtype) for name in ("owner", "phase", "kind")} == {"category"}
    assert frame.address.dtype.kind == "i"
    assert frame.message.dtype == np.int32


def test_an_unknown_library_is_refused(trace):
    with pytest.raises(TraceError, match="no frames of 'dask'; use one of pandas, polars"):
        trace.accesses_frame(library="dask")


def test_a_library_that_is_missing_is_named():
    code = (
        "import sys; sys.modules['polars'] = None\n"
        "from sqlstable import Canister, TraceError\n"
        "trace = Canister(trace=':memory:').trace()\n"
        "try: trace.limits_frame(library='polars')\n"
        "except TraceError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "frames of polars need polars, which is not installed" in done.stdout
