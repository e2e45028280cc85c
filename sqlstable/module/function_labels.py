"""What the functions of a module are called, for people."""

from collections.abc import Mapping, Sequence

from sqlstable.candid.demangling import demangled
from sqlstable.wasm.module_file import ModuleFile
from sqlstable.wasm.rewrite.binary import FUNCTION
from sqlstable.wasm.rewrite.module_reader import read_module


def function_labels(module: bytes) -> Mapping[int, str]:
    """Return names of a module's functions, by index.

    System calls are ``ic0.msg_reply`` and the like. Other names are those of the module's name
    section, without Rust's mangling, or, where it has none, those of its exports.

    Args:
        module: As deployed, compressed or not.

    Raises:
        ModuleError: It is damaged.

    Examples:
        >>> wasm = bytes.fromhex("0061736d01000000 010401600000 0209010369633001740000")
        >>> function_labels(wasm)
        {0: 'ic0.t'}
    """
    file = ModuleFile.of(module)
    read = read_module(file.wasm)
    labels = {
        index: f"{item.module}.{item.name}" for index, item in enumerate(read.imported(FUNCTION))
    }
    exported = {item.index: item.name for item in read.exports if item.kind == FUNCTION}
    found = {
        index: name
        for index, name in {**exported, **file.function_names}.items()
        if index not in labels
    }
    labels.update(zip(found, _plain(list(found.values())), strict=True))
    return labels


def _plain(names: Sequence[str]) -> list[str]:
    # A viewer shows one line.
    return [" ".join(name.split()) for name in demangled(names)]
