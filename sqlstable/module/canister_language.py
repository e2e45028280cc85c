"""What is said to a canister and what it says, by its interface where there is one."""

from typing import Any, Final

from sqlstable.candid.argument_forms import bytes_of_hex, message_of_hex
from sqlstable.candid.interface import Interface, decode_json, encode_text, show
from sqlstable.errors import CandidError
from sqlstable.ic.units import KIB
from sqlstable.module.observing import CallWords, hex_words

EMPTY_ARGUMENT: Final = bytes.fromhex("4449444c0000")
"""Candid of no values: ``()``."""

TEXT_BYTES_MAX: Final = 16 * KIB
"""A message that is longer is shown by its first bytes."""

TEXT_CHARACTERS_MAX: Final = 4_000


class CanisterLanguage:
    r"""Arguments and replies of one canister; an upgrade may bring another interface.

    Examples:
        >>> language = CanisterLanguage(Interface.of_did("service : { add : (nat) -> (nat) }"))
        >>> language.argument("add", (5,)) == language.argument("add", "(5)")
        True
        >>> language.reply_value("add", language.argument("add", "(7)"))
        7
        >>> CanisterLanguage().argument("add", bytes(3))
        b'\x00\x00\x00'
    """

    def __init__(self, interface: Interface | None = None) -> None:
        self.interface = interface
        self._shown: tuple[Interface | None, str, bytes, str] | None = None
        "The arguments that were shown last: a trace asks for them more than once."

    # -- in -------------------------------------------------------------------------------------

    def argument(self, method: str, given: Any) -> bytes:  # noqa: ANN401  any JSON
        """Return the argument of a call.

        Args:
            method: What is called.
            given: Candid text; a tuple with a value for each argument, or another value as JSON
                has it; bytes or ``0x…``, which are taken as they are; None for no values.

        Raises:
            CandidError: It is malformed, or not what the method takes.
        """
        raw = _raw(given)
        if raw is not None:
            return raw
        value = _plain(given)
        if self.interface is None:
            return _encode_untyped(value)
        return self.interface.encode(method, value)

    def init_argument(self, given: Any, *, is_needed: bool) -> bytes:  # noqa: ANN401  any JSON
        """Return the argument of init or post_upgrade.

        Args:
            given: As for `argument`.
            is_needed: Whether no values are refused where the interface asks for some: a
                post_upgrade may take what init takes, or nothing.

        Raises:
            CandidError: It is malformed, or not what init takes.
        """
        raw = _raw(given)
        if raw is not None:
            return raw
        if given is None and not is_needed:
            return EMPTY_ARGUMENT
        value = _plain(given)
        return (
            _encode_untyped(value) if self.interface is None else self.interface.encode_init(value)
        )

    def expected_reply(self, method: str, given: str) -> bytes | None:
        """Return a reply that is expected as bytes; None where its types are not known.

        Raises:
            CandidError: It is malformed, or not what the method replies.
        """
        if self.interface is None or method not in self.interface.methods:
            return None
        return self.interface.encode_reply(method, given)

    # -- out ------------------------------------------------------------------------------------

    def reply_text(self, method: str, data: bytes) -> str:
        """Show a reply as Candid text; in hexadecimal digits where it is none."""
        interface = self.interface
        if interface is None or method not in interface.methods:
            return show(data, interface)
        return interface.show_reply(method, data)

    def reply_value(self, method: str, data: bytes) -> Any:  # noqa: ANN401  any JSON
        """Return a reply as Python values: one, or a tuple of several, or None for none.

        A reply that is no Candid is returned as it is.
        """
        interface = self.interface
        try:
            if interface is None or method not in interface.methods:
                values = decode_json(data, interface)
            else:
                values = interface.decode_reply_json(method, data)
        except CandidError:
            return data
        if len(values) == 1:
            return values[0]
        return tuple(values) or None

    def words(self) -> CallWords:
        """Return how a trace writes calls and replies."""
        return CallWords(argument=self._argument_words, reply=self._reply_words)

    def _argument_words(self, method: str, data: bytes) -> str:
        if not data or len(data) > TEXT_BYTES_MAX:
            return hex_words(data)
        interface = self.interface
        asked = (interface, method, data)
        if self._shown is not None and self._shown[:3] == asked:
            return self._shown[3]
        if interface is None or method not in interface.methods:
            text = show(data, interface)
        else:
            text = interface.show_arguments(method, data)
        text = one_line(text)
        text = text[1:-1] if text.startswith("(") else text
        self._shown = (*asked, text)
        return text

    def _reply_words(self, method: str, data: bytes) -> str | None:
        if len(data) > TEXT_BYTES_MAX:
            return None
        return one_line(self.reply_text(method, data))


def one_line(text: str) -> str:
    r"""Return Candid text on one line, the beginning of a long one.

    Examples:
        >>> one_line('(\n  record {\n    "a";\n    5;\n  },\n)')
        '(record { "a"; 5; })'
    """
    joined = " ".join(line.strip() for line in text.splitlines())
    joined = joined.replace("( ", "(", 1) if text.startswith("(\n") else joined
    joined = joined.removesuffix(", )") + ")" if joined.endswith(", )") else joined
    if len(joined) > TEXT_CHARACTERS_MAX:
        joined = joined[: TEXT_CHARACTERS_MAX - 1] + "…"
    return joined


def _raw(given: Any) -> bytes | None:  # noqa: ANN401  any JSON
    """Return bytes that are taken as they are, or None where there are values."""
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given)
    if isinstance(given, str):
        return bytes_of_hex(given) if given.lower().startswith("0x") else message_of_hex(given)
    return None


def _plain(given: Any) -> Any:  # noqa: ANN401  any JSON
    """Return values as candid takes them: a text, or JSON whose list has all arguments."""
    if given is None:
        return "()"
    if isinstance(given, str):
        return given
    return list(given) if isinstance(given, tuple) else [given]


def _encode_untyped(value: Any) -> bytes:  # noqa: ANN401  any JSON
    if isinstance(value, str):
        return encode_text(value)
    raise CandidError(
        "Python's values are encoded by types, and nobody says them; give did=, or Candid text "
        "such as '(5 : nat, \"ana\")'"
    )
