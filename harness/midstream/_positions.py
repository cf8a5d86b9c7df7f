"""Where a fault fires, as text and as an exact wire byte.

A position names the first byte that is *not* delivered before the fault acts: `cut@1000` lets object bytes
0 to 999 through. Object offsets are absolute, so a cut finds its byte whatever ranges or parts the driver
chose. Nothing here does I/O: `locate` turns a position into a byte of one message as soon as the message's
spans make it certain.

    1048576      before object byte 1,048,576          50%   before the byte at half of the object
    body+4096    before byte 4,096 of a response body  100%  after the last object byte
    wire+512     before byte 512 of the connection     end-1 all but the last wire byte
    sent+4096    before byte 4,096 of a request body   sent+50% half of it, by its Content-Length
    NAME         a named place, see PLACES             any of them with +n or -n

Positions in a request body (`sent`) name the first byte that does not reach the *store*; all others the first
one that does not reach the client.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from midstream._wire import Head, Place, Span

PLACES = {
    "accept": "a connection, before anything is read from it",
    "request": "a request, before the store sees it",
    "head": "before the first byte of the response head",
    "status-line": "inside the status line",
    "headers": "after the first field line",
    "last-header": "after the last field line, before the blank line",
    "chunk-header": "inside the size line of the first chunk that follows payload",
    "chunk-boundary": "after the first whole chunk, with its CRLF",
    "last-chunk": "before the chunk of size 0",
    "trailer": "after the chunk of size 0, before the final CRLF",
    "end": "after the last byte of the response",
}
_TEXT = re.compile(
    r"(?:(?P<object>\d+)|(?P<percent>\d+(?:\.\d+)?)%|(?P<kind>body|wire)\+(?P<count>\d+)"
    r"|sent\+(?P<sent>\d+(?:\.\d+)?)(?P<share>%)?"
    rf"|(?P<place>{'|'.join(PLACES)}))(?P<delta>[+-]\d+)?",
    re.ASCII,
)


class BadPosition(ValueError):
    """The text is no position; the message names the forms there are."""


@dataclass(frozen=True, slots=True)
class Position:
    """`kind` is object, percent, body, wire, sent, share (of what is sent) or place; `value` its number or
    name; `delta` bytes on top.
    """

    kind: str
    value: int | Decimal | str
    delta: int = 0

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read a position; raises BadPosition."""
        found = _TEXT.fullmatch(text)
        if not found:
            raise BadPosition(
                f"{text!r} is no position; use an object offset, N%, body+N, wire+N, sent+N or one of "
                f"{', '.join(PLACES)}, each with +n or -n"
            )
        delta = int(found["delta"] or 0)
        if found["object"]:
            if int(found["object"]) + delta < 0:
                raise BadPosition(f"{text!r} lies before the first byte")
            return cls("object", int(found["object"]) + delta)
        if found["percent"]:
            percent = Decimal(found["percent"])
            if percent > 100 or (percent == 100 and delta > 0):
                raise BadPosition(f"{text!r} lies behind the last byte")
            if percent == 0 and delta < 0:
                raise BadPosition(f"{text!r} lies before the first byte")
            return cls("percent", percent, delta)
        if found["sent"]:
            return cls._in_request(text, found, delta)
        if found["kind"]:
            if int(found["count"]) + delta < 0:
                raise BadPosition(f"{text!r} lies before the first byte")
            return cls(found["kind"], int(found["count"]) + delta)
        if (found["place"] == "head" and delta < 0) or (found["place"] == "end" and delta > 0):
            raise BadPosition(f"{text!r} lies outside the response")
        return cls("place", found["place"], delta)

    @classmethod
    def _in_request(cls, text: str, found: re.Match[str], delta: int) -> Position:
        if found["share"]:
            share = Decimal(found["sent"])
            if share > 100 or (share == 100 and delta > 0) or (share == 0 and delta < 0):
                raise BadPosition(f"{text!r} lies outside the request's body")
            return cls("share", share, delta)
        if "." in found["sent"] or int(found["sent"]) + delta < 0:
            raise BadPosition(f"{text!r} names no byte of a request's body")
        return cls("sent", int(found["sent"]) + delta)

    @property
    def in_request(self) -> bool:
        """Whether it lies in the body of a request, on its way to the store."""
        return self.kind in ("sent", "share")

    def __str__(self) -> str:
        delta = f"{self.delta:+d}" if self.delta else ""
        match self.kind:
            case "share":
                return f"sent+{self.value:f}%{delta}"
            case "object":
                return f"{self.value}{delta}"
            case "percent":
                return f"{self.value:f}%{delta}"
            case "place":
                return f"{self.value}{delta}"
        return f"{self.kind}+{self.value}{delta}"

    def aim(self, object_size: int | None) -> Position:
        """Percentages become object offsets once the size is known; everything else stays."""
        if self.kind != "percent" or object_size is None:
            return self
        return Position("object", max(0, int(object_size * Decimal(self.value) / 100) + self.delta))

    @property
    def lookback(self) -> int:
        """Bytes a relay must hold back so that the place, known only when reached, can still be met."""
        return max(0, -self.delta) if self.kind == "place" else 0


