"""What is read of schemas, and what is said of two."""

import pytest

from sqlstable.errors import SchemaError
from sqlstable.schema.schema_check import check_schemas
from sqlstable.schema.schema_model import Schema


def checked(old, new, **options):
    return check_schemas(Schema.from_sql(old), Schema.from_sql(new), **options)


def test_the_same_schema_however_it_is_written_needs_nothing():
    found = checked(
        "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT DEFAULT 'x'); CREATE INDEX i ON t (b)",
        "create table [t] (\"a\" integer primary key, -- the key\n b text default ('x'));"
        "create index i on t (b asc)",
    )
    assert (found.verdict, found.changes, found.migration.steps) == ("same", (), ())


def test_what_makes_no_schema_is_left_out_with_a_note():
    schema = Schema.from_sql("BEGIN; CREATE TABLE t (a); INSERT INTO t VALUES (';'); COMMIT")
    assert [it.name for it in schema.tables] == ["t"]
    assert any("1 INSERT left out" in note for note in schema.notes)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("ATTACH 'x' AS y", "ATTACH is refused"),
        ("CREATE TABEL t (a)", 'line 1: near "TABEL"'),
        ("\n\nhello", "line 3: 'hello' begins no SQL"),
        ("CREATE TABLE t (a\0b)", "zero byte in line 1"),
        ("CREATE VIRTUAL TABLE t USING nothing_here (a)", "no such module: nothing_here"),
        ("INSERT INTO sqlite_schema VALUES (1)", "writes to sqlite_schema"),
        ("CREATE TABLE t (a", "incomplete input"),
    ],
)
def test_hostile_sql_is_refused_in_one_sentence(sql, words):
    with pytest.raises(SchemaError) as caught:
        Schema.from_sql(sql)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
