"""Faults on demand: trap a message at any one of its accesses, and see that nothing remains.

An *access* is one read, write or truncation that SQLite asks of the database file, or one growth
of stable memory under it. The accesses of a message are counted from 0, in their order.

After a trap SQLite starts with an empty cache, so the next attempt may read more than the one
before. A sweep therefore goes on until the message gets through:

>>> from itertools import count
>>> from sqlstable import Canister, Trap
>>> canister = Canister()
>>> _ = canister.update("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER)")
>>> _ = canister.update("INSERT INTO account VALUES (1, 10), (2, 0)")
>>> before = canister.image()
>>> for access_index in count():
...     try:
...         with trap_at(canister, access_index), canister.message("update") as message:
...             _ = message.execute("UPDATE account SET balance = balance - 5 WHERE id = 1")
...             _ = message.execute("UPDATE account SET balance = balance + 5 WHERE id = 2")
...     except Trap:
...         assert canister.image() == before
...     else:
...         break
>>> canister.query("SELECT balance FROM account").rows
[(5,), (5,)]
>>> canister.close()

A trap behind the last access, when everything has happened but the message's own commit, is
`sqlstable.Message.trap` as the last call of the message.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlstable.canister.canister import Canister
from sqlstable.errors import SettingsError, Trap

__all__ = ["count_accesses", "list_accesses", "trap_at"]


def count_accesses(canister: Canister, action: Callable[[], object]) -> int:
    """Run ``action`` and return how many accesses it made.

    Args:
        canister: The canister that ``action`` sends messages to; they commit.
        action: Does one message or more, without an upgrade or reinstall.

    Returns:
        The number of accesses; `trap_at` takes indexes below it.

    Examples:
        >>> with Canister() as canister:
        ...     _ = canister.update("CREATE TABLE t (x)")
        ...     count_accesses(canister, lambda: canister.query("SELECT x FROM t"))
        2
    """
    return len(list_accesses(canister, action))


def list_accesses(canister: Canister, action: Callable[[], object]) -> tuple[str, ...]:
    """Run ``action`` and return the kinds of its accesses, in order.

    Args:
        canister: The canister that ``action`` sends messages to; they commit.
        action: Does one message or more, without an upgrade or reinstall.

    Returns:
        One of read, write, truncate, delete and grow for each access, to whichever file.

    Examples:
        >>> with Canister() as canister:
        ...     list_accesses(canister, lambda: canister.update("CREATE TABLE t (x)"))
        ('write', 'grow', 'write')
    """
    kinds: list[str] = []
    with _interceptor(canister, kinds.append):
        action()
    return tuple(kinds)


@contextmanager
def trap_at(canister: Canister, access_index: int) -> Iterator[None]:
    """Trap the message that makes access ``access_index`` of a block, just before it is made.

    That message is rolled back as for any other trap. Later accesses of the block go through, and
    so does all of it where there are fewer accesses.

    Args:
        canister: The canister that the block sends messages to.
        access_index: Counted from 0, over all messages of the block.

    Examples:
        >>> with Canister() as canister:
        ...     with trap_at(canister, 1):
        ...         canister.update("CREATE TABLE t (x)")
        Traceback (most recent call last):
        ...
        sqlstable.errors.Trap: injected trap: access 1 (grow)
    """
    accesses = 0

    def intercept(kind: str) -> None:
        nonlocal accesses
        index, accesses = accesses, accesses + 1
        if index == access_index:
            raise canister.memory.poison(Trap(f"injected trap: access {index} ({kind})"))

    with _interceptor(canister, intercept):
        yield


@contextmanager
def _interceptor(canister: Canister, intercept: Callable[[str], None]) -> Iterator[None]:
    """Let ``intercept`` see the accesses of a block, and the one before it again afterwards."""
    if canister.status().settings["engine"] != "native":
        raise SettingsError(
            "accesses are counted and trapped at on the native engine only; make the canister "
            "with engine='native', whose SQLite is the same"
        )
    messages = canister.vfs.store.messages
    previous = messages.interceptor
    messages.interceptor = intercept
    try:
        yield
    finally:
        messages.interceptor = previous
