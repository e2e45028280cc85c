"""A module that is handed over, and the interface that says what it takes and answers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Final

from sqlstable.candid.candid_module import INIT_SECTION
from sqlstable.candid.interface import Interface
from sqlstable.errors import CandidError, ModuleError
from sqlstable.ic.units import MIB
from sqlstable.wasm.module_file import CANDID_SECTION, ModuleFile
from sqlstable.wasm.program import NEAR_BYTES, Program
from sqlstable.wasm.told_interface import told_interface

FILE_BYTES_MAX: Final = 512 * MIB
"""A file that is larger is none of a module, whose limit is 100 MiB."""

READY_MARK: Final = "@"
"""Before the name of a module that comes with the package: ``@counter.wasm``."""

READY_FOLDER: Final = Path(__file__).parent / "ready"

_SUFFIXES: Final = (".gz", ".wasm")


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """A module as it was handed over."""

    name: str
    "What it is called: the name of its file."
    data: bytes
    "Compressed or not, as the Internet Computer takes it."
    interface: Interface | None
    "None where neither the module nor anybody else says what it takes."


def canister_name(path: Path | str) -> str:
    """Return what a canister is called after the file of its module.

    Examples:
        >>> canister_name("target/release/app_backend.wasm.gz")
        'app_backend'
    """
    stem = PurePath(path).name.removeprefix(READY_MARK)
    for suffix in _SUFFIXES:
        stem = stem.removesuffix(suffix)
    return stem or str(path)


def read_module_source(
    module: Path | str | bytes, did: Path | str | Interface | None = None
) -> ModuleSource:
    """Read a module, and its interface.

    Args:
        module: A ``.wasm`` or ``.wasm.gz`` file, or what is in one.
        did: The interface: a ``.did`` file, its text, or None for what the module says of itself
            in ``candid:service``; where it says nothing, a ``.did`` file of the same name beside
            it counts, and where there is none, what it tells when it is installed.

    Raises:
        ModuleError: There is no such file, or it is no module.
        CandidError: The interface cannot be read.
    """
    if isinstance(module, bytes | bytearray):
        path, data = None, bytes(module)
    else:
        path = module_path(module)
        data = _content(path)
    name = "module.wasm" if path is None else path.name
    try:
        file = ModuleFile.of(data)
    except ModuleError as error:
        raise ModuleError(f"{name}: {error}") from error
    return ModuleSource(name, data, _interface(file, path, did))


def asked_source(source: ModuleSource, program_of: Callable[..., Program]) -> ModuleSource:
    """Return a module with the interface that it tells when it is asked, if it tells one.

    Args:
        source: A module that says nothing by itself.
        program_of: Makes its program.
    """
    try:
        wasm = ModuleFile.of(source.data).wasm
        program = program_of(wasm, reach_bytes=NEAR_BYTES)
        told = told_interface(program)
        return source if told is None else replace(source, interface=Interface.of_did(told))
    except (CandidError, ModuleError):
        # What is wrong with the module is said when it is installed.
        return source


def module_path(given: Path | str) -> Path:
    """Return where a module lies; one with the mark comes with the package.

    Examples:
        >>> module_path("@counter.wasm").is_file(), module_path("app.wasm").name
        (True, 'app.wasm')
    """
    text = str(given)
    if text.startswith(READY_MARK) and not Path(given).exists():
        return READY_FOLDER / text.removeprefix(READY_MARK)
    return Path(given)


def _content(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ModuleError(f"{path} is a folder; give the module in it: NAME.wasm, NAME.wasm.gz")
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ModuleError(f"{path} has {path.stat().st_size:,} bytes, which no module has")
        return path.read_bytes()
    except FileNotFoundError:
        raise ModuleError(
            f"there is no file {path}; give the module as it is deployed: NAME.wasm or NAME.wasm.gz"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModuleError(f"{path} cannot be read: {reason}") from error


def _interface(
    file: ModuleFile, path: Path | None, did: Path | str | Interface | None
) -> Interface | None:
    if isinstance(did, Interface):
        return did
    if isinstance(did, str) and ("{" in did or "service" in did):
        return Interface.of_did(did)
    if did is not None:
        return Interface.of_file(Path(did))
    service, init = (file.metadata.get(name) for name in (CANDID_SECTION, INIT_SECTION))
    if service is not None:
        try:
            return Interface.of_module(service.content, b"" if init is None else init.content)
        except CandidError:
            # What it says of itself is for reading; it runs all the same.
            return None
    beside = None if path is None else path.with_name(f"{canister_name(path)}.did")
    return Interface.of_file(beside) if beside is not None and beside.is_file() else None
