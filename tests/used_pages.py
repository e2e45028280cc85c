"""What a database holds, whatever its page cache spilled on the way."""

from sqlstable import StableMemory
from sqlstable.layout.layout import Peek
from sqlstable.layout.layouts import layout_named


def used_pages(image, rows, layout="raw"):
    """Return the SQLite pages that hold something, by number, with their bytes.

    What the others hold depends on what was spilled. ``rows`` returns the rows of a query on the
    main database, to which the whole image belongs.
    """
    ((page_size,),) = rows("PRAGMA page_size")
    numbers = {1, *(number for (number,) in rows("SELECT pageno FROM dbstat"))}
    peek = Peek.at(StableMemory.from_image(image))
    place = layout_named(layout).locate(peek)
    return {
        number: b"".join(
            peek.read(*piece) for piece in place.pieces((number - 1) * page_size, page_size)
        )
        for number in sorted(numbers)
    }
