"""Numbers as people read them: counts, shares, sizes and bars."""

from typing import Final

from sqlstable.ic.units import GIB, KIB, MIB, TIB

UNKNOWN: Final = "-"
"""Stands where a number was not counted."""

COUNT_SPELLED_MAX: Final = 99_999_999
"""Counts above are rounded, so that no column outgrows its table; JSON and CSV have them whole."""

_EIGHTHS: Final = " ▏▎▍▌▋▊▉"


def count(number: float | None) -> str:
    """Spell a count in at most ten characters, with commas between the thousands.

    Examples:
        >>> count(1234567), count(2.5), count(None)
        ('1,234,567', '2.5', '-')
        >>> count(123_456_789), count(2**64)
        ('123.5M', '1.84e+19')
    """
    if number is None:
        return UNKNOWN
    for unit, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M")):
        if COUNT_SPELLED_MAX < number < 1000 * unit and number >= unit:
            return f"{number / unit:.1f}{letter}"
    if number > COUNT_SPELLED_MAX:
        return f"{number:.2e}"
    if number == int(number):
        return f"{int(number):,}"
    return f"{number:,.1f}"


def counted(number: int, noun: str) -> str:
    """Spell a count together with what it counts.

    Examples:
        >>> counted(1, "message"), counted(12345, "query"), counted(0, "OS page")
        ('1 message', '12,345 queries', '0 OS pages')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{count(number)} {noun[:-1]}ies" if noun.endswith("y") else f"{count(number)} {noun}s"


def percent(used: int, limit: int) -> str:
    """Spell a share, rounded, but never onto 0 % or 100 % from either side.

    Examples:
        >>> percent(105, 524_288), percent(1, 524_288), percent(0, 524_288)
        ('0.02%', '<0.01%', '0%')
        >>> percent(12_345, 100_000), percent(999, 10_000), percent(9_996, 100_000)
        ('12.3%', '9.99%', '10.0%')
        >>> percent(524_287, 524_288), percent(524_288, 524_288), percent(524_289, 524_288)
        ('99.9%', '100%', '>100%')
        >>> percent(3, 2), percent(50, 1)
        ('150%', '>999%')
    """
    if used == 0:
        return "0%"
    if used == limit:
        return "100%"
    if used > limit:
        whole = _rounded(100 * used, limit) if limit else 1000
        return ">999%" if whole > 999 else f"{whole}%" if whole > 100 else ">100%"
    hundredths = _rounded(10_000 * used, limit)
    if 20_000 * used < limit:
        return "<0.01%"
    if hundredths < 1000:
        return f"{hundredths / 100:.2f}%"
    # 99.96 % is not yet 100 %.
    return f"{min(_rounded(1_000 * used, limit), 999) / 10:.1f}%"


def _rounded(dividend: int, divisor: int) -> int:
    """Divide, and round half up."""
    return (2 * dividend + divisor) // (2 * divisor)


def size(size_bytes: int) -> str:
    """Spell a number of bytes in the largest unit that leaves one digit before the point.

    Examples:
        >>> size(0), size(1023), size(1536), size(20 * 2**20)
        ('0 B', '1,023 B', '1.5 KiB', '20.0 MiB')
    """
    for unit_bytes, unit in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size_bytes >= unit_bytes:
            return f"{size_bytes / unit_bytes:,.1f} {unit}"
    return f"{size_bytes:,} B"


def bar(part: int, whole: int, cells: int) -> str:
    """Draw a share as a bar; what is not nothing shows at least a sliver.

    Args:
        part: What the bar stands for; at most ``whole`` is drawn.
        whole: What a full bar stands for.
        cells: Length of a full bar.

    Examples:
        >>> bar(1, 2, cells=4), bar(1, 10_000, cells=4), bar(0, 5, cells=4)
        ('██', '▏', '')
    """
    if part <= 0 or whole <= 0:
        return ""
    eighths = max(1, min(part, whole) * cells * 8 // whole)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
