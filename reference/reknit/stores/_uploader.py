"""The seam of uploads: a store's module that has `uploader(url, options)` beside `connect` takes uploads.

An Uploader is a handful of requests, each made once and answered once, as in Store: a status is an answer,
StoreFault is raised when the wire broke, and nothing is retried here. Which methods are called depends on
`shape.kind`:

    whole     put, stat
    parts     put for objects of one part; begin, look, send, commit, abort, stat for larger ones
    offset    begin, look, send, abort, stat

*One growing resource with an offset* (the IETF's resumable uploads, tus): `begin(size)` creates the resource,
empty, and answers with its URL as `session`, `offset` 0, and `most` if the server limits what one request may
carry. `look` is the HEAD of that URL: `offset`, `complete`, or `gone` for 404 and 410. `send` appends
`piece.size` bytes at `piece.offset`, the last when `piece.last`, and answers with `offset` and `complete`
where the server says them (None and False where not: the machine then asks by `look`); a 409 is an answer
like any other. `stat` is the HEAD of what the object is called when it is whole. An object of no bytes is
begun, and then completed by a `send` of no bytes, unless `begin` was answered by `complete`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from reknit._upload_events import Piece, Shape, Stored, Told

__all__ = ["Body", "Small", "Uploader", "UploaderBase"]


class Body(Protocol):
    """What is sent: the same `size` bytes each time it is asked."""

    size: int
    md5: str
    """In hexadecimal, where the shape is `hashed`; else empty."""
    crc32: int | None
    """Where the shape is `summed`."""

    def blocks(self) -> Iterator[memoryview]:
        """From the first byte on, each time. Raises SourceError, which has to end the request unfinished."""


class Uploader(Protocol):
    """Takes one object. May be called by several threads at once if its shape is "parts"."""

    identity: str
    """Names the target in the journal; holds no secret."""
    shape: Shape

    def put(self, body: Body) -> Told:
        """Store the object in one request."""

    def begin(self, size: int) -> Told:
        """Begin an upload; the answer's `session` names it."""

    def send(self, session: str, piece: Piece, body: Body) -> Told:
        """Store one part, or append at an offset. A part's tag is the `etag` of the answer."""

    def look(self, session: str, after: str, last: int) -> Told:
        """One page of the parts that are there, or the offset."""

    def commit(self, session: str, parts: Sequence[Stored]) -> Told:
        """Make the object of the parts."""

    def abort(self, session: str, after: str, last: int) -> Told:
        """Remove the upload, or a page of it: the answer's `more` says what is left."""

    def stat(self) -> Told:
        """The head of the object (HEAD or the like)."""

    def renew(self) -> bool:
        """Fetch new credentials; False when there are none to be had."""

    def close(self) -> None:
        """Drop every connection, those in use by other threads too. It does not raise."""


class Small:
    """The few bytes of a request without an object in it."""

    md5 = ""
    crc32: int | None = None

    def __init__(self, data: bytes | bytearray) -> None:
        self._data, self.size = data, len(data)

    def blocks(self) -> Iterator[memoryview]:
        """All at once."""
        yield memoryview(self._data)


class UploaderBase:
    """For members to inherit what their shape has no use for."""

    def begin(self, size: int) -> Told:
        """Not of this shape."""
        raise NotImplementedError

    def send(self, session: str, piece: Piece, body: Body) -> Told:
        """Not of this shape."""
        raise NotImplementedError

    def look(self, session: str, after: str, last: int) -> Told:
        """Not of this shape."""
        raise NotImplementedError

    def commit(self, session: str, parts: Sequence[Stored]) -> Told:
        """Not of this shape."""
        raise NotImplementedError

    def abort(self, session: str, after: str, last: int) -> Told:
        """Not of this shape."""
        raise NotImplementedError

    def put(self, body: Body) -> Told:
        """Not of this shape."""
        raise NotImplementedError

    def renew(self) -> bool:
        """No credentials."""
        return False

    def close(self) -> None:
        """Nothing is open."""
