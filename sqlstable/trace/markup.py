"""What a notebook shows of a trace: a small table in HTML."""

from collections.abc import Iterable, Sequence
from html import escape


def html_table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; whatever a cell holds is shown as text.

    Examples:
        >>> html_table("t", ["sql"], [["a < b"]])
        '<table><caption>t</caption><tr><th>sql</th></tr><tr><td>a &lt; b</td></tr></table>'
    """
    lines = [_row("th", headings)] if headings else []
    lines += [_row("td", row) for row in rows]
    return f"<table><caption>{escape(caption)}</caption>{''.join(lines)}</table>"


def _row(tag: str, cells: Sequence[object]) -> str:
    texts = ("" if cell is None else escape(str(cell)) for cell in cells)
    return f"<tr>{''.join(f'<{tag}>{text}</{tag}>' for text in texts)}</tr>"
