"""Foreign text, such as SQL, made safe for a terminal and fitted into a number of columns.

Widths are in terminal columns as rich measures them: a CJK character takes two. A cut never falls
inside a character that is written with several code points. Nothing is read as markup.
"""

import unicodedata
from collections.abc import Iterator
from typing import Final

from rich.cells import cell_len

ELLIPSIS: Final = "…"

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_JOINER: Final = "\N{ZERO WIDTH JOINER}"
_NON_JOINER: Final = "\N{ZERO WIDTH NON-JOINER}"
_EMOJI_STYLE: Final = "\N{VARIATION SELECTOR-16}"
_SKIN_TONES: Final = range(0x1F3FB, 0x1F400)
_REGIONAL_INDICATORS: Final = range(0x1F1E6, 0x1F200)
_CONTROL_PICTURES: Final = 0x2400

_LONG_TEXT: Final = 4000
"""Characters from which on a text loses its middle before anything is measured."""


def clean(text: str) -> str:
    r"""Return the text on one line, with nothing in it that a terminal would act on.

    White space of any length becomes one space, control characters become visible, and the
    invisible ones that turn the direction of writing are replaced.

    Examples:
        >>> clean("SELECT 1\n  FROM\tt\x1b[31m")
        'SELECT 1 FROM t␛[31m'
    """
    if len(text) > _LONG_TEXT:
        text = f"{text[: _LONG_TEXT // 2]} {ELLIPSIS} {text[-_LONG_TEXT // 2 :]}"
    text = _join_symbols_only(text.replace(_NON_JOINER, ""))
    return "".join(map(_visible, " ".join(text.split())))


def fit(text: str, width: int) -> str:
    """Return a clean text cut to a width, with an ellipsis where something was cut.

    Examples:
        >>> fit("playlist_track", 8), fit("東京都", 4)
        ('playlis…', '東…')
    """
    if cell_len(text) <= width:
        return text
    return _head(text, width - 1) + ELLIPSIS


def wrap(text: str, width: int) -> list[str]:
    """Return a clean text as lines, broken between words where possible.

    Examples:
        >>> wrap("SELECT name FROM album", 11)
        ['SELECT name', 'FROM album']
        >>> wrap("a_very_long_name", 6)
        ['a_very', '_long_', 'name']
    """
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(joined) <= width:
            lines[-1] = joined
            continue
        pieces = list(_pieces(word, width))
        lines = lines + pieces if lines[-1] else pieces
    return lines


def shorten(text: str, width: int, *, lines_max: int) -> list[str]:
    """Return a clean text as few lines, leaving out its middle where it is too long.

    The end of a statement often says more than its middle: it holds the conditions.

    Examples:
        >>> shorten("SELECT a, b, c, d, e FROM t WHERE k = 1", 15, lines_max=2)
        ['SELECT a, b, c,', 'd, … k = 1']
    """
    whole = wrap(text, width)
    if len(whole) <= lines_max:
        return whole
    for budget in range(width * lines_max, 4, -1):
        head = _head(text, budget * 3 // 5)
        tail = _tail(text, budget - cell_len(head) - 2)
        lines = wrap(
            f"{_whole_words(head, text)} {ELLIPSIS} {_whole_words_from(tail, text)}", width
        )
        if len(lines) <= lines_max:
            return lines
    return [fit(text, width)]


def _join_symbols_only(text: str) -> str:
    """Drop joiners but those inside one emoji: of others no two terminals agree on the width."""
    first, *others = text.split(_JOINER)
    joined = [first]
    for part in others:
        before = joined[-1][-1:]
        ends_in_symbol = _is_symbol(before) or before == _EMOJI_STYLE or _is_skin_tone(before)
        joined += [_JOINER] if ends_in_symbol and _is_symbol(part[:1]) else []
        joined.append(part)
    return "".join(joined)


def _is_symbol(character: str) -> bool:
    return character != "" and unicodedata.category(character) == "So"


def _is_skin_tone(character: str) -> bool:
    return character != "" and ord(character) in _SKIN_TONES


def _visible(character: str) -> str:
    if " " <= character <= "~":
        return character
    category = unicodedata.category(character)
    if category == "Cc":
        code = ord(character)
        if code < 0x20:
            return chr(_CONTROL_PICTURES + code)
        return "\N{SYMBOL FOR DELETE}" if code == 0x7F else _REPLACEMENT
    if category == "Cs" or (category == "Cf" and character != _JOINER):
        return _REPLACEMENT
    return character


def _clusters(text: str) -> Iterator[str]:
    """Yield the text's characters, together with the code points that only change them."""
    cluster = ""
    for character in text:
        if cluster and not _continues(cluster, character):
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster


def _continues(cluster: str, character: str) -> bool:
    if cell_len(character) == 0 or cluster[-1] == _JOINER:
        return True
    code = ord(character)
    if code in _REGIONAL_INDICATORS:
        return len(cluster) == 1 and ord(cluster) in _REGIONAL_INDICATORS
    return _is_skin_tone(character)


def _head(text: str, width: int) -> str:
    """Return as much of the text's beginning as fits."""
    kept = ""
    for cluster in _clusters(text):
        if cell_len(kept + cluster) > width:
            break
        kept += cluster
    return kept


def _tail(text: str, width: int) -> str:
    """Return as much of the text's end as fits."""
    kept = ""
    for cluster in reversed(list(_clusters(text[-4 * max(width, 1) :]))):
        if cell_len(cluster + kept) > width:
            break
        kept = cluster + kept
    return kept


def _pieces(word: str, width: int) -> Iterator[str]:
    """Yield a word in pieces that fit."""
    piece = ""
    for cluster in _clusters(word):
        # What joiners hold together can be as long as a whole text; then anything goes.
        for part in [cluster] if cell_len(cluster) <= width else cluster:
            if piece and cell_len(piece + part) > width:
                yield piece
                piece = ""
            piece += part
    yield piece


def _whole_words(head: str, text: str) -> str:
    """Drop the word that was cut at the end of ``head``, unless that drops most of it."""
    border = len(head) if text.startswith(" ", len(head)) else head.rfind(" ")
    return head[:border].rstrip() if border > len(head) // 2 else head


def _whole_words_from(tail: str, text: str) -> str:
    """Drop the word that was cut at the beginning of ``tail``, if more is left than little."""
    border = 0 if text[: len(text) - len(tail)].endswith(" ") else tail.find(" ")
    return tail[border:].lstrip() if 0 <= border <= len(tail) * 3 // 4 else tail
