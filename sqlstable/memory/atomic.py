"""What changes by messages, each of which is there whole or leaves nothing.

**Invariants**

* A message that trapped stays trapped: every later call raises the same trap, and it can only be
  rolled back.
* What a query did is never kept.
* Committing is the last thing that can fail. Everything that could goes before the commit point;
  each step behind it does no harm when it is done again, and is, wherever it was cut off.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import TYPE_CHECKING

from sqlstable.errors import MessageError, SettingsError, Trap
from sqlstable.ic.limits import Limits
from sqlstable.ic.words import DISCARDED_KINDS, MESSAGE_KINDS
from sqlstable.memory import forks
from sqlstable.memory.bytemap import Bytemap
from sqlstable.memory.image.durable import NotCommittedError, PageChange
from sqlstable.memory.seams import MessageStore, Watcher

if TYPE_CHECKING:
    from sqlstable.memory.image.imagefile import ImageFile
    from sqlstable.memory.snapshots.changed import ChangedPages


class Atomic:
    """The messages of a store, one at a time: how they begin, what a trap does, how they end.

    Args:
        store: Where the bytes are.
        limits: What limits messages, or None for nothing.
        image_file: The image file that keeps the committed bytes, if there is one.
    """

    def __init__(
        self, store: MessageStore, limits: Limits | None, image_file: "ImageFile | None"
    ) -> None:
        self.limits = limits
        self.image_file = image_file
        self.kind: str | None = None
        "Of the open message, or None."
        self.thread: int | None = None
        "Identifier of the thread that began it, or None."
        self.trap: Trap | None = None
        "What every call raises."
        self.watchers: list[Watcher] = []
        self.changed: ChangedPages | None = None
        "Is told what each message changes, where snapshots are taken."
        self.number = 0
        "How many messages have begun."
        self._store = store
        self._change: PageChange | None = None
        "What is being committed."
        self._is_committed = False
        "Whether the message that began last has passed its commit point."
        self._is_wiped = False
        self._left_behind: Trap | None = None
        "What each call raises in a child process, whose memory this is not."
        forks.watch(self)

    @property
    def bytemap(self) -> Bytemap:
        """Which OS pages the open message has touched, and its limits on them."""
        return self._store.bytemap

    @contextmanager
    def message(self, kind: str = "update") -> Iterator[None]:
        """Run a block as one message: it commits whole, or leaves nothing.

        Args:
            kind: update, query, upgrade, install or reinstall; a query's writes are discarded.

        Raises:
            Trap: The message trapped, even if the block swallowed the exception.
        """
        self.begin(kind)
        try:
            yield
        except BaseException:
            self.rollback()
            raise
        if self.trap is not None:
            trap = self.trap
            self.rollback()
            raise trap
        if kind in DISCARDED_KINDS:
            self.rollback()
            return
        try:
            self.commit()
        except BaseException:
            if self.kind is not None:
                self.rollback()
            raise

    def begin(self, kind: str) -> None:
        """Begin a message.

        Raises:
            MessageError: One is open already; messages do not nest.
            SettingsError: There is no such kind.
            ImageError: The image file takes no message any more: it was changed by somebody else,
                or belongs to a parent process.
            Trap: The image file is read-only, and the message is no query; or the memory is a
                parent process's.
        """
        if self.kind is not None:
            raise MessageError(
                f"a message ({self.kind}) is open already; end it before beginning another"
            )
        if kind not in MESSAGE_KINDS:
            raise SettingsError(
                f"unknown message kind {kind!r}; use one of {', '.join(MESSAGE_KINDS)}"
            )
        if self.image_file is not None or self._left_behind is not None:
            self.check(kind)
        # What comes from outside may have cut the last one off just before it was over.
        self._change, self._is_committed, self._is_wiped = None, False, False
        self.number += 1
        self._store.begin(self.limits, kind)
        self.kind = kind
        self.thread = get_ident()

    def limit(self, limits: Limits | None) -> None:
        """Set what limits the open message from now on, None for nothing."""
        assert self.kind is not None
        self._store.begin(limits, self.kind)

    def next_part(self, kind: str) -> None:
        """Let the open message's next part begin: its OS pages count from nothing.

        What the parts before it wrote is there, and goes if the message does.

        Args:
            kind: Of message, whose limits the part has.
        """
        assert self.kind is not None
        self._store.begin(self.limits, kind, "anew")

    def join_parts(self) -> None:
        """Let the open message end as one whole, whatever its parts were."""
        assert self.kind is not None
        self._store.begin(self.limits, self.kind, "together")

    def check(self, kind: str) -> None:
        """Refuse what `begin` would refuse for the image file's sake, without beginning.

        For whoever reads committed bytes before: a map of a file that was cut off kills.

        Raises:
            ImageError: As for `begin`.
            Trap: As for `begin`.
        """
        if self.image_file is not None:
            self.image_file.check(kind)
        elif self._left_behind is not None:
            raise self._left_behind

    def commit(self) -> None:
        """Make the message's writes and growth permanent.

        Raises:
            MessageError: No message is open, or it is a query.
            Trap: The message trapped, or its image file has no room for it; it is still open and
                can only be rolled back.
        """
        if self.kind is None:
            raise MessageError("no message is open; begin one first")
        if self.trap is not None:
            raise self.trap
        if self.kind in DISCARDED_KINDS:
            raise MessageError("what a query does is never kept; roll it back, or begin an update")
        try:
            # Known before the image has it: from outside it may be cut off just behind.
            change = self._change = self._store.prepare()
            if self.image_file is not None and not change.is_empty:
                self.image_file.commit(change)
        except NotCommittedError as error:
            raise self.poison(Trap(str(error))) from error
        except Trap as trap:
            raise self.poison(trap) from None
        self._is_committed = True
        try:
            self._finish(change)
        except Exception:  # noqa: BLE001  whatever it was, the message is committed
            self._finish(change)

    def rollback(self) -> None:
        """Forget the message's writes and growth; harmless where nothing was written.

        Raises:
            MessageError: No message is open.
        """
        if self.kind is None:
            raise MessageError("no message is open; there is nothing to roll back")
        change = self._change
        if change is not None and self._has_committed(change):
            # What came from outside has cut the end of a commit off.
            self._finish(change)
            self.announce()
            return
        is_changed = self._store.rollback() or self.trap is not None
        self.trap = self._left_behind
        self._end()
        if is_changed:
            self.announce()

    def seal(self) -> None:
        """Let nobody change anything any more, in a message or in none."""
        self.trap = Trap("the message was cut off")
        for watcher in self.watchers:
            watcher.on_trap()

    def recover(self) -> None:
        """Finish a message that was cut off behind its commit point, or forget one before it.

        Nobody watches the memory any more.
        """
        self.watchers.clear()
        self.trap = self._left_behind
        self._store.recover()
        change = self._change
        if change is not None and self._has_committed(change):
            self._finish(change)
            return
        self._store.rollback()
        self._end()

    def has_committed_since(self, number: int) -> bool:
        """Whether the message that began last did so behind a number, and is committed."""
        return self.number > number and self._is_committed

    def poison(self, trap: Trap) -> Trap:
        """Mark the open message as trapped, and return the trap to be raised.

        Returns:
            ``trap``, or the one with which the message had trapped before.
        """
        if self.kind is None:
            return trap
        if self.trap is None:
            self.trap = trap
            for watcher in self.watchers:
                watcher.on_trap()
        return self.trap

    def announce(self) -> None:
        """Tell those who derive state from the bytes that these have changed underneath."""
        for watcher in self.watchers:
            watcher.on_rollback()

    def leave_behind(self) -> None:
        """Refuse everything from now on: this is a child process; an image says so by itself."""
        if self.image_file is None:
            self.trap = self._left_behind = Trap(forks.LEFT_BEHIND)

    def reset(self) -> None:
        """Become empty again, as reinstalling a canister does.

        Raises:
            MessageError: A message is open.
        """
        if self.kind is not None:
            raise MessageError(
                f"a message ({self.kind}) is open; end it before the memory is reset"
            )
        self.begin("reinstall")
        self.wipe()
        self.commit()
        self.announce()

    def wipe(self) -> None:
        """Become empty inside the open message; a rollback brings everything back.

        Raises:
            MessageError: No message is open, or it has accessed something already.
        """
        if self.kind is None or self._is_wiped or self.bytemap.accessed:
            raise MessageError(
                "stable memory is wiped at the very beginning of a message; begin one first"
            )
        self._is_wiped = True
        self._store.wipe()

    def _has_committed(self, change: PageChange) -> bool:
        """Whether a change has passed its commit point, behind which it is finished only."""
        image_file = self.image_file
        return self._is_committed or (image_file is not None and image_file.committed is change)

    def _finish(self, change: PageChange) -> None:
        """Do what is left behind the commit point."""
        self._is_committed = True
        if self.changed is not None:
            # Before the store clears what it lists.
            self.changed.note(change)
        self._store.commit(change)
        self.trap = self._left_behind
        self._end()

    def _end(self) -> None:
        self.kind = self.thread = self._change = None
        for watcher in self.watchers:
            watcher.on_end()
