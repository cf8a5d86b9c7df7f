"""A single range answered as multipart/byteranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Context, Payload, Rewrite, Verb
from midstream._wire import Head, content_range
from midstream.faults import AtHead

BOUNDARY = "midstream-part"


class _Wrapped:
    def __init__(self, before: bytes, after: bytes) -> None:
        self.touched = True
        self.over = False
        self._before, self._after = before, after

    def feed(self, data: bytes) -> bytes:
        before, self._before = self._before, b""
        return before + data

    def end(self) -> bytes:
        return self._before + self._after


def _frame(context: Context) -> tuple[bytes, bytes]:
    """What stands before and after the payload (RFC 9110 section 14.6)."""
    fields = f"Content-Range: {context.head.get('content-range')}"
    before = f"--{BOUNDARY}\r\nContent-Type: application/octet-stream\r\n{fields}\r\n\r\n"
    return before.encode(), f"\r\n--{BOUNDARY}--\r\n".encode()


@dataclass(frozen=True)
class Multipart(AtHead):
    """Wrap the body of a 206 into multipart/byteranges with one part."""

    id: ClassVar[str] = "multipart"
    summary: ClassVar[str] = "answer a single range as multipart/byteranges"
    takes: ClassVar[str] = "nothing"
    example: ClassVar[str] = "get_object#2 multipart@head"
    grounds: ClassVar[tuple[str, ...]] = ("H13",)

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value:
            raise ValueError("multipart takes no value")
        return cls()

    @property
    def value(self) -> str:
        return ""

    def _edit(self, context: Context) -> Head | None:
        declared = content_range(context.head.get("content-range"))
        if context.head.status != 206 or declared is None or context.base is None or context.length is None:
            return None
        before, after = _frame(context)
        head = context.head.without("Content-Range")
        head = head.with_field("Content-Type", f"multipart/byteranges; boundary={BOUNDARY}")
        return head.with_field("Content-Length", str(len(before) + context.length + len(after)))

    def _payload(self, context: Context) -> Payload:
        return _Wrapped(*_frame(context))

    def verbs(self) -> tuple[Verb, ...]:
        return (Rewrite(self._edit, self._payload, coded=True),)


MEMBER = Multipart
