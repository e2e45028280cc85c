"""The cycles of an execution against a model, in random orders of what moves them."""

from dataclasses import dataclass, field
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable.errors import Trap
from sqlstable.ic.contexts import Context
from sqlstable.ic.cycle_fees import CycleFees
from tests.calls_world import code_of, environment_of, run

amount = st.one_of(
    st.integers(0, 3),
    st.integers(0, (1 << 128) - 1),
    st.sampled_from([(1 << 64) - 1, 1 << 64, (1 << 64) + 1, (1 << 128) - 1]),
    st.integers(40_000_000_000, 50_000_000_000),
)

INTERPRETER = """
    (local $at i32) (local $end i32) (local $low i64) (local $high i64) (local $what i32)
    (local.set $end (call $msg_arg_data_size))
    (call $msg_arg_data_copy (i32.const 8192) (i32.const 0) (local.get $end))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $what (i32.load8_u offset=8192 (local.get $at)))
        (local.set $low (i64.load offset=8193 (local.get $at)))
        (local.set $high (i64.load offset=8201 (local.get $at)))
        (local.set $at (i32.add (local.get $at) (i32.const 17)))
        (if (i32.eq (local.get $what) (i32.const 0)) (then
          (call $msg_cycles_accept128 (local.get $high) (local.get $low) (i32.const 0))
          (call $msg_reply_data_append (i32.const 0) (i32.const 16))))
        (if (i32.eq (local.get $what) (i32.const 1)) (then
          (call $cycles_burn128 (local.get $high) (local.get $low) (i32.const 0))
          (call $msg_reply_data_append (i32.const 0) (i32.const 16))))
        (if (i32.eq (local.get $what) (i32.const 2)) (then
          (call $call_new
            (i32.const 2000) (i32.const 3) (i32.const 2000) (i32.const 3)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
        (if (i32.eq (local.get $what) (i32.const 3)) (then
          (call $call_cycles_add128 (local.get $high) (local.get $low))))
        (if (i32.eq (local.get $what) (i32.const 4)) (then
          (i64.store (i32.const 0) (i64.extend_i32_u (call $call_perform)))
          (i64.store (i32.const 8) (i64.const 0))
          (call $msg_reply_data_append (i32.const 0) (i32.const 16))))
        (call $canister_cycle_balance128 (i32.const 0))
        (call $canister_liquid_cycle_balance128 (i32.const 16))
        (call $msg_reply_data_append (i32.const 0) (i32.const 32))
        (br $next)))
    (call $msg_reply)"""


@cache
def interpreter():
    return code_of(INTERPRETER)


class RefusedError(Exception):
    pass


@dataclass
class Model:
    """What the interface says of cycles."""

    balance: int
    freezing: int
    available: int
    attached: int | None = None
    calls: list[int] = field(default_factory=list)
    told: bytes = b""

    @property
    def liquid(self):
        return max(self.balance - self.freezing, 0)

    def step(self, what, cycles):
        price = CycleFees().call_sending(payload_bytes=3) + CycleFees().response_prepayment
        match what:
            case 0:
                moved = min(cycles, self.available)
                self.available -= moved
                self.balance += moved
                self.tell(moved)
            case 1:
                moved = min(cycles, self.liquid)
                self.balance -= moved
                self.tell(moved)
            case 2:
                self.balance += self.attached or 0
                self.attached = 0
            case 3:
                if self.attached is None or cycles > self.liquid:
                    raise RefusedError
                self.attached += cycles
                self.balance -= cycles
            case 4:
                if self.attached is None:
                    raise RefusedError
                if self.liquid < price:
                    self.balance += self.attached
                    self.tell(2)
                else:
                    self.balance -= price
                    self.calls.append(self.attached)
                    self.tell(0)
                self.attached = None
        self.tell(self.balance)
        self.tell(self.liquid)

    def tell(self, number):
        self.told += number.to_bytes(16, "little")


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, (1 << 127) - 1),
    amount,
    st.integers(0, (1 << 127) - 1),
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 3, 4, 4]), amount), max_size=12),
)
def test_cycles_move_as_the_model_says(balance, freezing, available, steps):
    model = Model(balance, freezing, available)
    environment = environment_of(
        Context.UPDATE,
        cycle_balance=balance,
        freezing_limit=freezing,
        cycles_available=available,
    )
    script = b"".join(bytes([what]) + cycles.to_bytes(16, "little") for what, cycles in steps)
    found, _ = run(interpreter(), "canister_update run", environment, script)
    try:
        for what, cycles in steps:
            model.step(what, cycles)
    except RefusedError:
        assert isinstance(found, Trap)
        return
    assert found.answer.data == model.told
    assert found.cycle_balance == model.balance
    assert [call.cycles for call in found.calls] == model.calls
    assert found.cycles_accepted == available - model.available
