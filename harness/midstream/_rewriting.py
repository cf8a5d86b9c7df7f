"""Changing a response on its way, byte stream to byte stream.

A `Rewriter` is fed what the store sends and gives what the client is to get. It reads the head, asks each
rewrite whether it wants this response, and from then on passes payload through the rewrites that took it,
framing it anew. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from midstream._positions import Message, Position, locate
from midstream._verbs import Context, Payload, Rewrite
from midstream._wire import Framing, Head, Place, Span, Tracker, content_range, framing_of


@dataclass
class Wanted:
    """A rewrite in force for this response.

    `claim` is asked once it would apply, and told whether the head changes; False means healed.
    """

    rewrite: Rewrite
    position: Position
    claim: Callable[[bool], bool]
    applied: bool = False
    payload: Payload | None = None


def object_base(head: Head, *, carries_object: bool) -> int | None:
    """The object offset of the first payload byte of a response, None when it carries no object bytes."""
    if not carries_object:
        return None
    if head.status == 200:
        return 0
    declared = content_range(head.get("content-range"))
    return declared.first if head.status == 206 and declared else None


class Rewriter:
    """One response. `base` is what its payload really is, whatever the new head says."""

    def __init__(
        self, request_method: str, wanted: Sequence[Wanted], *, carries_object: bool, total: int | None
    ) -> None:
        self._source = Tracker(request_method)
        self._carries_object = carries_object
        self._wanted = wanted
        self._total = total
        self._payloads: list[Payload] = []
        self._chunked = False
        self._fed = 0
        self._bodies: deque[Span] = deque()
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
        had_head = self._source.head is not None
        spans, taken = self._source.feed(data)
        head, start = self._source.head, self._fed
        self._fed += taken
        if head is None:
            return b"", taken
        out = bytearray(b"" if had_head else self._begin(head))
        self._bodies.extend(s for s in spans if s.place is Place.BODY)
        if self._payloads:
            out += self._rewritten(data[:taken], start)
        else:
            out += data[max(0, len(head.raw) - start) : taken]
        return bytes(out), taken

    def close(self) -> bytes:
        """The store has ended the connection; what is left to send."""
        ended = not self.complete and self._source.close()
        return self._finish() if ended and self._payloads else b""

    def _begin(self, head: Head) -> bytes:
        """The head is complete: decide, and give the new one."""
        self.decided = True
        if 100 <= head.status < 200:
            return head.raw  # an interim response is never the one that is meant
        self.base = object_base(head, carries_object=self._carries_object)
        declared = content_range(head.get("content-range"))
        total = self._total if self._total is not None else declared.total if declared else None
        framing, length = framing_of(head, self._source.request_method)
        size = length if framing is Framing.LENGTH else None
        if total is None and self.base == 0:
            total = size
        changed = head
        for one in self._wanted:
            at = self._payload_offset(one.position, head, total, size)
            new = one.rewrite.head(Context(replace_raw(changed), self.base, size, total, at))
            same = new is not None and (new.line, new.fields) == (changed.line, changed.fields)
            if new is None or (same and not one.rewrite.payload) or not one.claim(not same):
                continue
            one.applied = self.applied = True
            changed = new
            if one.rewrite.payload and framing is not Framing.NONE:
                one.payload = one.rewrite.payload(Context(head, self.base, size, total, at))
                self._payloads.append(one.payload)
        if any(one.applied and one.rewrite.coded for one in self._wanted):
            self.base = None
        new_framing, _ = framing_of(changed, self._source.request_method)
        self._chunked = new_framing is Framing.CHUNKED
        return changed.render() if self.applied else head.raw

    def _payload_offset(
        self, position: Position, head: Head, total: int | None, size: int | None
    ) -> int | None:
        """Where in this response's payload a position lies; None when it does not."""
        end = size if size is not None else 1 << 62
        span = Span(Place.BODY, 0, end)
        found = locate(position, span, Message(head, self.base, total))
        return found if found is not None and position.kind in ("object", "percent", "body") else None

    def _rewritten(self, piece: bytes, start: int) -> bytes:
        """The payload among wire bytes [start, start + len(piece)) through the rewrites, framed anew."""
        out = bytearray()
        end = start + len(piece)
        for body in self._bodies:
            if not self.over:
                out += self._frame(self._pass(piece[max(body.start, start) - start : body.end - start], 0))
                self.over = any(p.over for p in self._payloads)
        while self._bodies and self._bodies[0].end <= end:
            self._bodies.popleft()
        return bytes(out) + (self._finish() if self.complete else b"")

    def _pass(self, data: bytes, first: int) -> bytes:
        for payload in self._payloads[first:]:
            data = payload.feed(data)
        return data

    def _frame(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if data and self._chunked else data

    def _finish(self) -> bytes:
        """What the rewrites still hold, and the end of the body."""
        out = bytearray()
        for index, payload in enumerate(self._payloads):
            if rest := payload.end():
                out += self._frame(self._pass(rest, index + 1))
        return bytes(out) + (b"0\r\n\r\n" if self._chunked else b"")


def replace_raw(head: Head) -> Head:
    """A head whose raw bytes are no longer its own."""
    return replace(head, fields=list(head.fields))
