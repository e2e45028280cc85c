"""The snapshots of a canister, as its front door offers them."""

from pathlib import Path

from sqlstable.canister import steps
from sqlstable.canister.heap_door import HeapImage
from sqlstable.canister.life import Life
from sqlstable.canister.reply import Reply
from sqlstable.canister.snapshots import Snapshot, Snapshots
from sqlstable.errors import SnapshotError


class SnapshotDoor:
    """Takes, lists, loads, deletes, downloads and uploads snapshots.

    Those of a canister on an image file are kept in a folder beside it, as in
    ``ledger.stable.snapshots``, and outlive the process; those of one in memory go with it. On the
    native engine a snapshot has stable memory only: its heap is empty, and loading it opens the
    database anew.
    """

    _life: Life

    def take_snapshot(self, *, replace: Snapshot | str | None = None) -> Snapshot:
        """Take a snapshot of what is committed; it copies the OS pages changed since the last one.

        Args:
            replace: One that goes once the new one is there.

        Raises:
            SnapshotError: There are ten already, or there is no room.

        Examples:
            >>> from sqlstable import Canister
            >>> canister = Canister()
            >>> _ = canister.update("CREATE TABLE note (body TEXT)")
            >>> before = canister.take_snapshot()
            >>> _ = canister.update("INSERT INTO note VALUES ('later')")
            >>> canister.take_snapshot().os_pages_copied
            1
            >>> _ = canister.load_snapshot(before)
            >>> canister.query("SELECT count(*) FROM note").rows
            [(0,)]
            >>> canister.close()
        """
        life = self._life
        with life.turn("take_snapshot"):
            return _snapshots_of(life).take(
                replace_id=None if replace is None else _id_of(replace),
                heap=_heap_now(life),
                canister_version=life.observation.message_count,
                now=life.opening.settings.now,
            )

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """All snapshots, the oldest first."""
        life = self._life
        with life.turn("snapshots"):
            return _snapshots_of(life).listed()

    def load_snapshot(
        self, snapshot: Snapshot | str, *, stable_only: bool = False, label: str | None = None
    ) -> Reply:
        """Put a snapshot in the place of heap and stable memory, in one message.

        Its OS pages that are other than now are written, by nobody's statement, and no limit holds
        for them. A message that fails leaves everything as it was.

        Args:
            snapshot: What `take_snapshot` or `upload_snapshot` has returned, or its identifier.
            stable_only: Takes stable memory of a snapshot whose heap cannot run here, because it
                is another module's.
            label: Name of the message in reports.

        Raises:
            SnapshotError: It is another canister's, or another module's, or damaged.
            ImageError: Its stable memory holds something else than the layout.
        """
        life = self._life
        with life.turn("load_snapshot"):
            snapshots = _snapshots_of(life)
            found = snapshots.get(_id_of(snapshot))
            if isinstance(snapshot, Snapshot) and found != snapshot:
                raise SnapshotError(
                    f"snapshot {snapshot.id} is not this canister's, though one of its own has "
                    "that name; download it there, and upload it here"
                )
            heap = None if stable_only else _heap_of(life, snapshots, found)
            ended = steps.load_snapshot(life, snapshots, found, heap=heap, label=label)
            return Reply([], ended)

    def delete_snapshot(self, snapshot: Snapshot | str) -> None:
        """Delete a snapshot; others that share OS pages with it stay whole.

        Raises:
            SnapshotError: There is none of that name.
        """
        with self._life.turn("delete_snapshot"):
            _snapshots_of(self._life).delete(_id_of(snapshot))

    def download_snapshot(
        self, snapshot: Snapshot | str, folder: Path | str, *, resume: bool = False
    ) -> None:
        """Write a snapshot as the folder that dfx and icp-cli write, and upload.

        Args:
            snapshot: Which.
            folder: Made, or empty.
            resume: Whether to go on with a download into it that was cut off.

        Raises:
            SnapshotError: Something else lies there, or there is no room.
        """
        with self._life.turn("download_snapshot"):
            _snapshots_of(self._life).download(_id_of(snapshot), folder, resume=resume)

    def upload_snapshot(
        self, folder: Path | str, *, replace: Snapshot | str | None = None
    ) -> Snapshot:
        """Take in a snapshot from a folder, which dfx, icp-cli or `download_snapshot` has written.

        Args:
            folder: It; nothing in it is changed.
            replace: One that goes once the new one is there.

        Raises:
            SnapshotError: The folder is damaged, or was not downloaded whole.
        """
        with self._life.turn("upload_snapshot"):
            return _snapshots_of(self._life).upload(
                folder, replace_id=None if replace is None else _id_of(replace)
            )


def _snapshots_of(life: Life) -> Snapshots:
    if life.snapshots is None:
        life.snapshots = Snapshots(life.memory)
    return life.snapshots


def _heap_now(life: Life) -> HeapImage | None:
    if life.is_empty:
        raise SnapshotError(
            "the canister is empty: its code was uninstalled, and there is nothing to take a "
            "snapshot of; reinstall it first"
        )
    door = life.machine.heap_door
    return None if door is None else door.take()


def _heap_of(life: Life, snapshots: Snapshots, snapshot: Snapshot) -> HeapImage | None:
    """Return the heap to go on with, which is the running module's; None: a new one.

    Raises:
        SnapshotError: It is another module's.
    """
    if not snapshot.module_size_bytes:
        # Taken where there was no module: whatever runs here opens what is in stable memory.
        return None
    door = life.machine.heap_door
    if door is None:
        raise SnapshotError(
            f"snapshot {snapshot.id} has a module of {snapshot.module_size_bytes} bytes and its "
            "heap, and the native engine runs none; stable_only takes stable memory alone"
        )
    heap = snapshots.heap_of(snapshot.id)
    if heap is None or heap.module != door.module:
        raise SnapshotError(
            f"snapshot {snapshot.id} is of another module, of {snapshot.module_size_bytes} bytes, "
            "than the one that runs here, which its heap would mean nothing to; stable_only takes "
            "stable memory alone"
        )
    return heap


def _id_of(snapshot: Snapshot | str) -> str:
    return snapshot.id if isinstance(snapshot, Snapshot) else snapshot
