"""The open message of a memory: when one may begin, what a trap does to it, and how it ends.

**Invariants**

* A message that trapped stays trapped: it can only be rolled back.
* What a query did is never kept.
* Committing is the last thing that can fail. Everything that could goes before the commit point;
  each step behind it does no harm when it is done again, and is, wherever it was cut off.
"""

from threading import get_ident
from typing import TYPE_CHECKING

from sqlstable.errors import MessageError, SettingsError, Trap
from sqlstable.ic.limits import Limits
from sqlstable.ic.words import MESSAGE_KINDS
from sqlstable.memory import forks
from sqlstable.memory.image.durable import NotCommittedError, PageChange
from sqlstable.memory.seams import MessageStore, Watcher

if TYPE_CHECKING:
    from sqlstable.memory.image.imagefile import ImageFile


class OpenMessage:
    """The message that is open on a store, if there is one.

    Args:
        store: Where the bytes are.
        image_file: The image file that keeps the committed ones, if there is one.
    """

    def __init__(self, store: MessageStore, image_file: "ImageFile | None") -> None:
        self.kind: str | None = None
        "Of the open message, or None."
        self.thread: int | None = None
        "Identifier of the thread that began it, or None."
        self.trap: Trap | None = None
        "What every call raises."
        self.watchers: list[Watcher] = []
        self._store = store
        self._image_file = image_file
        self._change: PageChange | None = None
        "What is being committed."
        self._is_committed = False
        "Whether the message has passed its commit point."
        self._is_wiped = False
        self._left_behind: Trap | None = None
        "What each call raises in a child process, whose memory this is not."
        forks.watch(self)

    def begin(self, kind: str, limits: Limits | None) -> None:
        """Begin a message; see `StableMemory.begin`."""
        if self.kind is not None:
            raise MessageError(
                f"a message ({self.kind}) is open already; end it before beginning another"
            )
        if kind not in MESSAGE_KINDS:
            raise SettingsError(
                f"unknown message kind {kind!r}; use one of {', '.join(MESSAGE_KINDS)}"
            )
        self.check(kind)
        # An exception from outside may have come just before the end of the last one.
        self._change, self._is_committed, self._is_wiped = None, False, False
        self._store.begin(limits, kind)
        self.kind = kind
        self.thread = get_ident()

    def check(self, kind: str) -> None:
        """Refuse what `begin` would refuse for the image file's sake; see `StableMemory.check`."""
        if self._image_file is not None:
            self._image_file.check(kind)
        elif self._left_behind is not None:
            raise self._left_behind

    def commit(self) -> None:
        """Make the message's writes and growth permanent; see `StableMemory.commit`."""
        if self.kind is None:
            raise MessageError("no message is open; begin one first")
        if self.trap is not None:
            raise self.trap
        if self.kind == "query":
            raise MessageError("what a query does is never kept; roll it back, or begin an update")
        try:
            change = self._store.prepare()
            # Before the image has it: what comes from outside just behind must find it here.
            self._change = change
            if self._image_file is not None and not change.is_empty:
                self._image_file.commit(change)
        except NotCommittedError as error:
            raise self.poison(Trap(str(error))) from error
        except Trap as trap:
            raise self.poison(trap) from None
        self._is_committed = True
        try:
            self._finish(change)
        except Exception:  # noqa: BLE001  whatever it was, the message is committed
            self._finish(change)

    def wipe(self) -> None:
        """Become empty inside the open message; see `StableMemory.wipe`."""
        if self.kind is None or self._is_wiped or self._store.marks().accessed:
            raise MessageError(
                "stable memory is wiped at the very beginning of a message; begin one first"
            )
        self._is_wiped = True
        self._store.wipe()

    def rollback(self) -> None:
        """Forget the message's writes and growth; see `StableMemory.rollback`."""
        if self.kind is None:
            raise MessageError("no message is open; there is nothing to roll back")
        change = self._committed()
        if change is not None:
            # An exception from outside has cut the end of a commit off.
            self._finish(change)
            self.announce()
            return
        is_changed = self._store.rollback() or self.trap is not None
        self.trap = self._left_behind
        self._end()
        if is_changed:
            self.announce()

    def recover(self) -> bool:
        """Finish a message that was cut off, or forget it; see `StableMemory.recover`."""
        self.watchers.clear()
        self.trap = self._left_behind
        self._store.recover()
        change = self._committed()
        if change is not None:
            self._finish(change)
            return True
        self._store.rollback()
        self._end()
        return False

    def poison(self, trap: Trap) -> Trap:
        """Mark the open message as trapped; see `StableMemory.poison`."""
        if self.kind is None:
            return trap
        if self.trap is None:
            self.trap = trap
            for watcher in self.watchers:
                watcher.on_trap()
        return self.trap

    def seal(self) -> None:
        """Let nobody change anything any more, in a message or in none."""
        self.trap = Trap("the message was cut off")
        for watcher in self.watchers:
            watcher.on_trap()

    def announce(self) -> None:
        """Tell those who derive state from the bytes that these have changed underneath."""
        for watcher in self.watchers:
            watcher.on_rollback()

    def leave_behind(self) -> None:
        """Refuse everything from now on: this is a child process; an image says so by itself."""
        if self._image_file is None:
            self.trap = self._left_behind = Trap(forks.LEFT_BEHIND)

    def _committed(self) -> PageChange | None:
        """Return what has passed its commit point and is not finished."""
        change, image_file = self._change, self._image_file
        if change is None:
            return None
        is_in_image = image_file is not None and image_file.committed is change
        return change if self._is_committed or is_in_image else None

    def _finish(self, change: PageChange) -> None:
        """Do what is left behind the commit point."""
        self._store.commit(change)
        self.trap = self._left_behind
        self._end()

    def _end(self) -> None:
        self.kind = self.thread = None
        self._change, self._is_committed, self._is_wiped = None, False, False
        for watcher in self.watchers:
            watcher.on_end()
