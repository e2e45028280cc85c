"""What notebooks show of a canister, a reply, a footprint, a trace and a comparison."""

import pytest

from sqlstable import Canister, open_trace
from sqlstable.analysis.compare import compare
from sqlstable.trace.markup import html_table, html_text
from tests.hand_built import HandBuiltTrace
from tests.hostile_texts import HOSTILE_NAME, is_harmless


@pytest.fixture
def canister(tmp_path):
    with Canister(trace=tmp_path / "a.trace") as canister:
        canister.update('CREATE TABLE "<i>t</i>" (id INTEGER PRIMARY KEY, x)')
        canister.update('INSERT INTO "<i>t</i>" (x) VALUES (1234567), (NULL)', label="<b>two</b>")
        yield canister


def test_a_reply_shows_rows_footprint_by_owner_and_verdict(canister):
    html = canister.query('SELECT id, x FROM "<i>t</i>"')._repr_html_()
    assert is_harmless(html)
    assert ">2 rows</caption>" in html
    assert ">1,234,567</td>" in html
    assert "&lt;i&gt;t&lt;/i&gt; 1" in html
    assert "fits (OS pages, stable memory)" in html
    assert "not counted: instructions" in html


def test_a_canister_says_how_large_it_is_and_that_it_is_closed(canister):
    html = canister._repr_html_()
    assert is_harmless(html)
    assert ">canister with 3 messages behind it</caption>" in html
    assert ">8,192</td>" in html
    with canister.message("query") as message:
        assert "<table>" in canister._repr_html_()
        message.execute("SELECT 1")
    canister.close()
    assert "closed" in canister._repr_html_()


def test_a_footprint_shows_its_counts(canister):
    reply = canister.query('SELECT count(*) FROM "<i>t</i>"')
    html = reply.footprint._repr_html_()
    assert is_harmless(html)
    assert f">{reply.footprint.bytes_read:,}</td>" in html


def test_a_comparison_shows_the_changed_statements_first(tmp_path):
    for name, index in (("before", ""), ("after", "CREATE INDEX t_x ON t (x, y)")):
        with Canister(trace=tmp_path / name) as canister:
            canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x, y)")
            rows = [(number, number % 7, "y" * 200) for number in range(500)]
            with canister.message() as message, message.transaction():
                message.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
            if index:
                canister.update(index)
            canister.query("SELECT max(y) FROM t WHERE x = 3 AND '<u>' < y")
    with open_trace(tmp_path / "before") as before, open_trace(tmp_path / "after") as after:
        html = compare(before, after)._repr_html_()
    assert is_harmless(html)
    first, second = html.index("better; plan changed"), html.index(">same</td>")
    assert first < second
    assert "added" in html
    assert " → " in html[first:second]


def test_nothing_recorded_is_shown_as_nothing():
    assert "0 statements" in compare(HandBuiltTrace(), HandBuiltTrace())._repr_html_()


def test_foreign_text_is_text_whatever_it_holds():
    html = html_table(HOSTILE_NAME, [HOSTILE_NAME], [[HOSTILE_NAME], [None], [True]])
    assert is_harmless(html)
    assert "\\u202egpj" in html
    assert len(html_text("<" * 5000)) < 2000
    html_text("\ud800").encode()
