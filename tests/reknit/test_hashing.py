"""The running digests: the same whatever the blocks, and no thread left."""

from __future__ import annotations

import hashlib
import random
import threading
import zlib
from collections.abc import Iterator

import pytest

from reknit._checksums import Digest
from reknit._hashing import Hashing

DATA = random.Random(7).randbytes(3 << 20)
RIGHT = (
    Digest("sha256", hashlib.sha256(DATA).hexdigest(), "a test"),
    Digest("crc32", f"{zlib.crc32(DATA):08x}", "a test"),
)


def in_turn(size: int) -> Iterator[memoryview]:
    """The data as a connection gives it: in two buffers by turns, each written over when it comes again."""
    buffers = [memoryview(bytearray(size)) for _ in range(2)]
    for number, start in enumerate(range(0, len(DATA), size)):
        piece, buffer = DATA[start : start + size], buffers[number % 2]
        buffer[: len(piece)] = piece
        yield buffer[: len(piece)]


@pytest.mark.parametrize("size", [1000, 256 << 10, (256 << 10) + 1, 1 << 20, 4 << 20])
def test_any_blocks(size: int) -> None:
    """What is hashed behind our back is hashed in order, and before its buffer is used again."""
    hashing = Hashing(RIGHT)
    for block in in_turn(size):
        hashing.update(block)
    assert hashing.wrong(RIGHT) is None
    hashing.close()


def test_small_between_large() -> None:
    """A block that is not worth a thread waits for the one before it."""
    hashing = Hashing(RIGHT)
    at = 0
    for number in range(12):
        size = 7 if number % 2 else 500_000
        hashing.update(DATA[at : at + size])
        at += size
    hashing.update(DATA[at:])
    assert hashing.wrong(RIGHT) is None
    hashing.close()


def test_the_first_that_differs() -> None:
    """It is told by name."""
    wrong = Digest("crc32", "00000000", "a test")
    hashing = Hashing([RIGHT[0], wrong])
    hashing.update(DATA)
    assert hashing.wrong([RIGHT[0], wrong]) == wrong
    hashing.close()


def test_no_thread_is_left() -> None:
    """Closing ends it, also in the midst of a block; nothing to hash needs none."""
    before = set(threading.enumerate())
    idle, busy = Hashing(), Hashing(RIGHT)
    idle.update(DATA)
    assert set(threading.enumerate()) == before
    busy.update(DATA)
    busy.close()
    busy.close()
    assert set(threading.enumerate()) == before
