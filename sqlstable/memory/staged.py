"""A store that stages: a message's writes go to a second, equally sparse backing.

The bytemap says for each OS page which of the two holds its bytes. Commit copies the dirty OS pages
over, rollback forgets them. Both cost what was touched, not what the memory holds.

**Invariants**

* The committed bytes change in `Staged.commit` only (and by calls outside of any message).
* An OS page that is marked as dirty lies in the staging backing whole.
* Bytes beyond the size are zero in both backings.
"""

from typing import TYPE_CHECKING, Final

from sqlstable.errors import OutOfBoundsTrap
from sqlstable.ic.limits import Limits
from sqlstable.ic.units import MIB, OS_PAGE_BYTES, WASM_PAGE_BYTES, os_pages_spanned
from sqlstable.memory.backing import Backing, Bytes
from sqlstable.memory.bytemap import DIRTY, Bytemap
from sqlstable.memory.earlier import EarlierParts
from sqlstable.memory.image.durable import PageChange, os_page_runs
from sqlstable.memory.seams import OUT_OF_BOUNDS, Counting

if TYPE_CHECKING:
    from sqlstable.memory.image.imagefile import ImageFile

STAGED_BYTES_KEPT: Final = 64 * MIB
"""Staged memory that is kept for the next messages; beyond it, commit gives it back."""

BULK_BYTES: Final = 16 * MIB
"""A message that stages more than that is a load: what it staged is given back at once, because
the messages that follow rarely need as much."""

_LOOPED_OS_PAGES: Final = 64
"""Up to so many dirty OS pages, a plain loop applies them quicker than sorting does."""


