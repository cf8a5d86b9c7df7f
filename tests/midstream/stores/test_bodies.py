"""Bodies are the bytes they stand for, by whatever way a client reads them."""

from __future__ import annotations

import io

import pytest

from midstream._content import Content
from midstream.stores._bodies import ContentFile, body, pieces

CONTENT = Content(3 * 2**20, seed=1)


@pytest.mark.parametrize(("first", "length"), [(0, None), (0, 2**21), (5, 2**20 + 1), (2**20, None)])
def test_file_of_a_slice(first: int, length: int | None) -> None:
    """A file of a slice has its length and bytes, and ends where it does."""
    made = body(CONTENT, first, length)
    want = CONTENT.read(first, CONTENT.size if length is None else length)
    assert isinstance(made, ContentFile)
    assert len(made) == len(want)
    assert made.read() == want
    assert made.read() == made.read(5) == b""
    assert made.seek(-3, io.SEEK_END) == len(want) - 3
    assert made.read(100) == want[-3:]
    made.seek(7)
    assert made.seek(3, io.SEEK_CUR) == made.tell() == 10
    buffer = bytearray(16)
    assert made.readinto(buffer) == 16
    assert buffer == want[10:26]
    made.seek(len(want) + 10)
    assert made.read(1) == b""


@pytest.mark.parametrize(("first", "length"), [(0, 0), (0, 10), (3 * 2**20 - 5, None), (3 * 2**20 - 5, 50)])
def test_small_slice(first: int, length: int | None) -> None:
    """What is small is bytes, and reaches no further than the content."""
    assert body(CONTENT, first, length) == CONTENT.read(first, 50 if length is None else length)


@pytest.mark.parametrize(
    ("size", "step", "found"),
    [(0, 3, []), (1, 3, [(0, 1)]), (3, 3, [(0, 3)]), (7, 3, [(0, 3), (3, 3), (6, 1)])],
)
def test_pieces(size: int, step: int, found: list[tuple[int, int]]) -> None:
    """Pieces lie side by side, and only the last may be smaller."""
    assert pieces(size, step) == found
