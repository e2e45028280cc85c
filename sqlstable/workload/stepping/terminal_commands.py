"""Commands of ``dfx`` and ``icp``, as they are pasted from a terminal, as words of steps.

Source:
    dfinity/sdk src/dfx/src/commands/canister/{call,install}.rs @ 0.29, dfinity/icp-cli
    crates/icp-cli/src/commands/canister/{call,install}.rs @ 1.5; their options are named there.
"""

from collections.abc import Sequence
from typing import Final

PROGRAMS: Final = ("dfx", "icp")

AUTO: Final = "auto"
"""A mode of installing: an upgrade where there is a module already."""

_OF_CALL: Final = {
    "--argument": "argument",
    "--args": "argument",
    "--argument-file": "file",
    "--args-file": "file",
    "--identity": "as",
}
_OF_INSTALL: Final = {
    "--wasm": "wasm",
    "--argument": "argument",
    "--args": "argument",
    "--argument-file": "file",
    "--args-file": "file",
    "--mode": "mode",
    "-m": "mode",
    "--identity": "as",
    "--wasm-memory-persistence": "wasm-memory-persistence",
}
_UNIMPORTANT: Final = {
    **dict.fromkeys(
        (
            *("--network", "-n", "--environment", "-e", "--output", "-o", "--type", "--candid"),
            *("--wallet", "--with-cycles", "--argument-type", "--args-format", "--impersonate"),
            *(
                "--log",
                "--logfile",
                "--random",
                "--provisional-create-canister-effective-canister-id",
            ),
            *("--specified-id", "--project-root-override", "-r"),
        ),
        True,
    ),
    **dict.fromkeys(
        (
            *("--update", "-q", "-v", "-vv", "--quiet", "--verbose", "--always-assist"),
            *("--ic", "--playground", "--yes", "-y", "--no-wallet", "--proxy", "--json"),
        ),
        False,
    ),
}
"""What says where and how to send, which means nothing here; True where a value follows."""

_LIFE: Final = {"stop": "stop", "start": "start", "uninstall-code": "uninstall", "create": "create"}


class CommandError(ValueError):
    """A command is not one that can be carried out here."""


def step_words(words: Sequence[str]) -> list[str]:
    """Return a pasted command as the words of a step; other words as they are.

    Raises:
        CommandError: It is a command of a program, but nothing that a workload does.

    Examples:
        >>> step_words(["dfx", "canister", "call", "app", "top", "(10)", "--query"])
        ['query', 'app.top', '(10)']
        >>> step_words(["dfx", "canister", "install", "app", "--wasm", "a.wasm", "-m", "upgrade"])
        ['upgrade', 'app=a.wasm']
        >>> step_words(["update", "add"])
        ['update', 'add']
    """
    if not words or words[0] not in PROGRAMS:
        return list(words)
    program, *rest = words
    rest = _without_options(rest)
    if rest[:1] != ["canister"]:
        raise CommandError(
            f"{program} {' '.join(rest[:1]) or '…'} does nothing here; of {program} a workload "
            "takes canister call, install, stop, start and uninstall-code; to deploy is install "
            "MODULE"
        )
    rest = _without_options(rest[1:])
    command, given = (rest[0], rest[1:]) if rest else ("", [])
    match command:
        case "call":
            return _call(given)
        case "install":
            return _install(given)
        case _ if command in _LIFE:
            plain, _ = _split(given, {})
            return [_LIFE[command], *plain]
    raise CommandError(
        f"{program} canister {command or '…'} does nothing here; a workload takes call, install, "
        "stop, start and uninstall-code; leave the line out with #"
    )


def _call(given: Sequence[str]) -> list[str]:
    plain, options = _split(given, _OF_CALL, flags=("--query", "--async"))
    if len(plain) < 2:
        raise CommandError("a call names a canister and a method: canister call NAME METHOD")
    name, method, *arguments = plain
    word = "query" if "--query" in options else "send" if "--async" in options else "call"
    return [*_as(options), word, f"{name}.{method}", *_argument(arguments, options)]


def _install(given: Sequence[str]) -> list[str]:
    plain, options = _split(given, _OF_INSTALL)
    if len(plain) != 1 or "wasm" not in options:
        raise CommandError(
            "an installation names a canister and its module: canister install NAME --wasm FILE"
        )
    mode = options.get("mode", "install")
    if mode not in ("install", "reinstall", "upgrade", AUTO):
        raise CommandError(f"there is no mode {mode!r}; use install, reinstall or upgrade")
    kept = options.get("wasm-memory-persistence")
    return [
        *_as(options),
        mode,
        f"{plain[0]}={options['wasm']}",
        *_argument([], options),
        *(["--wasm-memory-persistence", kept] if kept is not None else []),
    ]


def _as(options: dict[str, str]) -> list[str]:
    return ["as", options["as"]] if "as" in options else []


def _argument(arguments: Sequence[str], options: dict[str, str]) -> list[str]:
    if "file" in options:
        return [f"@{options['file']}"]
    return [*arguments, *([options["argument"]] if "argument" in options else [])]


def _without_options(words: Sequence[str]) -> list[str]:
    """Return words behind the options that a program itself takes."""
    at = 0
    while at < len(words) and words[at] in _UNIMPORTANT:
        at += 1 + _UNIMPORTANT[words[at]]
    return list(words[at:])


def _split(
    words: Sequence[str], known: dict[str, str], *, flags: tuple[str, ...] = ()
) -> tuple[list[str], dict[str, str]]:
    """Return what is no option, and the options that mean something."""
    plain, options = list[str](), dict[str, str]()
    rest = iter(words)
    for word in rest:
        name, has_value, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name in flags:
            options[name] = ""
        elif name in known or _UNIMPORTANT.get(name, False):
            taken = value if has_value else next(rest, None)
            if taken is None:
                raise CommandError(f"{name} lacks its value")
            if name in known:
                options[known[name]] = taken
        elif name in _UNIMPORTANT:
            continue
        elif word.startswith("--"):
            raise CommandError(f"{name} means nothing here; leave it out")
        else:
            plain.append(word)
    return plain, options
