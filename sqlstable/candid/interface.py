"""The interface of a canister: its methods and their types, and values of them.

Values come in as Candid text, as JSON or as bytes, and are shown as Candid text or JSON:

=============  ====================================================================================
Candid         JSON
=============  ====================================================================================
nat, int, …    a number, or a text of decimal digits; written as a text beyond 2^53 - 1
float32, 64    a number, or ``"NaN"``, ``"Infinity"``, ``"-Infinity"``
text, bool     as they are
null           null; so is a reserved value
opt T          null or the value; where T itself may be null (opt, null, reserved), ``[value]``
vec T          an array
blob           ``"0x…"`` with hexadecimal digits; taken too: an array of bytes,
               ``{"base64": "…"}``, ``{"text": "…"}``, ``{"hex": "…"}``
record         an object; one with fields 0, 1, … only is an array
variant        ``{"case": value}``; taken too: ``"case"`` for one without a value
principal      its text; a service likewise
func           ``{"principal": "…", "method": "…"}``
=============  ====================================================================================

A field that has a number but no name goes by its decimal digits. Several values are a JSON array:
its elements are the arguments, so a single array as argument is written ``[[1, 2]]``.

The conversions are those of Candid's own crates, see `sqlstable.candid.candid_module`. Like
canisters, they read values nested up to 512 deep.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from sqlstable.candid.argument_forms import json_of, message_of_hex
from sqlstable.candid.candid_module import INIT_SECTION, InterfaceSource, carry_out, load_interface
from sqlstable.candid.did_imports import imported
from sqlstable.errors import CandidError

MethodMode = Literal["update", "query", "composite_query", "oneway"]
"""How a method is called: by its interface, which may differ from what the module exports."""

_Direction = Literal["arguments", "replies", "init"]

_NAMES_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Method:
    """One method of an interface."""

    name: str
    mode: MethodMode
    arguments: tuple[str, ...]
    "The type of each, as Candid text."
    replies: tuple[str, ...]

    def __str__(self) -> str:
        """Write it as a ``.did`` file does."""
        mode = "" if self.mode == "update" else f" {self.mode}"
        return f"{self.name} : ({', '.join(self.arguments)}) -> ({', '.join(self.replies)}){mode}"


@dataclass(frozen=True, slots=True)
class Interface:
    """What a canister takes and answers.

    Examples:
        >>> interface = Interface.of_did("service : { add : (text, nat8) -> (opt nat) query }")
        >>> print(interface.methods["add"])
        add : (text, nat8) -> (opt nat) query
        >>> interface.encode("add", '("ana", 5)').hex()
        '4449444c0002717b03616e6105'
        >>> interface.encode("add", ["ana", 5]) == interface.encode("add", '["ana", "5"]')
        True
        >>> interface.decode_reply("add", bytes.fromhex("4449444c016e7d01000105"))
        '(opt (5 : nat))'
        >>> interface.decode_reply_json("add", bytes.fromhex("4449444c016e7d01000105"))
        [5]
    """

    methods: Mapping[str, Method]
    init: tuple[str, ...] | None
    "Types of the arguments of init and post_upgrade; None: the interface does not say."
    source: InterfaceSource = field(repr=False)

    # -- made -------------------------------------------------------------------------------------

    @classmethod
    def of_did(cls, text: str, folder: Path | None = None, *, init: str = "") -> "Interface":
        """Read the text of a ``.did`` file.

        Args:
            text: The file's text; without a service it defines types only.
            folder: Where it lies, for what it imports.
            init: Types of init's arguments, if the text has none: ``(nat, opt text)``.

        Raises:
            CandidError: It is malformed, or an import cannot be read.
        """
        source = InterfaceSource(text, init, imported(text, folder))
        said = load_interface(source)
        methods = (
            Method(it["name"], it["mode"], tuple(it["arguments"]), tuple(it["replies"]))
            for it in said["methods"]
        )
        init_types = None if said["init"] is None else tuple(said["init"])
        return cls({method.name: method for method in methods}, init_types, source)

    @classmethod
    def of_file(cls, path: Path) -> "Interface":
        """Read a ``.did`` file, and what it imports.

        Raises:
            CandidError: It cannot be read or is malformed.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CandidError(f"the interface {path} cannot be read: {error}") from error
        try:
            return cls.of_did(text, path.parent)
        except CandidError as error:
            raise CandidError(
                f"{path}: {error}", line=error.line, column=error.column, source=error.source
            ) from error

    @classmethod
    def of_module(cls, service: bytes, init: bytes = b"") -> "Interface":
        """Read what a module says of itself.

        Args:
            service: Content of its custom section ``candid:service``.
            init: That of ``candid:args``, where it has one, as Motoko's compiler leaves it.

        Raises:
            CandidError: It is malformed.
        """
        try:
            return cls.of_did(service.decode(), init=init.decode())
        except UnicodeDecodeError as error:
            raise CandidError(
                f"the module's candid:service or {INIT_SECTION} is no text: {error}; "
                "give the interface as a .did file"
            ) from error

    # -- in ---------------------------------------------------------------------------------------

    def encode(self, method: str, argument: Any = "") -> bytes:  # noqa: ANN401  any JSON
        """Encode the arguments of a method.

        Args:
            method: Its name.
            argument: Candid text: ``("ana", 5)``, or one value without parentheses. JSON: a text
                that begins with ``[`` or ``{``, or the like as Python has it. A message in
                hexadecimal digits (``4449444c…``), which is taken as it is.

        Raises:
            CandidError: There is no such method, or the argument is malformed or of other types.
        """
        return self._encode("arguments", self._known(method), argument)

    def encode_reply(self, method: str, reply: Any = "") -> bytes:  # noqa: ANN401  any JSON
        """Encode what a method replies, as `encode` does its arguments."""
        return self._encode("replies", self._known(method), reply)

    def encode_init(self, argument: Any = "") -> bytes:  # noqa: ANN401  any JSON
        """Encode the arguments of init and post_upgrade, as `encode` does.

        An interface that does not say what init takes encodes by the text alone.
        """
        if self.init is None:
            return encode_text(argument)
        return self._encode("init", None, argument)

    # -- out --------------------------------------------------------------------------------------

    def decode_reply(self, method: str, data: bytes) -> str:
        """Show a reply as Candid text, on several lines where it is long.

        Raises:
            CandidError: There is no such method, or the reply is not of its types.
        """
        return self._decode("replies", self._known(method), data, "text")

    def decode_reply_json(self, method: str, data: bytes) -> list[Any]:
        """Return a reply as JSON, one element for each value."""
        return _read_json(self._decode("replies", self._known(method), data, "json"))

    def decode_arguments(self, method: str, data: bytes) -> str:
        """Show the arguments of a call as Candid text."""
        return self._decode("arguments", self._known(method), data, "text")

    def decode_arguments_json(self, method: str, data: bytes) -> list[Any]:
        """Return the arguments of a call as JSON, one element for each."""
        return _read_json(self._decode("arguments", self._known(method), data, "json"))

    def show_reply(self, method: str, data: bytes) -> str:
        """Show a reply as well as can be: by its types, else by its own, else in hexadecimal.

        Examples:
            >>> interface = Interface.of_did("service : { get : () -> (nat8) }")
            >>> interface.show_reply("get", encode_text('("other")'))
            '("other")'
            >>> interface.show_reply("get", b"ana")
            '0x616e61'
        """
        return self._show("replies", method, data)

    def show_arguments(self, method: str, data: bytes) -> str:
        """Show arguments as well as can be, as `show_reply` does a reply."""
        return self._show("arguments", method, data)

    # -- beside another ---------------------------------------------------------------------------

    def incompatibilities(self, old: "Interface") -> tuple[str, ...]:
        """Return what keeps callers of an older interface from calling this one.

        These are the rules of Candid's subtyping, which ``dfx`` checks before an upgrade.

        Raises:
            CandidError: One of the two has no service.

        Examples:
            >>> old = Interface.of_did("service : { get : () -> (nat) }")
            >>> new = Interface.of_did("service : { get : () -> (text) }")
            >>> for found in new.incompatibilities(old):
            ...     print(found)
            method "get" > return type: text is not a subtype of nat
        """
        return tuple(json.loads(carry_out("C", self.source, old.source)))

    # -- how --------------------------------------------------------------------------------------

    def _encode(self, direction: _Direction, method: Method | None, argument: Any) -> bytes:  # noqa: ANN401
        if isinstance(argument, str):
            message = message_of_hex(argument)
            if message is not None:
                return message
        text = json_of(argument)
        form = "text" if text is None else "json"
        name = "" if method is None else method.name
        try:
            return carry_out(
                "E", self.source, direction, name, form, argument if text is None else text
            )
        except CandidError as error:
            raise CandidError(
                f"{error}; {self._signature(direction, method)}",
                line=error.line,
                column=error.column,
                source=error.source,
            ) from None

    def _decode(self, direction: _Direction, method: Method | None, data: bytes, form: str) -> str:
        name = "" if method is None else method.name
        try:
            return carry_out("D", self.source, direction, name, form, bytes(data)).decode()
        except CandidError as error:
            raise CandidError(
                f"{len(data)} bytes are not what is expected: {error}; "
                f"{self._signature(direction, method)}; without types they are shown by decode"
            ) from None

    def _show(self, direction: _Direction, method: str, data: bytes) -> str:
        try:
            return self._decode(direction, self._known(method), data, "text")
        except CandidError:
            return show(data, self)

    def _signature(self, direction: _Direction, method: Method | None) -> str:
        if method is None:
            return f"init takes ({', '.join(self.init or ())})"
        if direction == "replies":
            return f"{method.name} replies ({', '.join(method.replies)})"
        return f"{method.name} takes ({', '.join(method.arguments)})"

    def _known(self, name: str) -> Method:
        found = self.methods.get(name)
        if found is not None:
            return found
        names = get_close_matches(name, self.methods, 3) or sorted(self.methods)
        shown = ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
        there = f"; it has {shown}" if names else "; it has none"
        raise CandidError(f"the interface has no method {name!r}{there}")


