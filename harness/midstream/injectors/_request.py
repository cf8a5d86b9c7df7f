"""The body of a request on its way to the store: which byte of the wire is which of the body."""

from __future__ import annotations

from collections.abc import Sequence

from midstream._evidence import redact_target
from midstream._operations import PUBLISHES
from midstream._positions import Message, locate
from midstream._schedule import Armed
from midstream._wire import Framing, Place, Span, Tracker
from midstream.injectors._outgoing import Outgoing

DOCUMENT = 64 * 1024  # of a request that lists parts, what is kept
LISTS_PARTS = PUBLISHES - {"put_object"}


class Sending(Outgoing):
    """One request with its body. `sent` counts wire bytes handed to the store's kernel, head included."""

    def __init__(
        self, tracker: Tracker, spans: Sequence[Span], operation: str, armed: Sequence[Armed]
    ) -> None:
        super().__init__(armed)
        assert tracker.head
        self._tracker = tracker
        total = tracker.length if tracker.framing is Framing.LENGTH else None
        self._message = Message(tracker.head, None, total)
        self._bodies: list[Span] = []
        self._kept = bytearray() if operation in LISTS_PARTS else None
        self.read = 0  # wire bytes of the request that came from the client
        self._locate(spans)

    def _locate(self, spans: Sequence[Span]) -> None:
        self._bodies += [s for s in spans if s.place is Place.BODY]
        for one in self.armed:
            for span in spans if one.wire is None else ():
                one.wire = locate(one.rule.position, span, self._message)
                if one.wire is not None:
                    break

    def take(self, data: bytes) -> bytes:
        """Bytes the client has sent; gives those that belong to its next request."""
        spans, taken = self._tracker.feed(data)
        self._locate(spans)
        self.push(data[:taken])
        return data[taken:]

    def push(self, data: bytes) -> None:
        """Bytes of this request, of which the tracker knows."""
        self.waiting += data
        self.read += len(data)
        if self._kept is not None and len(self._kept) < DOCUMENT:
            self._kept += data

    @property
    def has_body(self) -> bool:
        return self._tracker.framing is not Framing.NONE

    @property
    def body(self) -> int:
        """Payload bytes that were handed to the store."""
        return sum(max(0, min(self.sent, s.end) - s.start) for s in self._bodies)

    @property
    def finished(self) -> bool:
        return self._tracker.complete and not self.waiting

    def account(self) -> dict[str, object]:
        """What the evidence says of the request's body."""
        length = self._tracker.length if self._tracker.framing is Framing.LENGTH else None
        text = ""
        if self._kept is not None:
            text = redact_target(
                bytes(self._kept[: self.sent]).partition(b"\r\n\r\n")[2].decode("utf-8", "replace")
            )
        return {"body": self.body, "length": length, "whole": self.finished, "document": text}

    def unfired(self) -> list[tuple[Armed, str]]:
        """The rules that did not fire, and whether they could have."""
        left = [a for a in self.armed if not a.fired]
        return [(a, "passed" if a.wire is not None and a.wire < self.sent else self._why()) for a in left]

    def _why(self) -> str:
        return "elsewhere" if self.finished else "ended"
