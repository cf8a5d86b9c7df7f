"""HTTP/1.1 on the wire, byte by byte: which part of a message each byte belongs to.

A `Tracker` follows one message (RFC 9112) without keeping its body. Feed it what arrives, in pieces of any
size; it announces `Span`s, each a stretch of the message with a name, as soon as the stretch is certain: the
head when it is complete, a Content-Length body with the head, each chunk with its size line. So whoever
relays the bytes knows where a position lies before the byte at that position is sent.

It is lenient where a relay must be (bare LF, odd casing, folded lines pass through untouched) and never
rewrites a byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

MAX_HEAD = 256 * 1024  # also of a trailer field
MAX_CHUNK_HEADER = 4096
OPEN_END = 1 << 62  # the end of a body that only the end of the connection ends


class Place(StrEnum):
    """The parts of a message."""

    STATUS_LINE = "status-line"
    HEADERS = "headers"
    BLANK = "blank"  # the CRLF that ends the head
    BODY = "body"  # payload, as opposed to framing
    CHUNK_HEADER = "chunk-header"  # a chunk's size line, with its CRLF
    CHUNK_END = "chunk-end"  # the CRLF after a chunk's data
    LAST_CHUNK = "last-chunk"  # the size line of the chunk of size 0
    TRAILER = "trailer"  # trailer fields, if any, and the final CRLF
    END = "end"  # after the last byte; a span of length 0


@dataclass(frozen=True, slots=True)
class Span:
    """Wire bytes [start, end) of a message; `body` is the payload offset at `start`."""

    place: Place
    start: int
    end: int
    body: int = 0


@dataclass(slots=True)
class Head:
    """A message head: the start line and the fields in order, names as they came."""

    line: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    raw: bytes = b""

    def get(self, name: str) -> str | None:
        """All values of a field joined by ", " (RFC 9110 section 5.3), or None."""
        low = name.lower()
        values = [v for n, v in self.fields if n.lower() == low]
        return ", ".join(values) if values else None

    def has(self, name: str) -> bool:
        return any(n.lower() == name.lower() for n, _ in self.fields)

    def without(self, *names: str) -> Head:
        """The same head with some fields left out."""
        low = {n.lower() for n in names}
        return Head(self.line, [(n, v) for n, v in self.fields if n.lower() not in low])

    def with_field(self, name: str, value: str) -> Head:
        """The same head with a field set, in the place of the old one where there is one."""
        low, placed, fields = name.lower(), False, []
        for n, v in self.fields:
            if n.lower() != low:
                fields.append((n, v))
            elif not placed:
                fields.append((n, value))
                placed = True
        return Head(self.line, fields if placed else [*fields, (name, value)])

    def with_line(self, line: str) -> Head:
        return Head(line, list(self.fields))

    def render(self) -> bytes:
        """The bytes of the head, blank line included."""
        lines = [self.line, *(f"{n}: {v}" for n, v in self.fields)]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    @property
    def status(self) -> int:
        """The status code of a response head; 0 when the line is not one."""
        found = re.match(r"HTTP/1\.[01] +(\d{3})(?: |$)", self.line)
        return int(found[1]) if found else 0

    @property
    def request(self) -> tuple[str, str]:
        """Method and target of a request head."""
        parts = self.line.split(" ")
        return (parts[0], parts[1]) if len(parts) == 3 else (self.line, "")


def parse_head(raw: bytes) -> Head:
    """Read a complete head, final blank line included; obs-fold is unfolded (RFC 9112 section 5.2)."""
    lines = raw.decode("latin-1").replace("\r\n", "\n").strip("\n").split("\n")
    fields: list[tuple[str, str]] = []
    for line in lines[1:]:
        if line[:1] in (" ", "\t") and fields:
            fields[-1] = (fields[-1][0], f"{fields[-1][1]} {line.strip()}".strip())
        else:
            name, _, value = line.partition(":")
            fields.append((name, value.strip()))
    return Head(lines[0], fields, raw)


_HEAD_END = re.compile(rb"\n\r?\n")
_EMPTY_LINES = re.compile(rb"(?:\r?\n)*")


def head_end(data: bytes | bytearray, seen: int = 0) -> int:
    """Length of the complete head at the start of `data`, or -1; the first `seen` bytes hold no end.

    Empty lines before the start line belong to the head and do not end it (RFC 9112 section 2.2).
    """
    empty = _EMPTY_LINES.match(data)
    assert empty
    found = _HEAD_END.search(data, max(empty.end(), seen - 2))
    return found.end() if found else -1


@dataclass(frozen=True)
class ContentRange:
    """`bytes first-last/total` of a 206, or `bytes */total` of a 416 (RFC 9110 section 14.4)."""

    first: int | None
    last: int | None
    total: int | None


def content_range(value: str | None) -> ContentRange | None:
    """Parse Content-Range; None when absent or malformed."""
    found = re.fullmatch(r"\s*bytes\s+(?:(\d+)-(\d+)|\*)/(\d+|\*)\s*", value or "", re.IGNORECASE)
    if not found:
        return None
    first, last, total = found.groups()
    if first is not None and int(last) < int(first):
        return None
    return ContentRange(
        int(first) if first else None, int(last) if last else None, int(total) if total != "*" else None
    )


class Framing(StrEnum):
    """How the end of a body is told (RFC 9112 section 6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


def framing_of(head: Head, request_method: str | None) -> tuple[Framing, int]:
    """Framing and declared length of a message; `request_method` None means the message is a request."""
    if request_method is not None:
        status = head.status
        if request_method == "HEAD" or 100 <= status < 200 or status in (204, 304):
            return Framing.NONE, 0
    unframed = (Framing.NONE, 0) if request_method is None else (Framing.CLOSE, 0)
    coding = head.get("transfer-encoding")
    if coding:  # overrides Content-Length, also when it says nothing about the end
        return (Framing.CHUNKED, 0) if coding.lower().split(",")[-1].strip() == "chunked" else unframed
    length = re.match(r"[ \t]*([0-9]{1,18})[ \t]*(?:,|$)", head.get("content-length") or "")
    if length:
        return (Framing.LENGTH, int(length[1])) if int(length[1]) else (Framing.NONE, 0)
    return unframed


class Tracker:
    """Follows one message from its first byte to its last.

    `request_method` is the method of the request this message answers, or None when it is a request itself.
    Interim responses (1xx) are messages of their own: start a new Tracker after one.

    Attributes: `head` (None until complete), `framing`, `length` (declared, for Framing.LENGTH), `wire`
    (bytes accounted for), `body` (payload bytes among them), `complete`.
    """

    def __init__(self, request_method: str | None) -> None:
        self.request_method = request_method
        self.head: Head | None = None
        self.framing = Framing.NONE
        self.length = 0
        self.wire = 0
        self.body = 0
        self.complete = False
        self.broken = False  # framing that cannot be followed: the rest passes as one body
        self._buffer = bytearray()
        self._bulk = 0
        self._seen = 0  # bytes of the buffer known to hold no end of a head
        self._state = self._in_head

    @property
    def bulk(self) -> int:
        """Payload bytes certain to come next: these can be counted with `skip` instead of being fed."""
        return self._bulk

    @property
    def held(self) -> int:
        """Bytes fed that wait for more before they can be named."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> tuple[list[Span], int]:
        """Account for wire bytes; gives the spans that became certain, and how many bytes were taken.

        Bytes beyond the end of the message are not taken.
        """
        spans: list[Span] = []
        view = memoryview(data)
        taken = 0
        while not self.complete:
            if self._bulk and not self._buffer:
                n = min(self._bulk, len(view) - taken)
                self.skip(n, spans)
                taken += n
                if taken == len(view):
                    break
                continue
            before = len(self._buffer)
            self._buffer += view[taken : taken + 16384]
            offered = len(self._buffer) - before
            used = self._state(spans)
            if used < 0:  # needs more than it has
                taken += offered
                if taken == len(view):
                    break
                continue
            taken += used - before  # a part is only ever finished by bytes offered just now
            self._buffer.clear()
        return spans, taken

    def skip(self, n: int, spans: list[Span] | None = None) -> None:
        """Account for `n` payload bytes (n <= bulk) that were relayed unseen."""
        self._bulk -= n
        self.wire += n
        self.body += n
        if not self._bulk and self.framing is Framing.LENGTH:
            self._finish([] if spans is None else spans)

    def end_span(self) -> Span:
        """The empty span behind the last byte; certain once the message is complete."""
        return Span(Place.END, self.wire, self.wire, self.body)

    def close(self) -> bool:
        """The connection ended: True when that completes the message (RFC 9112 section 8)."""
        if self.framing is Framing.CLOSE and self.head:
            self.complete = True
        return self.complete

    # Each state looks at the buffer and either names its next part, adding its spans and giving the number
    # of bytes it took, or gives -1 for "not enough yet".

    def _in_head(self, spans: list[Span]) -> int:
        end = head_end(self._buffer, self._seen)
        self._seen = len(self._buffer)
        if max(end, self._seen if end < 0 else 0) > MAX_HEAD:
            return self._give_up(spans)
        if end < 0:
            return -1
        raw = bytes(self._buffer[:end])
        self.head = parse_head(raw)
        line = raw.index(b"\n", len(raw) - len(raw.lstrip(b"\r\n"))) + 1
        blank = end - (2 if raw.endswith(b"\r\n") else 1)
        spans.append(Span(Place.STATUS_LINE, 0, line))
        if blank > line:
            spans.append(Span(Place.HEADERS, line, blank))
        spans.append(Span(Place.BLANK, blank, end))
        self.wire = end
        self.framing, self.length = framing_of(self.head, self.request_method)
        if self.framing is Framing.LENGTH:
            self._bulk = self.length
            spans.append(Span(Place.BODY, end, end + self.length))
        elif self.framing is Framing.CLOSE:
            self._bulk = OPEN_END - end
            spans.append(Span(Place.BODY, end, OPEN_END))
        elif self.framing is Framing.CHUNKED:
            self._state = self._in_chunk_header
        else:
            self._finish(spans)
        return end

    def _line(self, limit: int) -> int:
        """Length of the line in the buffer; 0 when it is longer than `limit`, -1 when it is not complete."""
        end = self._buffer.find(b"\n") + 1
        if max(end, 0 if end else len(self._buffer)) > limit:
            return 0
        return end or -1

    def _in_chunk_header(self, spans: list[Span]) -> int:
        end = self._line(MAX_CHUNK_HEADER)
        if end < 0:
            return -1
        found = re.match(rb"[ \t]*([0-9a-fA-F]{1,15})[ \t]*(?:;|\r?\n)", self._buffer) if end else None
        if not found:
            return self._give_up(spans)
        size = int(found[1], 16)
        start, self.wire = self.wire, self.wire + end
        spans.append(Span(Place.CHUNK_HEADER if size else Place.LAST_CHUNK, start, self.wire, self.body))
        if size:
            self._bulk = size
            spans.append(Span(Place.BODY, self.wire, self.wire + size, self.body))
            self._state = self._in_chunk_end
        else:
            self._state = self._in_trailer
        return end

    def _in_chunk_end(self, spans: list[Span]) -> int:
        end = 2 if self._buffer.startswith(b"\r\n") else 1 if self._buffer.startswith(b"\n") else 0
        if not end:
            return -1 if bytes(self._buffer[:2]) in (b"", b"\r") else self._give_up(spans)
        spans.append(Span(Place.CHUNK_END, self.wire, self.wire + end, self.body))
        self.wire += end
        self._state = self._in_chunk_header
        return end

    def _in_trailer(self, spans: list[Span]) -> int:
        end = self._line(MAX_HEAD)
        if end <= 0:
            return -1 if end else self._give_up(spans)
        spans.append(Span(Place.TRAILER, self.wire, self.wire + end, self.body))
        self.wire += end
        if not self._buffer[:end].strip():
            self._finish(spans)
        return end

    def _finish(self, spans: list[Span]) -> None:
        self.complete = True
        spans.append(self.end_span())

    def _give_up(self, spans: list[Span]) -> int:
        """What cannot be followed is passed on as it is until the connection ends."""
        self.broken = True
        self.framing = Framing.CLOSE
        self.head = self.head or Head("")
        self._bulk = OPEN_END - self.wire
        spans.append(Span(Place.BODY, self.wire, OPEN_END, self.body))
        taken = len(self._buffer)
        self.skip(taken)
        return taken
