"""The life cycle of a canister, as its user asks for it."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

from sqlstable.canister import steps
from sqlstable.canister.hooks import Hooks, Persistence
from sqlstable.canister.life import Life
from sqlstable.canister.reply import Reply
from sqlstable.errors import MessageError
from sqlstable.ic.units import amount

State = Literal["running", "stopped", "empty"]
"""Whether a canister takes messages; an empty one has no code."""


class LifeCycle:
    """The part of `sqlstable.canister.canister.Canister` that is about its life cycle."""

    _life: Life

    def upgrade(
        self,
        *,
        hooks: Hooks | None = None,
        skip_pre_upgrade: bool = False,
        wasm_memory_persistence: Persistence | None = None,
        schema: Path | str | None = None,
        renames: Mapping[str, str] | None = None,
        dropped: Collection[str] = (),
        label: str | None = None,
    ) -> Reply:
        """Upgrade the canister: the heap goes, stable memory stays.

        The old code's ``pre_upgrade`` runs on the old heap; then there is new code, with a new
        heap, whose ``start`` and ``post_upgrade`` run. All of that is one message: it commits
        whole, or everything is as it was before, code, heap and stable memory.

        Args:
            hooks: The new code; None for the same code again.
            skip_pre_upgrade: Leaves ``pre_upgrade`` out, as for code whose hook traps.
            wasm_memory_persistence: ``keep`` goes on with the old heap, which the new code has to
                be made for (`Hooks.keeps_heap`); ``replace`` does not. Code that keeps its heap
                has to be told one of the two.
            schema: The schema that the new code wants: SQL, the path of a SQL file, or a folder of
                numbered migrations. It is checked, and the database migrated, first thing in
                ``post_upgrade``; where that fails or crosses a limit, all is as before. Tables
                that it does not name are deprecated, never dropped. The reply's ``notes`` say
                what became of it.
            renames: What the schema renames: ``{"table": "table"}`` or
                ``{"table.column": "table.column"}``.
            dropped: Each ``table.column`` that the schema drops, though its like is new.
            label: Name of the message in reports.

        Raises:
            MessageError: The canister has no code; or the heap cannot be kept, or may not be lost.
            MigrationError: The schema cannot be reached from the one that is there.
            Trap: A hook trapped, or passed a limit. An exception of a hook is raised as it is.

        Source:
            dfinity/ic rs/execution_environment/src/execution/upgrade.rs @ 1bc0a5953, 2025-10-31.
        """
        migration = None
        if schema is not None:
            from sqlstable.canister.migrating import UpgradeMigration  # noqa: PLC0415  few ask

            migration = UpgradeMigration(self._life, schema, renames=renames, dropped=dropped)
        ended = steps.upgrade(
            self._life,
            hooks=hooks,
            skip_pre_upgrade=skip_pre_upgrade,
            wasm_memory_persistence=wasm_memory_persistence,
            migration=migration,
            label=label,
        )
        return Reply([], ended, () if migration is None else migration.notes)

    def reinstall(self, hooks: Hooks | None = None, *, label: str | None = None) -> Reply:
        """Reinstall the canister: heap and stable memory go, ``start`` and ``init`` run.

        An empty canister, too, gets code in this way.

        Args:
            hooks: The code; None for the code that is there, or was there last.
            label: Name of the message in reports.

        Raises:
            Trap: A hook trapped, or passed a limit; the canister is as it was.
        """
        return Reply([], steps.reinstall(self._life, hooks=hooks, label=label))

    def uninstall(self, *, label: str | None = None) -> Reply:
        """Uninstall the code: heap and stable memory go, and the canister is empty.

        Raises:
            MessageError: It is empty already.

        Examples:
            >>> from sqlstable import Canister, MessageError
            >>> with Canister() as canister:
            ...     _ = canister.uninstall()
            ...     canister.state, len(canister.image())
            ('empty', 0)
        """
        return Reply([], steps.uninstall(self._life, label=label))

    def stop(self) -> None:
        """Stop the canister: it takes no more updates and queries until it is started.

        Steps of the life cycle do not need that; on the Internet Computer it makes sure that no
        answer to a call of the old code reaches the new one. Stopping twice does no harm.

        Raises:
            MessageError: A message awaits. On the Internet Computer stopping waits until it has
                gone on.

        Examples:
            >>> from sqlstable import Canister
            >>> with Canister() as canister:
            ...     canister.stop()
            ...     _ = canister.upgrade()
            ...     canister.start()
            ...     canister.state
            'running'
        """
        life = self._life
        with life.turn("stop"):
            if life.awaiting:
                raise MessageError(
                    f"{amount(len(life.awaiting), 'message')} awaiting, and a canister stops when "
                    "nothing awaits any more; stop it behind the block of awaiting()"
                )
            life.is_stopped = True

    def start(self) -> None:
        """Start the canister, whose messages are taken again; starting twice does no harm."""
        with self._life.turn("start"):
            self._life.is_stopped = False

    @property
    def state(self) -> State:
        """Whether it takes messages: ``running``, ``stopped``, or ``empty`` without any code."""
        life = self._life
        if life.is_empty:
            return "empty"
        return "stopped" if life.is_stopped else "running"

    @property
    def hooks(self) -> Hooks:
        """The code that is there, as far as the life cycle goes; of an empty one that before."""
        return self._life.hooks
