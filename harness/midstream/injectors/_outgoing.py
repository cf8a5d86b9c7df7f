"""What a client says, on its way to the store: counted, and stopped at exactly the byte a rule names.

Where a rule of the schedule fires there, what lies before its byte is handed to the store and nothing behind
it. What is to happen is done by the relay's own task, not by the one that moves the bytes: the end of a
connection has to wait for both.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from midstream._schedule import Armed
from midstream._verbs import Alter, Close, Ending, Hold, Kill, Mutate, Respond
from midstream.injectors._sockets import RECV, delivered, peer_has_left, reset, send_all, try_recv

if TYPE_CHECKING:
    from midstream.injectors._relay import Relay

GLANCE = 0.005  # seconds between looks at a client that is not read from


class Answering(Protocol):
    """What comes back meanwhile, as far as a fault on the way there says how it ends."""

    number: int
    method: str
    by: str
    end: str
    held: bool


class Outgoing(ABC):
    """`sent` counts the bytes handed to the store's kernel."""

    def __init__(self, armed: Sequence[Armed]) -> None:
        self.armed = list(armed)
        self.due: Armed | None = None  # it stands at this rule's byte
        self.waiting = bytearray()  # read from the client, not handed on
        self.sent = 0

    @property
    @abstractmethod
    def body(self) -> int:
        """Payload bytes among them."""

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
        if one is not None and one.wire == self.sent:
            self.due = one
        await send_all(upstream, data)


async def fire(relay: Relay, answering: Answering, outgoing: Outgoing) -> bytes:
    """Carry out the rule that it stands at; an answer in the store's place, if the rule gives one.

    Raises Ended when the connection is over.
    """
    one, outgoing.due = outgoing.due, None
    assert one
    if not relay.case.schedule.fire(one):
        one.fired = True  # healed: another request was faster
        return b""
    upstream = relay.upstream
    assert upstream
    await delivered(upstream)
    relay.note(
        "fault",
        answering.number,
        rule=one.index,
        spec=str(one.rule),
        wire=outgoing.sent,
        body=outgoing.body,
        offset=None,
    )
    for verb in one.rule.fault.verbs():
        match verb:
            case Close(ending):
                answering.end = "cut"
                await _end_at_store(upstream, ending)
                relay.upstream = None
                await relay.close(ending)
            case Hold(seconds):
                answering.end, answering.held = "held", True
                await _hold(relay, seconds)
                answering.end, answering.held = "open", False
            case Mutate() | Alter():
                await relay.act(verb)
            case Kill():
                answering.end = "held"
                await relay.act(verb, wait=False)
                await _hold(relay, None)  # what a dying process has sent is for nobody
            case Respond():
                await _end_at_store(upstream, Ending.FIN)
                answering.by = "injector"
                return relay.canned(verb, answering.method)
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
