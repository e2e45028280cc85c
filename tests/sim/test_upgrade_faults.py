"""Fault sweep through upgrades: where any part of one fails, code, heap and bytes are as before.

The fault model: an upgrade stops at one access to stable memory, of whichever part; when its
instructions have run out; when a part passes one of its limits on OS pages; or by an exception that
a hook raises. On the native engine the heap is modelled: settings, TEMP objects and counters come
back, the page cache does not, so costs are compared on the wasm engine alone.
"""

from contextlib import ExitStack
from itertools import count, product

import pytest

from sqlstable import Hooks, LimitTrap, Trap
from tests.upgrade_world import (
    ENGINES,
    HOOKS,
    KEEPING,
    LAYOUTS,
    PROBES,
    Faults,
    State,
    answers,
    comparable_image,
    init,
    limited,
    make_canister,
)

pytestmark = pytest.mark.slow

STEPS = {
    "upgrade": lambda canister: canister.upgrade(),
    "keep": lambda canister: canister.upgrade(wasm_memory_persistence="keep"),
    "reinstall": lambda canister: canister.reinstall(),
    "uninstall": lambda canister: canister.uninstall(),
}
HOOKS_OF = {"keep": KEEPING}


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.mark.parametrize(
    ("layout", "step", "name"),
    [
        *product(LAYOUTS, ["upgrade", "keep"], [None]),
        *product(["managed"], ["upgrade", "reinstall"], ["app.stable"]),
    ],
)
def test_a_trap_at_each_access_leaves_everything_as_it_was(engine, layout, step, name, tmp_path):
    faults, hooks = Faults(), HOOKS_OF.get(step, HOOKS)
    path = None if name is None else tmp_path / name
    with ExitStack() as stack:
        canister = stack.enter_context(
            make_canister(engine, layout, path, faults=faults, hooks=hooks)
        )
        twin = stack.enter_context(make_canister(engine, layout, hooks=hooks))
        before = State.of(canister)
        traps = 0
        for at in count():
            try:
                with faults.trap(canister, at):
                    STEPS[step](canister)
            except Trap as trap:
                traps += 1
                found = str(trap), State.of(canister)
            else:
                break
            assert "injected" in found[0]
            assert found[1] == before, at
        assert traps > (25 if step == "upgrade" else 10)
        STEPS[step](twin)
        assert comparable_image(canister) == comparable_image(twin)
        if step != "reinstall":
            is_kept = step == "keep"
            assert answers(canister, has_temp=is_kept) == answers(twin, has_temp=is_kept)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_the_heap_was_answers_and_costs_the_same_behind_failed_upgrades(engine, layout):
    faults = Faults()
    with ExitStack() as stack:
        canister = stack.enter_context(make_canister(engine, layout, faults=faults))
        twin = stack.enter_context(make_canister(engine, layout))
        for at in (0, 7, 15):
            with pytest.raises(Trap, match="injected"), faults.trap(canister, at):
                canister.upgrade()
            assert answers(canister) == answers(twin)
        assert len(answers(canister)) == len(PROBES)


@pytest.mark.parametrize(("step", "name"), [("upgrade", "app.stable"), ("keep", None)])
def test_instructions_that_run_out_anywhere_leave_everything_as_it_was(step, name, tmp_path):
    hooks = HOOKS_OF.get(step, HOOKS)
    path = None if name is None else tmp_path / name
    with ExitStack() as stack:
        canister = stack.enter_context(make_canister("wasm", "managed", path, hooks=hooks))
        twin = stack.enter_context(make_canister("wasm", "managed", hooks=hooks))
        spare = stack.enter_context(make_canister("wasm", "managed", hooks=hooks))
        parts = STEPS[step](spare).parts
        total = sum(part.instructions for part in parts)
        borders = [sum(part.instructions for part in parts[:number]) for number in (1, 2)]
        points = sorted({*range(0, total, total // 30), *borders, total - 1})
        before = State.of(canister)
        for point in points:
            with (
                limited(canister, "upgrade", instructions_max=point),
                pytest.raises(LimitTrap) as caught,
            ):
                STEPS[step](canister)
            assert str(caught.value) == (
                f"Canister exceeded the limit of {point} instructions for single message execution."
            )
            assert State.of(canister) == before, point
        with limited(canister, "upgrade", instructions_max=total):
            assert STEPS[step](canister).parts == parts
        STEPS[step](twin)
        assert comparable_image(canister) == comparable_image(twin)
        is_kept = step == "keep"
        assert answers(canister, has_temp=is_kept) == answers(twin, has_temp=is_kept)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["os_pages_accessed_max", "os_pages_dirty_max"])
def test_each_part_has_limits_of_its_own(engine, layout, name):
    """All that a part needs is enough for it, whatever the others take; one less is not."""
    field = name.removesuffix("_max")
    kinds = {"pre_upgrade": "upgrade", "start": "update", "post_upgrade": "upgrade"}
    for chosen, kind in kinds.items():
        with make_canister(engine, layout) as canister:
            parts = {part.name: getattr(part, field) for part in canister.upgrade().parts}
            assert set(parts) == set(kinds)
            assert sum(parts.values()) > max(parts.values())
            others = [parts[it] for it in parts if kinds[it] == kind and it != chosen]
            needed = parts[chosen]
            before = State.of(canister)
            if needed > max(others, default=0):
                with pytest.raises(LimitTrap), limited(canister, kind, **{name: needed - 1}):
                    canister.upgrade()
                assert State.of(canister) == before
            # The filler has grown, but by fewer SQLite pages than a part touches.
            with limited(canister, kind, **{name: sum(parts.values()) - 1}):
                assert canister.upgrade().outcome == "committed"


@pytest.mark.parametrize("part", ["pre_upgrade", "start", "post_upgrade"])
@pytest.mark.parametrize(
    ("error", "layout", "name"),
    [
        (Trap, "raw", "app.stable"),
        (ValueError, "managed", None),
        (KeyboardInterrupt, "managed", "app.stable"),
    ],
)
def test_an_exception_of_a_hook_leaves_everything_as_it_was(
    engine, error, layout, name, part, tmp_path
):
    path = None if name is None else tmp_path / name

    def fail(message):
        HOOKS.of(part)(message)
        raise error("on purpose")

    old = Hooks(init=init, pre_upgrade=fail) if part == "pre_upgrade" else HOOKS
    new = HOOKS if part == "pre_upgrade" else Hooks(**{part: fail})
    with ExitStack() as stack:
        canister = stack.enter_context(make_canister(engine, layout, path, hooks=old))
        twin = stack.enter_context(make_canister(engine, layout, hooks=old))
        before = State.of(canister)
        with pytest.raises(error, match="on purpose"):
            canister.upgrade(hooks=new)
        assert State.of(canister) == before
        assert answers(canister) == answers(twin)