# -- without an interface -------------------------------------------------------------------------


def encode_text(argument: str = "") -> bytes:
    r"""Encode Candid text by itself, without knowing types: a number is an int.

    Args:
        argument: Such as ``(1 : nat, "ana", record { key = blob "\00" })``; a message in
            hexadecimal digits is taken as it is.

    Raises:
        CandidError: It is malformed, or JSON, which needs types.

    Examples:
        >>> encode_text("()").hex()
        '4449444c0000'
        >>> encode_text("(1 : nat)").hex()
        '4449444c00017d01'
    """
    message = message_of_hex(argument)
    if message is not None:
        return message
    if json_of(argument) is not None:
        raise CandidError(
            "JSON is encoded by types, and there is no interface that says them; give a .did "
            "file, or Candid text"
        )
    return carry_out("e", argument)


def decode(data: bytes, names: Interface | None = None) -> str:
    """Show a message as Candid text by what it says itself.

    Args:
        data: The message.
        names: An interface whose names replace the numbers of fields and cases.

    Raises:
        CandidError: It is malformed.

    Examples:
        >>> decode(bytes.fromhex("4449444c016c01cbe4fdc7047101000161"))
        '(record { 1_224_700_491 = "a" })'
        >>> names = Interface.of_did("type user = record { name : text }")
        >>> decode(bytes.fromhex("4449444c016c01cbe4fdc7047101000161"), names)
        '(record { name = "a" })'
    """
    return _untyped(data, names, "text")


