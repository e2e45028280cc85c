"""The steps of a canister's life cycle: what each does between its beginning and its end.

Each runs as one message, see `Life.step`. Inside of it the heap is there as it was until it is
let go, and a new one behind that; what `Life.statements` execute meanwhile is part of the message.
"""

from collections.abc import Callable
from dataclasses import replace

from sqlstable.canister.ended import EndedMessage
from sqlstable.canister.heap_door import HeapImage
from sqlstable.canister.hooks import Hook, Hooks, Persistence, check_hooks, heap_is_kept
from sqlstable.canister.life import EMPTY, Life
from sqlstable.canister.machine import Call
from sqlstable.canister.snapshots import Snapshot, Snapshots
from sqlstable.database.foreign import DatabaseSource
from sqlstable.database.transfer import import_database
from sqlstable.database.vfs import StableVFS
from sqlstable.errors import MessageError


def install(life: Life) -> None:
    """Have the first heap; an image that only takes queries is opened by no message."""
    image_file = life.memory.image_file
    if image_file is not None and image_file.is_read_only:
        life.start()
    else:
        is_new = not life.memory.wasm_pages

        def body() -> None:
            if is_new:
                life.part("start")
                life.part("init", opens=True)
            else:
                # Its code was installed in another process, and is not here.
                life.open()

        _run(life, Call("install"), body)


def upgrade(
    life: Life,
    *,
    hooks: Hooks | None = None,
    skip_pre_upgrade: bool = False,
    wasm_memory_persistence: Persistence | None = None,
    migration: Hook | None = None,
    label: str | None = None,
) -> EndedMessage:
    """Run the old code's pre_upgrade, go on with new code, and run its start and post_upgrade.

    Raises:
        MessageError: The canister has no code; or the heap cannot be kept, or may not be lost.
        SettingsError: ``wasm_memory_persistence`` is unknown.
    """
    with life.turn("upgrade"):
        if life.is_empty:
            raise MessageError(EMPTY)
        check_hooks(hooks)
        new = life.hooks if hooks is None else hooks
        is_kept = heap_is_kept(life.hooks, new, wasm_memory_persistence)
        life.is_heap_kept = is_kept

        def body() -> None:
            if not skip_pre_upgrade:
                life.part("pre_upgrade")
            life.hooks = new
            if not is_kept:
                life.stop()
            life.part("start")
            life.part("post_upgrade", opens=not is_kept, before=migration)

        return life.step(Call("upgrade", label=label), body)


def reinstall(life: Life, *, hooks: Hooks | None = None, label: str | None = None) -> EndedMessage:
    """Let heap and stable memory go, and install code.

    Raises:
        SettingsError: ``hooks`` is no code.
    """
    check_hooks(hooks)

    def body() -> None:
        if not life.is_empty:
            life.stop()
        life.memory.wipe()
        life.hooks = life.hooks if hooks is None else hooks
        life.is_empty = False
        life.opening = replace(life.opening, is_foreign=False)
        life.part("start")
        life.part("init", opens=True)

    return _run(life, Call("reinstall", label=label), body)


def uninstall(life: Life, *, label: str | None = None) -> EndedMessage:
    """Let code, heap and stable memory go.

    Raises:
        MessageError: There is no code any more.
    """

    def body() -> None:
        life.stop()
        life.memory.wipe()
        life.is_empty = True

    with life.turn("uninstall"):
        if life.is_empty:
            raise MessageError("the canister has no code to uninstall; reinstall it first")
        return life.step(Call("uninstall", label=label), body)


def load(life: Life, vfs: StableVFS, source: DatabaseSource) -> EndedMessage:
    """Copy a database in, with no limits, and open it; it is the turn of whoever calls."""

    def body() -> None:
        with life.machine.outside("import"):
            import_database(vfs.store, source)
        with life.machine.outside("open"):
            life.opening = replace(life.opening, is_foreign=True)
            life.stop()
            life.start()

    ended = life.step(Call("install", is_limited=False), body)
    life.state_settings()
    return ended


def load_snapshot(
    life: Life,
    snapshots: Snapshots,
    snapshot: Snapshot,
    *,
    heap: HeapImage | None,
    label: str | None,
) -> EndedMessage:
    """Put a snapshot in the place of everything; it is the turn of whoever calls.

    Args:
        life: Of the canister.
        snapshots: Those that it has.
        snapshot: One of them.
        heap: The heap to go on with; None opens the database on a new one.
        label: Name of the message in reports.
    """

    def body() -> None:
        log = life.memory.log
        if not life.is_empty:
            life.stop()
        # What is put back is nobody's statement, and is recorded as such.
        life.memory.log = log
        with life.machine.outside("load_snapshot"):
            snapshots.put_back(snapshot.id)
        life.is_empty = False
        is_foreign = life.opening.is_foreign or snapshot.is_uploaded
        life.opening = replace(life.opening, is_foreign=is_foreign)
        if heap is not None:
            assert life.machine.heap_door is not None
            life.machine.heap_door.wanted = heap
        life.open()

    try:
        ended = life.step(Call("load_snapshot", label=label, is_limited=False), body)
    finally:
        if life.machine.heap_door is not None:
            life.machine.heap_door.wanted = None
    life.state_settings()
    return ended


def empty_vfs(life: Life) -> StableVFS:
    """Return what a database can be copied through, as there is none yet.

    Raises:
        MessageError: There is one.
    """
    life.memory.check("install")
    vfs = life.view()
    if vfs.store.size_bytes:
        raise MessageError(
            f"the canister has a database of {vfs.store.size_bytes} bytes already; reinstall "
            "it first, or import into a new one"
        )
    return vfs


def _run(life: Life, call: Call, body: Callable[[], None]) -> EndedMessage:
    with life.turn(call.kind):
        return life.step(call, body)
