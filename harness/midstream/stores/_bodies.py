"""Content as what HTTP clients take for a body."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from midstream._content import Content

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_SMALL = 1 << 20


class ContentFile(io.RawIOBase):
    """A seekable file that makes its bytes as they are read."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._at = 0

    def __len__(self) -> int:
        return self._content.size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._content.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = self._content.size - self._at
        data = self._content.read(self._at, left if size is None or size < 0 else size)
        self._at += len(data)
        return data

    def readinto(self, buffer: WriteableBuffer) -> int:  # how the signer of awscrt reads
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


def body(content: Content) -> bytes | ContentFile:
    """Small objects as bytes, large ones as a file, so that no more than a block of them is in memory."""
    return content.whole() if content.size <= _SMALL else ContentFile(content)