def decode_json(data: bytes, names: Interface | None = None) -> list[Any]:
    """Return a message as JSON by what it says itself, one element for each value.

    Examples:
        >>> decode_json(encode_text('(opt variant { ok = "a" }, 5)'))
        [{'24860': 'a'}, 5]
    """
    return _read_json(_untyped(data, names, "json"))


def show(data: bytes, names: Interface | None = None) -> str:
    """Show any bytes: a message as `decode` does, and others in hexadecimal digits."""
    try:
        return decode(data, names)
    except CandidError:
        return f"0x{bytes(data).hex()}"


def encode_as(types: str, argument: Any) -> bytes:  # noqa: ANN401  any JSON
    """Encode values of given types.

    Args:
        types: As Candid writes them, in parentheses: ``(record { id : nat; name : text })``.
        argument: As of `Interface.encode`.

    Raises:
        CandidError: Types or argument are malformed, or do not go together.

    Examples:
        >>> encode_as("(nat8, opt text)", "(5, null)").hex()
        '4449444c016e71027b000500'
    """
    return _of_types(types).encode(_ONLY, argument)


def decode_as(types: str, data: bytes) -> list[Any]:
    """Return values of given types as JSON.

    Examples:
        >>> decode_as("(record { id : nat; name : text })",
        ...           encode_text('(record { id = 7 : nat; name = "ana" })'))
        [{'id': 7, 'name': 'ana'}]
    """
    return _of_types(types).decode_arguments_json(_ONLY, data)


_ONLY: Final = "values"


@lru_cache(maxsize=128)
def _of_types(types: str) -> Interface:
    return Interface.of_did(f"service : {{ {_ONLY} : {types} -> () }}")


def _untyped(data: bytes, names: Interface | None, form: str) -> str:
    source = "" if names is None else names.source
    try:
        return carry_out("d", source, form, bytes(data)).decode()
    except CandidError as error:
        raise CandidError(
            f"{len(data)} bytes are no Candid message: {error}; show them as hexadecimal digits"
        ) from None


def _read_json(text: str) -> list[Any]:
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise CandidError("the value is nested too deeply for JSON; show it as text") from error
    assert isinstance(found, list)
    return found
