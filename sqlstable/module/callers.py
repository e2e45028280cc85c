"""Who calls: principals, and names that stand for some."""

import re
from typing import Final

from sqlstable.errors import SettingsError
from sqlstable.ic.principals import ANONYMOUS_PRINCIPAL, principal_of, self_authenticating

ANONYMOUS_NAME: Final = "anonymous"

_PRINCIPAL: Final = re.compile(r"[a-z2-7]{5}(-[a-z2-7]{1,5})+", re.IGNORECASE)


def caller_of(given: str | bytes | None) -> bytes:
    r"""Return the principal of a caller.

    Args:
        given: A principal as text or bytes; a name, which stands for the same principal whenever
            it is used; None or ``anonymous`` for the anonymous one.

    Raises:
        SettingsError: It looks like a principal, and is none; or it is no Unicode text.

    Examples:
        >>> caller_of(None), caller_of("anonymous"), caller_of("2vxsx-fae")
        (b'\x04', b'\x04', b'\x04')
        >>> len(caller_of("ana")), caller_of("ana") == caller_of("bob")
        (29, False)
    """
    if given is None or given == ANONYMOUS_NAME:
        return ANONYMOUS_PRINCIPAL
    if isinstance(given, bytes):
        return given
    given = given_text("a caller", given)
    if _PRINCIPAL.fullmatch(given):
        return principal_of(given)
    return self_authenticating(b"sqlstable caller " + given.encode())


def given_text(what: str, given: object) -> str:
    """Return a text that was given as one.

    Args:
        what: What it is to be, as an error says it.
        given: Perhaps a text.

    Raises:
        TypeError: It is none.
        SettingsError: It has half of a character, which no UTF-8 has.

    Examples:
        >>> given_text("a method", "add")
        'add'
    """
    if not isinstance(given, str):
        raise TypeError(f"{what} is a text, not {given!r}, a {type(given).__name__}")
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(
            f"{what} is Unicode text, and {given[:40]!r} has a lone surrogate as character "
            f"{error.start}; leave it out"
        ) from None
    return given