class Staged:
    """Committed bytes in one backing, those of the open message in another.

    Args:
        backing: Where committed bytes are kept.
        staging: A second one of its kind, empty.
        image_file: The image file that the first one shows, if there is one.
    """

    def __init__(
        self, backing: Backing, staging: Backing, image_file: "ImageFile | None" = None
    ) -> None:
        self.backing = backing
        self.staging = staging
        flat = backing.flat
        self.bytemap = Bytemap(0 if flat is None else len(flat) // OS_PAGE_BYTES)
        self.wasm_pages = 0 if image_file is None else image_file.wasm_pages
        self.committed_wasm_pages = self.wasm_pages
        self._image_file = image_file
        self._wiped: Backing | None = None
        "The committed bytes, while a message has wiped them."
        self._earlier: EarlierParts | None = None
        "The backing, while there are earlier parts of the message."
        self._unchanged = PageChange((), staging, 0, 0)
        self._staged_bytes = 0
        self._staged_reach_bytes = 0

    # -- bytes ----------------------------------------------------------------------------------

    def size(self) -> int:
        """Return the size in Wasm pages."""
        return self.wasm_pages

    def grow(self, wasm_pages: int, wasm_pages_max: int) -> int:
        """Add zeroed Wasm pages; none is kept anywhere before it is written."""
        old = self.wasm_pages
        if wasm_pages < 0 or old + wasm_pages > wasm_pages_max:
            return -1
        self.wasm_pages = old + wasm_pages
        return old

    def access(self, address: int, length: int, *, write: bool) -> None:
        """Check, mark, and make dirty OS pages whole in the staging backing."""
        if length == OS_PAGE_BYTES and write and not address & (OS_PAGE_BYTES - 1):
            # A whole OS page, as nearly always.
            if not 0 <= address < self.wasm_pages * WASM_PAGE_BYTES:
                raise OutOfBoundsTrap(OUT_OF_BOUNDS)
            if self.bytemap.mark(address >> 12) != DIRTY:
                self.bytemap.first_write(address >> 12)
            return
        if length == 0:
            return
        if not 0 <= address < address + length <= self.wasm_pages * WASM_PAGE_BYTES:
            raise OutOfBoundsTrap(OUT_OF_BOUNDS)
        pages = os_pages_spanned(address, length)
        if not write:
            self.bytemap.touch(pages, write=False)
            return
        ragged = []
        # The first and last OS page may be covered in part: the rest of them is copied.
        for os_page in {pages.start, pages.stop - 1}:
            start = os_page * OS_PAGE_BYTES
            covered = address <= start and start + OS_PAGE_BYTES <= address + length
            if not covered and self.bytemap.mark(os_page) != DIRTY:
                ragged.append(start)
        self.bytemap.touch(pages, write=True)
        for start in ragged:
            self.staging.write(start, self.backing.read(start, OS_PAGE_BYTES))

    def read(self, address: int, length: int) -> Bytes:
        """Read from the one or the other, or put both together by OS pages."""
        if length == 0 or not self.bytemap.dirty:
            return self.backing.read(address, length)
        pages = os_pages_spanned(address, length)
        states = self.bytemap.states(pages)
        dirty = states.count(DIRTY)
        if dirty == len(states):
            return self.staging.read(address, length)
        if dirty == 0:
            return self.backing.read(address, length)
        result = bytearray(self.backing.read(address, length))
        for os_page, state in zip(pages, states, strict=True):
            if state == DIRTY:
                start = max(os_page * OS_PAGE_BYTES, address)
                stop = min((os_page + 1) * OS_PAGE_BYTES, address + length)
                result[start - address : stop - address] = self.staging.read(start, stop - start)
        return bytes(result)

    def write(self, address: int, data: Bytes) -> None:
        """Stage the bytes; outside of a message nothing is dirty, and they are committed ones."""
        backing = self.staging if self.bytemap.dirty else self.backing
        backing.write(address, data)

    def close(self) -> None:
        """Close what no image file closes."""
        self.staging.close()
        self.bytemap.close()
        if self._image_file is None:
            self.backing.close()

    # -- messages -------------------------------------------------------------------------------

    def begin(self, limits: Limits | None, kind: str, counting: Counting = "on") -> None:
        """Set the limits, and count as that says."""
        if counting == "anew":
            self._lay_aside()
        elif counting == "together":
            self._join()
        self.bytemap.begin(limits, kind)

    def prepare(self) -> PageChange:
        """Return what the message has changed."""
        if self._earlier is not None:
            self._join()
        pages = self.wasm_pages
        if not self.bytemap.dirty and pages == self.committed_wasm_pages and self._wiped is None:
            # As most messages: one record does for all of them.
            if self._unchanged.wasm_pages_after != pages:
                self._unchanged = PageChange((), self.staging, pages, pages)
            return self._unchanged
        return PageChange(
            self.bytemap.dirty,
            self.staging,
            self.committed_wasm_pages,
            self.wasm_pages,
            self._wiped is not None,
        )

    def commit(self, change: PageChange) -> None:
        """Copy the dirty OS pages over, unless the image file has them already."""
        if self.bytemap.dirty:
            self._note_staged()
            if self._image_file is None:
                self._apply(self.bytemap.dirty)
        if self._wiped is not None:
            self._end_wipe(self.backing)
        self.committed_wasm_pages = change.wasm_pages_after
        if self._staged_bytes > STAGED_BYTES_KEPT:
            self._give_back()
        self.bytemap.clear()

    def rollback(self) -> bool:
        """Forget what is staged."""
        is_changed = bool(self.bytemap.dirty) or self.wasm_pages != self.committed_wasm_pages
        if self._earlier is not None:
            is_changed = is_changed or bool(self._earlier.pages)
            self.backing, self._earlier = self._earlier.below, None
        if self._wiped is not None:
            self._end_wipe(self._wiped)
            is_changed = True
        if is_changed:
            self._note_staged()
            if self._image_file is not None:
                # A commit that was cut off may have made it shorter: nothing behind can be read.
                self.committed_wasm_pages = self._image_file.wasm_pages
            self.wasm_pages = self.committed_wasm_pages
        if self._staged_bytes > STAGED_BYTES_KEPT:
            self._give_back()
        self.bytemap.clear()
        return is_changed

    def wipe(self) -> None:
        """Put the committed bytes aside."""
        self._wiped, self.backing = self.backing, self.backing.empty()
        self.wasm_pages = 0

    def recover(self) -> None:
        """Nothing is in doubt: the bytemap says it all."""

    # -- inside ---------------------------------------------------------------------------------

    def _lay_aside(self) -> None:
        """Put what the message has written so far over the committed bytes, and clear its marks."""
        bytemap, earlier = self.bytemap, self._earlier
        if bytemap.dirty or earlier is not None:
            if earlier is None:
                earlier = EarlierParts(self.backing)
            read = self.staging.read
            for os_page in bytemap.dirty:
                earlier.pages[os_page] = bytes(read(os_page << 12, OS_PAGE_BYTES))
            earlier.accessed.update(bytemap.accessed)
            self.backing = self._earlier = earlier
        bytemap.clear()

    def _join(self) -> None:
        """Stage what earlier parts wrote, and mark all that they touched."""
        earlier, bytemap = self._earlier, self.bytemap
        if earlier is None:
            return
        # All of it has passed the limits of its part.
        bytemap.begin(None, "")
        for os_page, content in earlier.pages.items():
            if bytemap.mark(os_page) != DIRTY:
                self.staging.write(os_page << 12, content)
                bytemap.first_write(os_page)
        for os_page in earlier.accessed:
            if not bytemap.mark(os_page):
                bytemap.first_read(os_page)
        self.backing, self._earlier = earlier.below, None

    def _end_wipe(self, kept: Backing) -> None:
        """Go on with one of the two backings, or with the image's, which holds everything then."""
        if self._image_file is not None:
            kept = self._image_file.backing
        assert self._wiped is not None
        other = self._wiped if kept is self.backing else self.backing
        self.backing, self._wiped = kept, None
        other.close()

    def _apply(self, dirty: list[int]) -> None:
        write, read = self.backing.write, self.staging.read
        if len(dirty) <= _LOOPED_OS_PAGES:
            for os_page in dirty:
                write(os_page << 12, read(os_page << 12, OS_PAGE_BYTES))
        else:
            for start, length in os_page_runs(dirty):
                write(start, read(start, length))

    def _note_staged(self) -> None:
        reach_bytes = self.wasm_pages * WASM_PAGE_BYTES
        staged_bytes = len(self.bytemap.dirty) * OS_PAGE_BYTES
        self._staged_bytes += staged_bytes
        if staged_bytes > BULK_BYTES:
            self._staged_bytes += STAGED_BYTES_KEPT
        self._staged_reach_bytes = max(self._staged_reach_bytes, reach_bytes)

    def _give_back(self) -> None:
        self.staging.discard(0, self._staged_reach_bytes)
        self._staged_bytes = self._staged_reach_bytes = 0
