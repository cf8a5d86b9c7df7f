"""A coding nobody asked for, put on by something in between."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Context, Payload, Rewrite, Verb
from midstream._wire import Head
from midstream.faults import AtHead

DIGESTS = ("Content-MD5", "Content-Digest", "Repr-Digest", "Digest")  # of bytes that these are no more


class _Gzip:
    """Compresses the payload; with `trailer` False the stream stops before its CRC and size."""

    def __init__(self, trailer: bool) -> None:
        self.touched = self.over = False
        self._trailer = trailer
        # Level 1: this is a stand-in for an intermediary, not for good compression. wbits 31 is gzip.
        self._coder = zlib.compressobj(1, zlib.DEFLATED, 31)

    def feed(self, data: bytes) -> bytes:
        self.touched = True
        return self._coder.compress(data)

    def end(self) -> bytes:
        rest = self._coder.flush()
        return rest if self._trailer else rest[:-8]  # RFC 1952 section 2.3: CRC32 and ISIZE


@dataclass(frozen=True)
class Gzip(AtHead):
    """Send the payload gzip-coded, chunked; the ETag stays, the digest fields go."""

    id: ClassVar[str] = "gzip"
    summary: ClassVar[str] = "gzip the body on the fly, whole or without its trailer"
    takes: ClassVar[str] = "whole|cut (default whole)"
    example: ClassVar[str] = "get_object#1 gzip@head"
    grounds: ClassVar[tuple[str, ...]] = ("H11",)

    trailer: bool = True

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value not in (None, "whole", "cut"):
            raise ValueError(f"gzip takes whole or cut, not {value!r}")
        return cls(value != "cut")

    @property
    def value(self) -> str:
        return "whole" if self.trailer else "cut"

    def _edit(self, context: Context) -> Head | None:
        if context.base is None:
            return None
        bare = context.head.without("Content-Length", *DIGESTS, "Accept-Ranges")
        return bare.with_field("Content-Encoding", "gzip").with_field("Transfer-Encoding", "chunked")

    def _payload(self, context: Context) -> Payload:
        return _Gzip(self.trailer)

    def verbs(self) -> tuple[Verb, ...]:
        return (Rewrite(self._edit, self._payload, coded=True),)


MEMBER = Gzip
