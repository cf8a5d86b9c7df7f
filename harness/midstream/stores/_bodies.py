"""Content as what HTTP clients take for a body."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from midstream._content import Content

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_SMALL = 1 << 20


class ContentFile(io.RawIOBase):
    """A seekable file of `length` bytes of a content, made as they are read."""

    def __init__(self, content: Content, first: int, length: int) -> None:
        self._content = content
        self._first = first
        self._length = length
        self._at = 0

    def __len__(self) -> int:
        return self._length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._length - self._at)
        length = left if size is None or size < 0 else min(size, left)
        data = self._content.read(self._first + self._at, length)
        self._at += len(data)
        return data

    def readinto(self, buffer: WriteableBuffer) -> int:  # how the signer of awscrt reads
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


def body(content: Content, first: int = 0, length: int | None = None) -> bytes | ContentFile:
    """Small bodies as bytes, large ones as a file, so that no more than a block of them is in memory."""
    length = max(0, content.size - first if length is None else min(length, content.size - first))
    return content.read(first, length) if length <= _SMALL else ContentFile(content, first, length)


def pieces(size: int, step: int) -> list[tuple[int, int]]:
    """`size` bytes cut every `step` bytes: (first, length) of each piece."""
    return [(first, min(step, size - first)) for first in range(0, size, step)]
