"""Traps inside of upgrades, and what a database comes to, for the tests of schemas that change."""

from contextlib import contextmanager
from unittest import mock

from sqlstable import Trap
from sqlstable.schema.trial import contents


@contextmanager
def trap_in_upgrade(canister, access_index):
    """Trap an upgrade at one access of the heap that it starts, counted from 0."""
    accesses = 0

    def intercept(kind):
        nonlocal accesses
        index, accesses = accesses, accesses + 1
        if index == access_index:
            raise canister.memory.poison(Trap(f"injected trap: access {index} ({kind})"))

    observation = canister._life.observation
    watch = observation.watch

    def watch_and_trap(vfs):
        watch(vfs)
        vfs.store.messages.interceptor = intercept

    with mock.patch.object(observation, "watch", watch_and_trap):
        yield
    canister.vfs.store.messages.interceptor = None


def dump(canister):
    """Return all definitions and rows of the code's own objects."""
    with reading(canister) as execute:
        return contents(execute)


@contextmanager
def reading(canister):
    """Give what reads the database as it is now, unrecorded."""
    connection = canister.vfs.observe()
    try:
        yield lambda sql, params=None: list(connection.execute(sql, params))
    finally:
        connection.close()
