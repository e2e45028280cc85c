"""``--html``: the page of a run, of a trace, of two; where it goes, and what it never replaces."""

import pytest

from tests.test_cli import call, folder  # noqa: F401  a fixture


@pytest.fixture
def traces(folder):  # noqa: F811
    (folder / "s.sql").write_text("CREATE TABLE t (a); INSERT INTO t VALUES (1); SELECT a FROM t")
    assert call("run", "s.sql", "--trace", "a.trace").exit_code == 0
    return folder


def test_a_run_writes_its_page_beside_its_report(traces):
    done = call("run", "s.sql", "--html", "s.html")
    assert done.exit_code == 0
    assert "CREATE TABLE t" in done.stdout
    assert "the page is in s.html" in done.stderr
    assert (traces / "s.html").read_bytes().startswith(b"<!doctype html>")
    assert sorted(it.name for it in traces.glob("*.partial")) == []


def test_a_report_writes_a_page_and_nothing_else(traces):
    done = call("report", "a.trace", "--html", "a.html")
    assert (done.exit_code, done.stdout) == (0, "")
    first = (traces / "a.html").read_bytes()
    assert call("report", "a.trace", "--html", "a.html", "--force").exit_code == 0
    assert (traces / "a.html").read_bytes() == first
    piped = call("report", "a.trace", "--html", "-")
    assert piped.stdout.encode() == first


def test_two_traces_are_one_page(traces):
    done = call("report", "a.trace", "--compare", "a.trace", "--html", "both.html")
    assert done.exit_code == 0
    assert "What changed" in (traces / "both.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("report", "a.trace", "--html", "old.html"), "add --force"),
        (("report", "a.trace", "--html", "mine.txt", "--force"), "is not a page of sqlstable"),
        (("report", "a.trace", "--html", "a.trace", "--force"), "is not a page of sqlstable"),
        (("report", "a.trace", "--html", "no/where.html"), "folder of no/where.html is not there"),
        (("report", "a.trace", "--html", "."), "is a folder"),
        (("report", "a.trace", "--html", "x.html", "--format", "csv"), "do not go together"),
        (("report", "a.trace", "--html", "x.html", "--export", "accesses"), "do not go together"),
        (("report", "a.trace", "--force"), "--force concerns"),
        (("report", "s.sql", "--html", "x.html"), "s.sql"),
        (("run", "s.sql", "--html", "old.html"), "add --force"),
        (("run", "s.sql", "--html", "-"), "would mix"),
        (("run", "s.sql", "--html", "b.html", "--trace", "b.html"), "name the same file"),
    ],
)
def test_what_is_refused_changes_nothing(traces, arguments, words):
    (traces / "old.html").write_text("<!doctype html>\nold")
    (traces / "mine.txt").write_text("mine")
    before = {it.name: it.read_bytes() for it in traces.iterdir() if it.is_file()}
    done = call(*arguments)
    assert done.exit_code in (1, 2)
    assert words in " ".join(done.stderr.split())
    assert {it.name: it.read_bytes() for it in traces.iterdir() if it.is_file()} == before


def test_no_page_is_left_of_a_trace_that_is_damaged(traces):
    whole = (traces / "a.trace").read_bytes()
    (traces / "cut.trace").write_bytes(whole[: len(whole) // 2])
    done = call("report", "cut.trace", "--html", "cut.html")
    assert done.exit_code in (1, 2)
    assert not (traces / "cut.html").exists()
