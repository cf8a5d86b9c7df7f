"""Changing a response on its way, byte stream to byte stream.

A `Rewriter` is fed what the store sends and gives what the client is to get. It reads the head, asks each
rewrite whether it wants this response, and from then on passes payload through the rewrites that took it,
framing it anew. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from midstream._positions import Message, Position, locate
from midstream._verbs import Context, Payload, Rewrite
from midstream._wire import OPEN_END, Framing, Head, Place, Span, Tracker, content_range, framing_of

CHUNK = 16384  # of a body that is chunked here: fixed, so that the wire does not depend on how bytes came in


@dataclass
class Wanted:
    """A rewrite in force for this response.

    `claim` is asked once it would apply, and told whether the head changes; False means healed.
    """

    rewrite: Rewrite
    position: Position
    claim: Callable[[bool], bool]
    applied: bool = False


def object_base(head: Head, *, carries_object: bool) -> int | None:
    """The object offset of the first payload byte of a response, None when it carries no object bytes."""
    if not carries_object:
        return None
    if head.status == 200:
        return 0
    declared = content_range(head.get("content-range"))
    return declared.first if head.status == 206 and declared else None


@dataclass
class _Stream:
    """The payload as the next rewrite finds it: what the ones before it have left of the store's."""

    head: Head  # the store's
    base: int | None
    total: int | None
    length: int | None  # as declared by the newest head
    end: int = field(init=False)
    whole: int = field(init=False)  # the store's end
    coded: bool = False
    _gone: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rest = self.total - self.base if self.total is not None and self.base is not None else OPEN_END
        self.end = self.whole = max(0, rest if self.length is None else self.length)

    def find(self, position: Position) -> int | None:
        """Where in this payload a position lies; None when it does not.

        An object offset means that byte, wherever earlier rewrites have moved it; `body+N` counts what they
        have left.
        """
        if position.kind not in ("object", "percent", "body") or (self.coded and position.kind != "body"):
            return None
        reach = self.end if position.kind == "body" else self.whole
        at = locate(position, Span(Place.BODY, 0, reach), Message(self.head, self.base, self.total))
        if at is None or position.kind == "body":
            return at
        for start, count in self._gone:
            if at < start:
                continue
            if at < start + count:
                return None
            at -= count
        return at

    def changed(self, at: int | None, new: int | None, coded: bool, head_changes: bool) -> None:
        """A rewrite of the payload applies: `new` is the length that its head declares."""
        if coded:
            self.coded, self.end = True, OPEN_END
        elif at is not None and self.length is not None and new is not None:
            self._gone.append((at, self.length - new))
            self.end = new
        elif at is not None and head_changes:
            self._gone.append((at, OPEN_END))
            self.end = at
        self.length = new


