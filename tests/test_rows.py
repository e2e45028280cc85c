"""Results as they are printed: in batches, aligned, and no dearer than the query."""

import pytest

from sqlstable.cli.output import Screen
from sqlstable.cli.rows import BATCH_ROWS, row_pieces

PLAIN = Screen(80, None)


def lines_of(columns, rows, screen=PLAIN):
    return "".join(row_pieces("line 1: SELECT", columns, rows, screen)).splitlines()


def test_a_large_result_comes_in_pieces_and_a_reader_may_leave_after_the_first():
    count = 5 * BATCH_ROWS
    seen = []

    class Rows(list):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    pieces = row_pieces("line 1: SELECT", ("a",), Rows([(1,)] * count), PLAIN)
    assert next(pieces) == "line 1: SELECT\n"
    assert len(next(pieces).splitlines()) == 2 + BATCH_ROWS
    assert seen == [slice(0, BATCH_ROWS)]
    assert sum(len(piece.splitlines()) for piece in pieces) == count - BATCH_ROWS + 2


def test_columns_become_wider_with_a_later_batch_and_lose_nothing():
    rows = [("x", 1)] * BATCH_ROWS + [("a longer text", 123_456)]
    lines = lines_of(("text", "n"), rows)
    assert lines[1:4] == ["  text  n", "  " + "─" * 7, "  x     1"]
    assert lines[-3:] == ["  a longer text  123456", f"  {len(rows):,} rows", ""]


def test_a_batch_that_does_not_fit_becomes_lists_that_go_on_counting():
    wide = tuple(f"value {number}" for number in range(12))
    lines = lines_of([f"c{n}" for n in range(12)], [("x",) * 12] * BATCH_ROWS + [wide])
    assert f"  row {BATCH_ROWS + 1}" in lines
    assert lines[-3] == "    c11  value 11"


def test_values_of_all_kinds_keep_their_side():
    rows = [(1, "a", None, b"\x01"), (2.5, "東京", 7, b""), (None, "", "x", b"\xff\x00")]
    assert lines_of(("number", "text", "mixed", "blob"), rows)[3:6] == [
        "       1  a     NULL   x'01'",
        "     2.5  東京      7  x''",
        "    NULL  ''    x      x'ff00'",
    ]


@pytest.mark.parametrize("rows", [[], [(None,)]])
def test_a_result_without_values_has_its_heading(rows):
    assert lines_of(("a",), rows)[1] == ("  a" if not rows else "     a")


def test_on_a_terminal_headings_and_null_have_a_style():
    text = "".join(row_pieces("line 1: SELECT", ("a",), [(None,)], Screen(80, "auto")))
    assert "\x1b[1mline 1: SELECT\x1b[0m\n" in text
    assert "\x1b[2;3mNULL\x1b[0m" in text
