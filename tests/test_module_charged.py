"""What messages of modules are charged for, whatever list they run under."""

import pytest

from sqlstable import CanisterModule, Trap
from sqlstable.ic.charged import CHARGED_UNITS, charged_together
from sqlstable.ic.limits import limits_at
from sqlstable.ic.prices import PRICE_REGIMES, regime_of
from sqlstable.ic.pricing import Spent, spent
from tests.bare_machine import wasm_of
from tests.module_world import hand_run
from tests.test_statement_hook import hooked

TODAY = PRICE_REGIMES["memory-tracker"]

WAT = """(module
 (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
 (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
 (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
 (import "ic0" "msg_reply_data_append" (func $append (param {type} {type})))
 (import "ic0" "msg_reply" (func $reply))
 (memory {width} 40)
 (global $x (mut f64) (f64.const 1))
 (func $work (param $n {type})
   (loop $next
     (global.set $x (f64.add (f64.div (global.get $x) (f64.const 3)) (f64.const 1)))
     ({type}.store8 ({type}.mul (local.get $n) ({type}.const 5000)) ({type}.const 1))
     (local.set $n ({type}.sub (local.get $n) ({type}.const 1)))
     (br_if $next ({type}.gt_s (local.get $n) ({type}.const 0)))))
 (func $answer (call $append ({type}.const 0) ({type}.const 9)) (call $reply))
 (func (export "canister_init")
   (drop (call $grow (i64.const 3)))
   (call $write (i64.const 0) (i64.const 0) (i64.const 100000)))
 (func (export "canister_pre_upgrade") (call $work ({type}.const 3))
   (call $write (i64.const 0) (i64.const 0) (i64.const 9000)))
 (func (export "canister_post_upgrade") (call $work ({type}.const 9))
   (call $read (i64.const 0) (i64.const 0) (i64.const 70000)))
 (func (export "canister_update work") (call $work ({type}.const 300))
   (call $write (i64.const 65000) (i64.const 0) (i64.const 1000))
   (call $read (i64.const 0) (i64.const 0) (i64.const 131072))
   (memory.copy ({type}.const 9) ({type}.const 100000) ({type}.const 70000)) (call $answer))
 (func (export "canister_query look") (call $work ({type}.const 5))
   (call $read (i64.const 0) (i64.const 0) (i64.const 10)) (call $answer))
 (func (export "canister_update bad") (call $work ({type}.const 4))
   (call $write (i64.const 9) (i64.const 9) (i64.const 9)) unreachable))"""


def ran(width, **options):
    """Run a module through its life; returns messages and statements."""
    text = WAT.format(type=width, width="i64" if width == "i64" else "")
    wasm = wasm_of(text)
    with CanisterModule(wasm, b"", trace=":memory:", **options) as module:
        module.update("work", b"12345", label="first")
        module.query("look", b"")
        with pytest.raises(Trap):
            module.update("bad", b"")
        module.upgrade(wasm, b"")
        module.update("work", b"")
        with module.trace() as trace:
            return [*trace.messages], [*trace.statements]


def parts_of(instructions):
    return Spent(instructions.computation, instructions.stable, instructions.heap)


def check(messages, statements, regime):
    for message in messages:
        assert spent(message.charged, regime) == parts_of(message.instructions)
        own = [statements[index] for index in message.statements]
        together = charged_together([it.charged for it in own])
        for statement in own:
            assert spent(statement.charged, regime) == parts_of(statement.instructions)
        for unit in CHARGED_UNITS:
            assert getattr(together, unit) <= getattr(message.charged, unit), unit


@pytest.mark.parametrize("os_page_bytes", [4096, 16_384])
@pytest.mark.parametrize("width", ["i32", "i64"])
def test_prices_of_another_day_are_those_of_a_run_under_its_list(width, os_page_bytes):
    today, todays = ran(width, os_page_bytes=os_page_bytes)
    check(today, todays, TODAY)
    assert [it.kind for it in today] == [
        "install",
        "update",
        "query",
        "update",
        "upgrade",
        "update",
    ]
    for day in ("2023-05-01", "2024-06-01"):
        regime = regime_of(limits_at(day)).for_heap(is_64=width == "i64")
        then, thens = ran(width, os_page_bytes=os_page_bytes, limits=day)
        check(then, thens, regime)
        for now, before in (*zip(today, then, strict=True), *zip(todays, thens, strict=True)):
            assert spent(now.charged, regime) == parts_of(before.instructions)
            assert spent(before.charged, TODAY) == parts_of(now.instructions)


def test_messages_of_modules_have_payloads():
    messages, _ = ran("i32")
    work, look, bad = messages[1:4]
    assert (work.payloads.request_bytes, work.payloads.reply_bytes) == (5, 9)
    assert (look.payloads.request_bytes, look.payloads.reply_bytes) == (0, 9)
    assert bad.payloads.reply_bytes == len(bad.trap)


@pytest.mark.parametrize("kind", ["i32", "i64"])
def test_statements_of_the_hook_are_charged_for_what_they_touch_first(kind):
    with hand_run(hooked(kind)) as made:
        made.run("update", "go")
        with made.trace() as trace:
            check(trace.messages, trace.statements, TODAY)
            select, insert = trace.statements
            [message] = trace.messages
    # OS page 0 was written before the first of them, OS pages 2 and 3 by the second alone.
    assert insert.charged.stable_os_pages_dirty == 2
    assert (select.charged.stable_os_pages_dirty, message.charged.stable_os_pages_dirty) == (0, 3)
    assert message.charged.stable_regions_accessed == 1
    assert select.charged.stable_accesses == 2
    # What is computed by today's weights is known by the others, too.
    assert insert.charged.computation.keys() == message.charged.computation.keys()
