"""``report --export``: accesses, statements and messages as CSV and Parquet, whole and streamed."""

import csv
import io
import subprocess
import sys

import pyarrow.parquet
import pytest

from sqlstable import Canister, open_trace
from tests.test_cli import call


@pytest.fixture(scope="module", name="trace_file")
def trace_file_fixture(tmp_path_factory):
    path = tmp_path_factory.mktemp("exports") / "a.trace"
    with Canister(trace=path) as canister:
        canister.update('CREATE TABLE "a,b""\n" (a INTEGER PRIMARY KEY, b TEXT)')
        canister.update('INSERT INTO "a,b""\n" (b) VALUES (\'x\'), (hex(zeroblob(9000)))')
        canister.query('SELECT b FROM "a,b""\n" WHERE a = 2')
    return path


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("what", ["accesses", "statements", "messages"])
def test_parquet_is_the_frame(what, trace_file, tmp_path):
    target = tmp_path / "out.parquet"
    arguments = ("report", str(trace_file), "--export", what, "--format", "parquet")
    assert call(*arguments, "--output", str(target)).exit_code == 0
    with open_trace(trace_file) as trace:
        expected = getattr(trace, f"{what}_frame")(library="pyarrow")
    assert pyarrow.parquet.read_table(target).to_pydict() == expected.to_pydict()
    # A pipe gets the same bytes.
    done = subprocess.run(
        [sys.executable, "-m", "sqlstable", *arguments], stdout=subprocess.PIPE, check=True
    )
    assert done.stdout == target.read_bytes()
    refused = call(*arguments, "--output", str(target))
    assert (refused.exit_code, "exists" in refused.stderr) == (2, True)
    assert call(*arguments, "--output", str(target), "--force").exit_code == 0


@pytest.mark.parametrize("what", ["statements", "messages"])
def test_csv_is_the_frame(what, trace_file):
    rows = rows_of(call("report", str(trace_file), "--export", what, "--format", "csv").stdout)
    with open_trace(trace_file) as trace:
        expected = getattr(trace, f"{what}_frame")(library="pyarrow").to_pylist()
    assert rows == [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in expected
    ]


def test_accesses_as_csv_have_phase_and_owner(trace_file):
    rows = rows_of(call("report", str(trace_file), "--export", "accesses").stdout)
    with open_trace(trace_file) as trace:
        frame = trace.accesses_frame(library="pyarrow").to_pylist()
    for name in ("phase", "owner", "table", "owner_kind", "role", "kind", "outside"):
        assert [row[name] for row in rows] == [it[name] or "" for it in frame]
    assert 'a,b"\n' in {row["owner"] for row in rows}
    assert [*rows[0]][:10] == [
        *("statement", "position", "kind", "address", "length", "os_page_index"),
        *("sqlite_page_number", "os_page_count", "message", "outside"),
    ]


def test_force_replaces_an_old_export_and_nothing_else(trace_file, tmp_path):
    target = tmp_path / "precious.txt"
    target.write_text("precious")
    refused = call(
        "report", str(trace_file), "--export", "messages", "--output", str(target), "--force"
    )
    assert refused.exit_code == 2
    assert target.read_text() == "precious"


def test_an_empty_trace_has_headers(tmp_path):
    with Canister(trace=tmp_path / "a.trace"):
        pass
    for what in ("statements", "messages", "accesses"):
        arguments = ("report", str(tmp_path / "a.trace"), "--export", what)
        assert "," in call(*arguments).stdout.splitlines()[0]
        parquet = str(tmp_path / f"{what}.parquet")
        assert call(*arguments, "--format", "parquet", "--output", parquet).exit_code == 0
        assert pyarrow.parquet.read_table(parquet).num_columns > 10
