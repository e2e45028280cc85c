"""The steps of a canister's life cycle: what each does between its beginning and its end.

Each runs as one message, see `Life.step`. Inside of it the heap is there as it was until it is
let go, and a new one behind that; what `Life.statements` execute meanwhile is part of the message.
"""

from collections.abc import Callable
from dataclasses import replace

from sqlstable.canister.ended import EndedMessage
from sqlstable.canister.life import Life
from sqlstable.canister.machine import Call
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
        _run(life, Call("install"), lambda: _open(life))


def upgrade(life: Life, *, label: str | None) -> EndedMessage:
    """Let the heap go, and start another one on the same stable memory."""

    def body() -> None:
        _reopen(life)

    return _run(life, Call("upgrade", label=label), body)


def reinstall(life: Life, *, label: str | None) -> EndedMessage:
    """Let heap and stable memory go."""

    def body() -> None:
        life.stop()
        life.memory.wipe()
        life.opening = replace(life.opening, is_foreign=False)
        _open(life)

    return _run(life, Call("reinstall", label=label), body)


def load(life: Life, vfs: StableVFS, source: DatabaseSource) -> EndedMessage:
    """Copy a database in, with no limits, and open it; it is the turn of whoever calls."""

    def body() -> None:
        with life.machine.outside("open"):
            import_database(vfs.store, source)
            life.opening = replace(life.opening, is_foreign=True)
            life.stop()
            life.start()

    ended = life.step(Call("install", is_limited=False), body)
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


def _open(life: Life) -> None:
    with life.machine.outside("open"):
        life.start()


def _reopen(life: Life) -> None:
    with life.machine.outside("open"):
        life.stop()
        life.start()


def _run(life: Life, call: Call, body: Callable[[], None]) -> EndedMessage:
    with life.turn(call.kind):
        return life.step(call, body)