class Rewriter:
    """One response. `base` is what its payload really is, whatever the new head says.

    Rewrites apply in their order, each to what the one before it has made.
    """

    def __init__(
        self, request_method: str, wanted: Sequence[Wanted], *, carries_object: bool, total: int | None
    ) -> None:
        self._source = Tracker(request_method)
        self._carries_object = carries_object
        self._wanted = wanted
        self._total = total
        self._payloads: list[Payload] = []
        self._chunked = False
        self._unframed = bytearray()  # payload that fills no chunk yet
        self._held = bytearray()  # wire bytes of the store that nothing has been made of yet
        self._at = 0  # how many came before them
        self._parts: deque[Span] = deque()
        self._trailer = bytearray()
        self.base: int | None = None
        self.decided = False
        self.applied = False
        self.over = False  # a rewrite ended the body before the store did

    @property
    def complete(self) -> bool:
        """Whether there is nothing more to come."""
        return self.over or self._source.complete

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """New wire bytes for those of the store, and how many of these were taken."""
        if self.complete:
            return b"", 0
        spans, taken = self._source.feed(data)
        self._held += data[:taken]
        head = self._source.head
        if head is None:
            return b"", taken
        out = bytearray()
        if not self.decided:
            out += self._begin(head)
            self._advance(len(head.raw))
        if self._payloads:
            self._parts.extend(s for s in spans if s.place in (Place.BODY, Place.TRAILER))
            out += self._rewritten()
        else:
            out += self._advance(len(self._held))
        return bytes(out), taken

    def close(self) -> bytes:
        """The store has ended the connection; what is left to send."""
        if not self.decided:
            return self._advance(len(self._held))
        ended = not self.complete and self._source.close()
        return self._finish() if ended and self._payloads else b""

    def _advance(self, n: int) -> bytes:
        data = bytes(self._held[:n])
        del self._held[:n]
        self._at += n
        return data

    def _begin(self, head: Head) -> bytes:
        """The head is complete: decide, and give the new one."""
        self.decided = True
        if not head.raw or 100 <= head.status < 200:  # no head at all, or an interim one
            return head.raw
        self.base = object_base(head, carries_object=self._carries_object)
        method = self._source.request_method
        has_body = method != "HEAD" and head.status not in (204, 304)
        stream = self._stream(head, has_body)
        changed = head
        for one in self._wanted:
            at = stream.find(one.position)
            context = Context(changed, stream.base, stream.length, stream.total, at)
            new = one.rewrite.head(context)
            same = new is not None and (new.line, new.fields) == (changed.line, changed.fields)
            if new is None or (same and not one.rewrite.payload) or not one.claim(not same):
                continue
            one.applied = self.applied = True
            changed = new
            if one.rewrite.payload and has_body:
                self._payloads.append(one.rewrite.payload(context))
                stream.changed(at, _length(new, method), one.rewrite.coded, not same)
        if stream.coded:
            self.base = None
        self._chunked = framing_of(changed, method)[0] is Framing.CHUNKED
        if (changed.line, changed.fields) == (head.line, head.fields):
            return head.raw
        return changed.render()

    def _stream(self, head: Head, has_body: bool) -> _Stream:
        """The payload as the store sends it."""
        length = _length(head, self._source.request_method) if has_body else None
        declared = content_range(head.get("content-range"))
        total = self._total if self._total is not None else declared.total if declared else None
        if total is None and self.base == 0:
            total = length
        return _Stream(head, self.base, total, length)

    def _rewritten(self) -> bytes:
        """The payload among the wire bytes held through the rewrites, framed anew."""
        out = bytearray()
        start = self._at
        piece = self._advance(self._source.wire - start)
        end = self._at
        for part in self._parts:
            data = piece[max(part.start, start) - start : part.end - start]
            if part.place is Place.TRAILER:
                self._trailer += data
            elif not self.over:
                out += self._frame(self._pass(data, 0))
                self.over = any(p.over for p in self._payloads)
        while self._parts and self._parts[0].end <= end:
            self._parts.popleft()
        return bytes(out) + (self._finish() if self.complete else b"")

    def _pass(self, data: bytes, first: int) -> bytes:
        for payload in self._payloads[first:]:
            data = payload.feed(data)
        return data

    def _frame(self, data: bytes, least: int = CHUNK) -> bytes:
        """What can be sent of the payload so far, in chunks of `least` bytes or more, if it is chunked."""
        if not self._chunked:
            return data
        self._unframed += data
        out = bytearray()
        while len(self._unframed) >= least:
            chunk = bytes(self._unframed[:CHUNK])
            del self._unframed[:CHUNK]
            out += b"%x\r\n%b\r\n" % (len(chunk), chunk)
        return bytes(out)

    def _finish(self) -> bytes:
        """What the rewrites still hold, and the end of the body."""
        out = bytearray()
        for index, payload in enumerate(self._payloads):
            if rest := payload.end():
                out += self._frame(self._pass(rest, index + 1))
        if not self._chunked:
            return bytes(out)
        out += self._frame(b"", 1)
        trailer = b"" if self.over else bytes(self._trailer)
        return bytes(out) + b"0\r\n" + (trailer or b"\r\n")


def _length(head: Head, method: str | None) -> int | None:
    """The payload length that a head declares for a response with a body."""
    framing, length = framing_of(head, method)
    return length if framing in (Framing.LENGTH, Framing.NONE) else None