@dataclass(frozen=True, slots=True)
class Message:
    """What is known of a response, or of a request with a body, when its head is complete.

    `base` is the object offset of its first payload byte, None when it carries no object bytes (an error, a
    listing); `total` the object's size where known, of a request that of its body; `before` the connection's
    wire bytes before it.
    """

    head: Head
    base: int | None
    total: int | None
    before: int = 0


def locate(position: Position, span: Span, message: Message) -> int | None:
    """The wire byte of the message at which `position` lies, if `span` makes it certain; else None.

    Offsets count from the message's first byte. A result may lie behind the span (+n) or before it (-n).
    """
    if position.kind == "percent":
        if message.total is None:
            return None
        position = position.aim(message.total)
    match position.kind:
        case "object":
            return _object(int(position.value), span, message)
        case "body" | "sent":
            return _payload(int(position.value), span)
        case "share":
            if message.total is None:
                return None
            return _payload(int(message.total * Decimal(position.value) / 100) + position.delta, span)
        case "wire":
            return int(position.value) - message.before if span.place is Place.STATUS_LINE else None
    found = _place(str(position.value), span, message)
    return None if found is None else found + position.delta


def _object(offset: int, span: Span, message: Message) -> int | None:
    if message.base is None:
        return None
    if span.place is Place.END and offset == message.total == message.base + span.body:
        return span.start  # behind the last object byte: in whichever response delivers it
    if span.place is not Place.BODY:
        return None
    first = message.base + span.body
    return span.start + offset - first if first <= offset < first + span.end - span.start else None


def _payload(count: int, span: Span) -> int | None:
    if span.place is Place.BODY and span.body <= count < span.body + span.end - span.start:
        return span.start + count - span.body
    # All of the payload: before the last chunk where there is one, else after the last byte.
    if span.place in (Place.LAST_CHUNK, Place.END) and count == span.body:
        return span.start
    return None


def _place(name: str, span: Span, message: Message) -> int | None:
    place = span.place
    if name == "head" and place is Place.STATUS_LINE:
        return 0
    if name == "status-line" and place is Place.STATUS_LINE:
        return span.start + (span.end - span.start) // 2
    if name == "headers" and place is Place.HEADERS:
        return message.head.raw.index(b"\n", span.start) + 1
    if name == "last-header" and place is Place.BLANK:
        return span.start
    if name == "chunk-header" and place in (Place.CHUNK_HEADER, Place.LAST_CHUNK) and span.body:
        return span.start + 1
    if name == "chunk-boundary" and place is Place.CHUNK_END:
        return span.end
    if name == "last-chunk" and place is Place.LAST_CHUNK:
        return span.start
    if name == "trailer" and place is Place.TRAILER:
        return span.start
    if name == "end" and place is Place.END:
        return span.start
    return None
