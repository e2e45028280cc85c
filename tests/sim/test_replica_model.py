"""A replica against a plain model of call contexts: scripts at random, with traps at random places.

The model is written from the interface specification, with lists and copies: a message runs on a
copy of its canister, which takes the place of the old one if nothing trapped.
"""

from collections import deque
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random

import pytest

from sqlstable.ic.principals import canister_id
from tests import replica_world as world

NAMES = ("a", "b", "c")
IDS = [canister_id(index) for index in range(len(NAMES))]
NOBODY = canister_id(50)


# -- scripts --------------------------------------------------------------------------------------


def random_script(random, depth, *, place):
    """Return what a message does, as a list; ``place`` is update, reply, reject or cleanup."""
    ops = []
    for _ in range(random.randint(0, 3)):
        kind = random.choice(["add", "add", "burn", "accept", "call", "call", "told"])
        if kind == "add":
            ops.append(("add", random.randint(1, 99)))
        elif kind == "burn":
            ops.append(("burn", random.randint(1, 99)))
        elif kind == "accept" and place != "cleanup":
            ops.append(("accept", random.randint(1, 400)))
        elif kind == "told" and place == "reply":
            ops.append(("refund",))
        elif kind == "told" and place == "reject":
            ops.append(("code",))
        elif kind == "call" and depth and place != "cleanup":
            ops.append(
                (
                    "call",
                    random.choice([*range(len(NAMES)), *range(len(NAMES)), None]),
                    random_script(random, depth - 1, place="update"),
                    random_script(random, depth - 1, place="reply"),
                    random_script(random, depth - 1, place="reject"),
                    random_script(random, 0, place="cleanup") if random.random() < 0.7 else None,
                    random.choice([0, 0, random.randint(1, 500)]),
                )
            )
    endings = [("reply",)] * 4 + [("reject",), ("trap",), ("trap",), None]
    ending = random.choice([None, None, ("trap",)] if place == "cleanup" else endings)
    if ending is not None:
        ops.insert(random.randint(0, len(ops)) if random.random() < 0.3 else len(ops), ending)
    return ops


def compiled(ops):
    """Return the script of a list."""
    return b"".join(map(_compiled, ops))


def _compiled(op):
    match op:
        case ("add", number):
            return world.add(number)
        case ("burn", cycles):
            return world.burn(cycles)
        case ("accept", cycles):
            return world.accept(cycles)
        case ("call", callee, argument, reply, reject, cleanup, cycles):
            return world.call(
                NOBODY if callee is None else IDS[callee],
                compiled(argument),
                reply=compiled(reply),
                reject=compiled(reject),
                # An empty cleanup is none, to the module.
                cleanup=b"" if cleanup is None else compiled(cleanup),
                cycles=cycles,
            )
    return {
        "reply": world.REPLY,
        "reject": world.REJECT,
        "trap": world.TRAP,
        "refund": world.COUNT_REFUND,
        "code": world.COUNT_REJECT_CODE,
    }[op[0]]


# -- the model ------------------------------------------------------------------------------------


class TrappedError(Exception):
    pass


def check(*, is_fine):
    if not is_fine:
        raise TrappedError


@dataclass
class State:
    count: int = 0
    cycles: int = 0


@dataclass
class Context:
    canister: int
    origin: object
    available: int = 0
    answered: bool = False
    outstanding: int = 0


