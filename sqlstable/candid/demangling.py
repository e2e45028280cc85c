"""Names of Rust's functions as they stand in its sources."""

from collections.abc import Sequence

from sqlstable.candid.candid_module import carry_out


def demangled(names: Sequence[str]) -> list[str]:
    """Return names without Rust's mangling, old or new; others as they are.

    Source:
        The crate rustc-demangle, as ``rustfilt`` uses it; hashes at the end are left out.

    Examples:
        >>> demangled(["_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "_RNvC1a1f", "main"])
        ['core::fmt::Write::write_fmt', 'a::f', 'main']
    """
    if not names:
        return []
    # A name with a line break cannot be mangled, and would be taken apart.
    plain = [name for name in names if "\n" not in name]
    found = dict(zip(plain, carry_out("M", "\n".join(plain)).decode().split("\n"), strict=True))
    return [found.get(name, name) for name in names]
