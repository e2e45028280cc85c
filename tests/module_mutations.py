"""Damage to modules, by seed."""

import gzip
import random

NUMBERS = [
    b"\xff\xff\xff\xff\x0f",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x80\x80\x80\x80\x08",
    b"\x80\x00",
    b"\x7f",
]
PREFIXES = [b"\xfc", b"\xfd", b"\xfe", b"\xfb", b"\x0e", b"\x06", b"\x12", b"\x1f", b"\x40"]


def mutated(modules, seed):
    """Return one of some modules, damaged at one to six places; every eighth one compressed."""
    generator = random.Random(seed)
    data = bytearray(generator.choice(modules))
    for _ in range(generator.choice([1, 1, 1, 2, 3, 6])):
        _damage(data, modules, generator)
    if generator.random() < 1 / 8:
        packed = bytearray(gzip.compress(bytes(data), 1, mtime=0))
        if generator.random() < 0.5:
            packed[generator.randrange(len(packed))] ^= 1 << generator.randrange(8)
        return bytes(packed)
    return bytes(data)


def _damage(data, modules, generator):
    place = generator.randrange(len(data)) if data else 0
    length = generator.choice([1, 1, 2, 5, 20])
    match generator.randrange(9):
        case 0 | 1 if data:
            data[place] ^= 1 << generator.randrange(8)
        case 2 if data:
            data[place] = generator.randrange(256)
        case 3:
            del data[place : place + length]
        case 4:
            data[place:place] = generator.randbytes(length)
        case 5:
            number = generator.choice(NUMBERS)
            data[place : place + generator.randrange(len(number) + 1)] = number
        case 6:
            data[place : place + 1] = generator.choice(PREFIXES)
        case 7:
            other = generator.choice(modules)
            start = generator.randrange(len(other))
            data[place : place + length] = other[start : start + generator.randrange(40)]
        case _:
            del data[place:]
