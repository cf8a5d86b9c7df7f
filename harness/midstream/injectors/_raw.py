"""One connection of a protocol the injector does not read: bytes by their number, nothing else.

What the store sends is counted from the first byte of the connection, `wire+N`, and what the client sends
likewise, `sent+N`; a connection is one exchange with the method TCP. Requests cannot be told apart, so
neither can what would need that.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from midstream._schedule import TCP, Armed
from midstream._verbs import Alter, Close, Ending, Hold, Kill, Mutate, Pace
from midstream.injectors._case import Ended
from midstream.injectors._outgoing import Outgoing, fire
from midstream.injectors._relay import Relay
from midstream.injectors._sockets import RECV, recv, try_recv, wait


class Spoken(Outgoing):
    """The bytes of one connection on their way from the client to the store."""

    def __init__(self, armed: Sequence[Armed]) -> None:
        super().__init__(armed)
        self.ended = False  # the client has said all it had to say
        for one in armed:
            one.wire = int(one.rule.position.value) + one.rule.position.delta

    @property
    def body(self) -> int:
        """All of them: there is no head that could be told from it."""
        return self.sent


class RawRelay(Relay):
    """One client connection. Both directions are open at once: `upload` carries what the client says."""

    spoken: Spoken

    async def _exchange(self) -> Ending | None:
        self.case.exchanges += 1
        number = self.case.exchanges
        self.note("request", number, method=TCP, target="/", operation="other", fields=[])
        armed = self.case.schedule.request(TCP, "/", "other")
        self.spoken = Spoken([a for a in armed if a.rule.in_request])
        stream = Stream(self, number, [a for a in armed if not a.rule.in_request])
        if not await self._connect(number):
            stream.note_end()
            return Ending.RST
        assert self.upstream
        self.go_on()
        try:
            await stream.relay(self.upstream)
        finally:
            await self.stop_upload()
        return Ending.RST if self.store_reset else Ending.FIN

    def go_on(self) -> None:
        """Have what the client says moved, from where it stands."""
        if self.upstream:
            self.upload = asyncio.get_running_loop().create_task(self._client_to_store(self.upstream))

    @property
    def moving(self) -> asyncio.Task[None] | None:
        """What moves it, unless that has stopped: at a rule's byte, or for good."""
        return None if self.upload is None or self.upload.done() else self.upload

    async def _client_to_store(self, upstream: socket.socket) -> None:
        """Until the client ends its direction, a rule's byte is reached, or either side fails."""
        spoken = self.spoken
        while True:
            try:
                await spoken.forward(upstream)
            except OSError:  # the store reads no more; what it said is still to be read
                return
            if spoken.due:
                return
            await asyncio.sleep(0)  # a client that never pauses must not stop the others
            try:
                data = await recv(self.client, RECV)
            except OSError:
                self.client_lost = True
                data = b""
            if not data:
                spoken.ended = not self.client_lost
                with contextlib.suppress(OSError):  # the other direction is woken where nobody waits for it
                    upstream.shutdown(socket.SHUT_RDWR if self.client_lost else socket.SHUT_WR)
                return
            spoken.waiting += data

    async def hold(self, seconds: float | None) -> None:
        """As any relay does, but that nothing of what is read meanwhile may be lost."""
        await super().hold(seconds)
        self.spoken.waiting += self.from_client
        self.from_client.clear()


class Stream:
    """The bytes of one connection on their way from the store to the client."""

    method, by = TCP, "store"

    def __init__(self, relay: RawRelay, number: int, armed: list[Armed]) -> None:
        self.relay_ = relay
        self.number = number
        self.armed = armed
        self.sent = 0
        self.pace: int | None = None
        self.end, self.held = "open", False
        for one in armed:
            if one.rule.position.kind == "wire":
                one.wire = int(one.rule.position.value) + one.rule.position.delta

    async def relay(self, upstream: socket.socket) -> None:
        """Pass on what the store says until it ends; raises Ended when the client's side ends first."""
        relay = self.relay_
        try:
            await self._fire_due()
            while data := await self._read(upstream):
                await self._send(memoryview(data))
            self.end = "client-left" if relay.client_lost else "complete"
        except Ended as ended:
            self.end = str(ended.args[0])
            raise
        except ConnectionError:
            self.end = "client-left"
            raise
        finally:
            # Also when the case ends while a connection is open, so no byte goes unrecorded.
            self.note_end()

    async def _read(self, upstream: socket.socket) -> bytes:
        relay = self.relay_
        while True:
            await self._fire_at_store()
            try:
                data = try_recv(upstream, RECV)
            except OSError:
                relay.store_reset = not relay.client_lost
                return b""
            if data is not None:
                return data
            await wait(read=(upstream,), done=relay.moving)

    async def _fire_at_store(self) -> None:
        """Fire what the other direction stands at."""
        relay = self.relay_
        while relay.spoken.due:
            await relay.stop_upload()
            await fire(relay, self, relay.spoken)
            relay.go_on()

    async def _send(self, view: memoryview) -> None:
        """Send it all, but stop at each byte where something is due."""
        while view:
            waiting = [a.wire for a in self.armed if a.wire is not None and not a.fired]
            room = min([len(view), *(at - self.sent for at in waiting)])
            if self.pace:
                room = min(room, max(1, self.pace // 20))
            room = await self._send_some(view[:room])
            self.sent += room
            view = view[room:]
            if self.pace:
                await asyncio.sleep(room / self.pace)
            await self._fire_due()

    async def _send_some(self, view: memoryview) -> int:
        """As much as the client takes; it may have to be heard before it takes any."""
        relay = self.relay_
        while True:
            await self._fire_at_store()
            try:
                return relay.client.send(view)
            except BlockingIOError:
                await wait(write=(relay.client,), done=relay.moving)

    async def _fire_due(self) -> None:
        relay = self.relay_
        due = [a for a in self.armed if a.wire is not None and a.wire <= self.sent and not a.fired]
        for one in sorted(due, key=lambda a: a.index):
            if not relay.case.schedule.fire(one):
                one.fired = True  # healed: another connection was faster
                continue
            where = {"wire": self.sent, "body": self.sent, "offset": None}
            relay.note("fault", self.number, rule=one.index, spec=str(one.rule), **where)
            for verb in one.rule.fault.verbs():
                match verb:
                    case Close(ending):
                        self.end = "cut"
                        await relay.close(ending)
                    case Hold(seconds):
                        self.end, self.held = "held", True
                        await relay.hold(seconds)
                        self.end, self.held = "open", False
                    case Pace(rate):
                        self.pace = rate
                    case Mutate() | Alter() | Kill():
                        self.end, self.held = "held", True
                        await relay.act(verb)
                        self.end, self.held = "open", False

    def note_end(self) -> None:
        """Say how it ended, and of each rule that did not fire whether it could have."""
        relay = self.relay_
        if self.end == "client-left":
            relay.note("client-left", self.number)
        spoken = relay.spoken
        heard = {"body": spoken.sent, "length": None, "whole": spoken.ended and not spoken.waiting}
        relay.note("received", self.number, **heard)
        relay.note("sent", self.number, wire=self.sent, body=self.sent, end=self.end, held=self.held)
        ways = [(one, self.sent) for one in self.armed] + [(one, spoken.sent) for one in spoken.armed]
        for one, sent in ways:
            if not one.fired:
                passed = one.wire is not None and one.wire < sent
                why = "passed" if passed else "ended" if self.end != "complete" else "elsewhere"
                relay.note("unfired", self.number, rule=one.index, spec=str(one.rule), why=why)
