"""One connection of a protocol the injector does not read: bytes by their number, nothing else.

What the store sends is counted from the first byte of the connection, `wire+N`; a connection is one exchange
with the method TCP. Requests cannot be told apart, so neither can what would need that.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from midstream._schedule import TCP, Armed
from midstream._verbs import Close, Ending, Hold, Kill, Mutate, Pace
from midstream.injectors._relay import Ended, Relay
from midstream.injectors._sockets import RECV, recv, send_all


class RawRelay(Relay):
    """One client connection. Both directions are open at once: `upload` carries what the client says."""

    async def _exchange(self) -> Ending | None:
        self.case.exchanges += 1
        number = self.case.exchanges
        self.note("request", number, method=TCP, target="/", operation="other", fields=[])
        stream = Stream(self, number, self.case.schedule.request(TCP, "/", "other"))
        if not await self._connect(number):
            stream.note_end()
            return Ending.RST
        assert self.upstream
        self.upload = asyncio.get_running_loop().create_task(self._client_to_store(self.upstream))
        try:
            await stream.relay(self.upstream)
        finally:
            await self.stop_upload()
        return Ending.RST if self.store_reset else Ending.FIN

    async def _client_to_store(self, upstream: socket.socket) -> None:
        """Until the client ends its direction, or either side fails."""
        while True:
            try:
                data = await recv(self.client, RECV)
            except OSError:
                self.client_lost = True
                with contextlib.suppress(OSError):
                    upstream.shutdown(socket.SHUT_RDWR)  # wakes the other direction
                return
            try:
                if not data:
                    upstream.shutdown(socket.SHUT_WR)
                    return
                await send_all(upstream, data)
            except OSError:  # the store reads no more; what it said is still to be read
                return
            await asyncio.sleep(0)  # a client that never pauses must not stop the others


class Stream:
    """The bytes of one connection on their way from the store to the client."""

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
        try:
            return await recv(upstream, RECV)
        except OSError:
            self.relay_.store_reset = not self.relay_.client_lost
            return b""

    async def _send(self, view: memoryview) -> None:
        """Send it all, but stop at each byte where something is due."""
        while view:
            waiting = [a.wire for a in self.armed if a.wire is not None and not a.fired]
            room = min([len(view), *(at - self.sent for at in waiting)])
            if self.pace:
                room = min(room, max(1, self.pace // 20))
            await send_all(self.relay_.client, view[:room])
            self.sent += room
            view = view[room:]
            if self.pace:
                await asyncio.sleep(room / self.pace)
            await self._fire_due()

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
                    case Mutate() | Kill():
                        self.end, self.held = "held", True
                        await relay.act(verb)
                        self.end, self.held = "open", False

    def note_end(self) -> None:
        """Say how it ended, and of each rule that did not fire whether it could have."""
        relay = self.relay_
        if self.end == "client-left":
            relay.note("client-left", self.number)
        relay.note("sent", self.number, wire=self.sent, body=self.sent, end=self.end, held=self.held)
        for one in self.armed:
            if not one.fired:
                passed = one.wire is not None and one.wire < self.sent
                why = "passed" if passed else "ended" if self.end != "complete" else "elsewhere"
                relay.note("unfired", self.number, rule=one.index, spec=str(one.rule), why=why)