@dataclass
class Model:
    states: list = field(default_factory=list)
    queue: deque = field(default_factory=deque)
    answers: dict = field(default_factory=dict)
    ran: list = field(default_factory=list)

    def submit(self, ticket, canister, ops):
        self.queue.append(("call", canister, ops, ticket, 0))

    def run(self):
        while self.queue:
            what, *facts = self.queue.popleft()
            (self.take_call if what == "call" else self.take_answer)(*facts)

    def take_call(self, canister, ops, origin, cycles):
        if canister is None:
            self.send_answer(origin, ("reject", 3), cycles)
            return
        context = Context(canister, origin, cycles)
        self.conclude(context, self.message(context, "update", ops))

    def take_answer(self, call, answer, refund):
        context, (_, _, _, reply, reject, cleanup, _) = call
        self.states[context.canister].cycles += refund
        context.outstanding -= 1
        ops = reply if answer[0] == "reply" else reject
        ended = self.message(context, "callback", ops, answer=answer, refund=refund)
        if ended[0] == "trap" and cleanup:
            self.message(context, "cleanup", cleanup, answer=answer)
        self.conclude(context, ended)

    def message(self, context, kind, ops, *, answer=None, refund=0):
        """Run a message; returns its answer and calls, or that it trapped."""
        state = deepcopy(self.states[context.canister])
        said, calls, available = None, [], context.available
        try:
            for op in ops:
                match op:
                    case ("add", number):
                        state.count += number
                    case ("burn", cycles):
                        state.cycles -= cycles
                    case ("accept", cycles):
                        accepted = min(cycles, available)
                        available -= accepted
                        state.cycles += accepted
                    case ("refund",):
                        state.count += refund
                    case ("code",):
                        state.count += answer[1]
                    case ("call", *_):
                        state.cycles -= op[6]
                        calls.append(op)
                    case _:
                        check(is_fine=op[0] != "trap" and said is None and not context.answered)
                        said = ("reply", state.count) if op[0] == "reply" else ("reject", 4)
        except TrappedError:
            self.ran.append((NAMES[context.canister], kind, True))
            return "trap", None, []
        self.ran.append((NAMES[context.canister], kind, False))
        self.states[context.canister] = state
        context.available = available
        return "done", said, calls

    def conclude(self, context, ended):
        _, said, calls = ended
        for call in calls:
            context.outstanding += 1
            self.queue.append(("call", call[1], call[2], (context, call), call[6]))
        if context.answered:
            return
        if said is None and not context.outstanding:
            said = ("reject", 5)
        if said is not None:
            context.answered = True
            refund, context.available = context.available, 0
            self.send_answer(context.origin, said, refund)

    def send_answer(self, origin, answer, refund):
        if isinstance(origin, int):
            self.answers[origin] = answer
        else:
            self.queue.append(("answer", origin, answer, refund))


# -- both -----------------------------------------------------------------------------------------


def outcome(result):
    if result.reply is not None:
        return "reply", int.from_bytes(result.reply[:8], "little")
    return "reject", int(result.rejection.code)


def owned(replica):
    """Return what each canister has, and has paid for calls."""
    return [it.cycles + it.cycles_paid for it in replica.canisters]


@pytest.mark.parametrize("seed", range(6))
def test_a_replica_does_what_the_model_does(seed):
    random = Random(seed)
    with world.scripted(*NAMES) as replica:
        model = Model([State(0, cycles) for cycles in owned(replica)])
        for _ in range(50):
            model.ran.clear()
            tickets = []
            for number in range(random.randint(1, 3)):
                callee = random.randrange(len(NAMES))
                ops = random_script(random, 3, place="update")
                tickets.append(replica.submit(NAMES[callee], "run", compiled(ops)))
                model.submit(number, callee, ops)
            replica.run()
            model.run()
            results = [replica.result(ticket) for ticket in tickets]
            ran = [(it.canister, it.kind, it.trap is not None) for it in results[0].executed]
            assert ran == model.ran
            assert [*map(outcome, results)] == [*map(model.answers.pop, range(len(tickets)))]
            for name, state in zip(NAMES, model.states, strict=True):
                heap, stable = world.counters(replica, name)
                assert heap == state.count
                assert stable == heap
            assert owned(replica) == [state.cycles for state in model.states]
            assert (replica.waiting_count, replica.cycles_under_way) == (0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_no_cycles_are_lost_wherever_one_looks(seed):
    random = Random(100 + seed)
    with world.scripted(*NAMES) as replica:
        total, burned = sum(owned(replica)), 0
        for _ in range(30):
            for _ in range(2):
                ops = random_script(random, 3, place="update")
                replica.submit(random.choice(NAMES), "run", compiled(ops))
            while replica.step():
                burned += sum(it.cycles.burned for it in replica.take_executed())
                assert sum(owned(replica)) + replica.cycles_under_way + burned == total


def test_two_runs_are_identical():
    def run(seed):
        random, told = Random(seed), []
        with world.scripted(*NAMES) as replica:
            for _ in range(20):
                ops = random_script(random, 3, place="update")
                result = replica.update(random.choice(NAMES), "run", compiled(ops))
                told += [repr(it) for it in result.executed]
                told += [repr(it) for it in replica.advance(random.randint(0, 9))]
        return told

    assert run(7) == run(7)
    assert run(7) != run(8)
