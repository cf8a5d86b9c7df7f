"""The body of a request on its way to the store: counted, and stopped at exactly the byte a rule names.

Where a rule of the schedule fires inside the body, what lies before its byte is handed to the store and
nothing behind it. What is to happen there is done by the relay's own task, not by the one that moves the
body: the end of a connection has to wait for both.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from midstream._evidence import redact_target
from midstream._operations import PUBLISHES
from midstream._positions import Message, locate
from midstream._schedule import Armed
from midstream._verbs import Alter, Close, Ending, Hold, Kill, Mutate, Respond
from midstream._wire import Framing, Place, Span, Tracker
from midstream.injectors._sockets import RECV, delivered, peer_has_left, reset, send_all, try_recv

if TYPE_CHECKING:
    from midstream.injectors._relay import Relay, Response

DOCUMENT = 64 * 1024  # of a request that lists parts, what is kept
LISTS_PARTS = PUBLISHES - {"put_object"}
GLANCE = 0.005  # seconds between looks at a client that is not read from


class Sending:
    """One request with its body. `sent` counts wire bytes handed to the store's kernel, head included."""

    def __init__(
        self, tracker: Tracker, spans: Sequence[Span], operation: str, armed: Sequence[Armed]
    ) -> None:
        assert tracker.head
        self._tracker = tracker
        total = tracker.length if tracker.framing is Framing.LENGTH else None
        self._message = Message(tracker.head, None, total)
        self._bodies: list[Span] = []
        self._kept = bytearray() if operation in LISTS_PARTS else None
        self.armed = list(armed)
        self.due: Armed | None = None  # the body stands at this rule's byte
        self.waiting = bytearray()  # read from the client, not handed on
        self.read = 0  # wire bytes of the request that came from the client
        self.sent = 0
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

    def _next(self) -> Armed | None:
        located = [a for a in self.armed if a.wire is not None and not a.fired]
        return min(located, key=lambda a: (a.wire, a.index), default=None)

    async def forward(self, upstream: socket.socket) -> None:
        """Hand on what may be handed on; `due` is set when that ends at a rule's byte."""
        one = self._next()
        n = (
            len(self.waiting)
            if one is None or one.wire is None
            else min(len(self.waiting), one.wire - self.sent)
        )
        data = bytes(self.waiting[:n])
        del self.waiting[:n]
        self.sent += n
        if self._kept is not None and len(self._kept) < DOCUMENT:
            self._kept += data
        if one is not None and one.wire == self.sent:
            self.due = one
        await send_all(upstream, data)

    def account(self) -> dict[str, object]:
        """What the evidence says of the request's body."""
        length = self._tracker.length if self._tracker.framing is Framing.LENGTH else None
        text = ""
        if self._kept is not None:
            text = redact_target(bytes(self._kept).partition(b"\r\n\r\n")[2].decode("utf-8", "replace"))
        return {"body": self.body, "length": length, "whole": self.finished, "document": text}

    def unfired(self) -> list[tuple[Armed, str]]:
        """The rules that did not fire, and whether they could have."""
        left = [a for a in self.armed if not a.fired]
        return [(a, "passed" if a.wire is not None and a.wire < self.sent else self._why()) for a in left]

    def _why(self) -> str:
        return "elsewhere" if self.finished else "ended"


async def fire(relay: Relay, response: Response, sending: Sending) -> bytes:
    """Carry out the rule that the body stands at; an answer in the store's place, if the rule gives one.

    Raises Ended when the connection is over.
    """
    one, sending.due = sending.due, None
    assert one
    if not relay.case.schedule.fire(one):
        one.fired = True  # healed: another request was faster
        return b""
    upstream = relay.upstream
    assert upstream
    await delivered(upstream)
    relay.note(
        "fault",
        response.number,
        rule=one.index,
        spec=str(one.rule),
        wire=sending.sent,
        body=sending.body,
        offset=None,
    )
    for verb in one.rule.fault.verbs():
        match verb:
            case Close(ending):
                response.end = "cut"
                await _end_at_store(upstream, ending)
                relay.upstream = None
                await relay.close(ending)
            case Hold(seconds):
                response.end, response.held = "held", True
                await _hold(relay, seconds)
                response.end, response.held = "open", False
            case Mutate() | Alter():
                await relay.act(verb)
            case Kill():
                response.end = "held"
                await relay.act(verb, wait=False)
                await _hold(relay, None)  # what a dying process has sent is for nobody
            case Respond():
                await _end_at_store(upstream, Ending.FIN)
                response.by = "injector"
                return relay.canned(verb, response.method)
    return b""


async def _end_at_store(upstream: socket.socket, ending: Ending) -> None:
    """End the connection to the store as a client's that goes away there, all bytes before it delivered."""
    if ending is Ending.RST:
        await reset(upstream)
        return
    with contextlib.suppress(OSError):
        while try_recv(upstream, RECV):  # an unread 100 would turn the end into a reset
            pass
        upstream.shutdown(socket.SHUT_WR)
        await delivered(upstream)
    upstream.close()


async def _hold(relay: Relay, seconds: float | None) -> None:
    """Read nothing from the client; raises ConnectionError when it leaves meanwhile."""
    loop = asyncio.get_running_loop()
    until = None if seconds is None else loop.time() + seconds
    while until is None or loop.time() < until:
        if peer_has_left(relay.client):
            raise ConnectionAbortedError("the client has left")
        await asyncio.sleep(GLANCE if until is None else min(GLANCE, max(0.0, until - loop.time())))
