"""What the chunks of a stable B-tree are, found once more: by a walk from the root, from bytes."""

import struct


def walked(data):
    """Return the role of each chunk that a walk reaches, by the chunk's offset."""
    magic, version = data[:3], data[3]
    assert magic == b"BTR"
    (root,) = struct.unpack_from("<Q", data, 12)
    first, second = struct.unpack_from("<II", data, 4)
    if version == 1:
        # Key and value sizes; nodes have room for eleven entries and twelve children.
        payload = 7 + 11 * (first + second + 8) + 12 * 8
    else:
        assert second == 0xFFFFFFFF
        payload = first
    found = {}
    if root:
        _node(data, root, payload, (first, second), found)
    return found


def _node(data, address, payload, sizes, found):
    assert data[address : address + 3] == b"BTN"
    version, kind = data[address + 3], data[address + 4]
    (entries,) = struct.unpack_from("<H", data, address + 5)
    found[address - 16] = "internal" if kind else "leaf"
    if version == 1:
        at = address + 7 + entries * (sizes[0] + sizes[1] + 8)
        children = struct.unpack_from(f"<{entries + 1}Q", data, at) if kind else ()
    else:
        text = bytearray(data[address : address + payload])
        (following,) = struct.unpack_from("<Q", data, address + 7)
        while following:
            assert data[following : following + 3] == b"NOF"
            found[following - 16] = "overflow"
            text += data[following + 11 : following + payload]
            (following,) = struct.unpack_from("<Q", data, following + 3)
        children = struct.unpack_from(f"<{entries + 1}Q", text, 15) if kind else ()
    for child in children:
        _node(data, child, payload, sizes, found)
