"""The hook by which a module tells where its statements begin and end."""

import pytest

from sqlstable.report.as_table import render_table
from tests.module_world import hand_run

HOOKED = r"""(module
 (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
 (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
 (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
 (memory {type} 2)
 (data ({type}.const 100) "SELECT 1INSERT INTO t VALUES (7)")
 (func $tell {export} (param {type} {type}))
 (func (export "canister_update go")
   (drop (call $grow (i64.const 1)))
   (call $write (i64.const 0) (i64.const 0) (i64.const 10))
   (call $tell ({type}.const 100) ({type}.const 8))
   (call $read (i64.const 0) (i64.const 0) (i64.const 100))
   (call $tell ({type}.const 108) ({type}.const 24))
   (call $write (i64.const 8192) (i64.const 0) (i64.const 5000))
   (call $tell ({type}.const 0) ({type}.const 0))
   (call $read (i64.const 0) (i64.const 0) (i64.const 7))
   (call $tell ({type}.const 0) ({type}.const 0))
   (call $read (i64.const 0) (i64.const 0) (i64.const 9)))
 (func (export "canister_update quiet"))
 (func (export "canister_update wrong")
   (call $tell ({type}.const 131070) ({type}.const 3))
   (call $tell ({type}.const -1) ({type}.const 3)))
)"""


def hooked(kind="i32", export='(export "sqlstable_statement")'):
    """Return a module with a hook, or with the same function under no name."""
    memory = "i64 " if kind == "i64" else ""
    return HOOKED.replace("(memory {type} 2)", f"(memory {memory}2)").format(
        type=kind, export=export
    )


@pytest.fixture(name="trace", scope="module", params=["i32", "i64"])
def trace_fixture(request):
    with hand_run(hooked(request.param)) as made:
        made.run("update", "go")
        made.run("update", "quiet")
        with made.trace() as trace:
            yield trace


def test_statements_have_their_text_accesses_and_instructions(trace):
    select, insert, quiet = trace.statements
    assert [it.sql for it in trace.statements] == [
        "SELECT 1",
        "INSERT INTO t VALUES (7)",
        "quiet()",
    ]
    assert [it.kind for it in trace.statements] == ["read", "write", "call"]
    assert insert.shape == "INSERT INTO t VALUES (?)"
    # The one that began last has what happens, until it ends.
    assert (select.stable.calls.read, select.stable.bytes_read) == (2, 107)
    assert (insert.stable.calls.write, insert.stable.os_pages_dirty) == (1, 2)
    assert (select.message, insert.message, quiet.message) == (0, 0, 1)


def test_statements_and_what_is_around_them_are_the_message(trace):
    message = trace.messages[0]
    statements = [trace.statements[index] for index in message.statements]
    moved = sum(it.stable.bytes_written + it.stable.bytes_read for it in message.outside)
    assert moved == 10 + 9
    inside = sum(it.stable.bytes_read + it.stable.bytes_written for it in statements)
    assert inside + moved == message.stable.bytes_read + message.stable.bytes_written
    spent = [it.instructions for it in statements]
    assert all(it.total == it.computation + it.stable + it.heap for it in spent)
    assert sum(it.total for it in spent) < message.instructions.total
    assert sum(it.heap for it in spent) <= message.instructions.heap
    assert [it.phase_instructions["run"] for it in statements] == [
        it.total - it.heap for it in spent
    ]


def test_a_hook_costs_what_a_function_of_that_size_costs():
    spent = []
    for export in ('(export "sqlstable_statement")', ""):
        with hand_run(hooked(export=export)) as made:
            made.run("update", "go")
            with made.trace() as trace:
                spent.append((trace.messages[0].instructions, trace.messages[0].heap))
    assert spent[0] == spent[1]


def test_a_text_outside_of_the_heap_is_none():
    with hand_run(hooked()) as made:
        made.run("update", "wrong")
        made.run("update", "go")
        with made.trace() as trace:
            assert [it.sql for it in trace.statements] == [
                "",
                "",
                "SELECT 1",
                "INSERT INTO t VALUES (7)",
            ]
            assert trace.messages[0].outcome == "committed"


def test_the_statement_view_says_which_call_statements_belong_to(trace):
    text = render_table(trace, width=120)
    assert "message 0 · update · go() · committed · no answer" in text
    assert "INSERT INTO t VALUES (7)" in text
    assert "outside of statements: message" in text


def test_a_function_of_another_type_is_no_hook():
    other = """(module (memory 1)
      (func $t (export "sqlstable_statement") (param i32))
      (func (export "canister_update f") (call $t (i32.const 1))))"""
    with hand_run(other) as made:
        made.run("update", "f")
        with made.trace() as trace:
            assert [it.sql for it in trace.statements] == ["f()"]
