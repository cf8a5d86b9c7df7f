"""One response on its way to the client: byte by byte, up to where a rule of the schedule fires."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from midstream._evidence import redact_fields
from midstream._operations import APPEARS
from midstream._positions import Message, locate
from midstream._rewriting import Rewriter, Wanted, object_base
from midstream._schedule import Armed
from midstream._verbs import Alter, Close, Hold, Kill, Look, Mutate, Pace, Send, Swallow
from midstream._wire import Framing, Place, Span, Tracker, content_range
from midstream.injectors._case import Ended
from midstream.injectors._sockets import RECV, Pipe, peer_has_left, send_all, silent, wait
from midstream.injectors._tls import TlsSocket

if TYPE_CHECKING:
    from midstream.injectors._relay import Relay

SPLICE_FROM = 256 * 1024  # below that, copying is cheaper than a pipe


class Response:
    """The response of one exchange on its way to the client."""

    def __init__(self, relay: Relay, number: int, method: str, operation: str, armed: list[Armed]) -> None:
        self.relay_ = relay
        self.number = number
        self.method = method
        self.operation = operation
        self.armed = armed
        self.by = "store"
        self.base: int | None = None
        self.message: Message | None = None
        self.sent = 0  # wire bytes of the current message
        self.interim = 0  # wire bytes of the interim messages before it
        self.continued = False  # one of them was a 100
        self.pace: int | None = None
        self.reads = 0
        self.payload = 0  # payload bytes in spans that are wholly sent
        self.spans: deque[Span] = deque()
        self.end = "open"
        self.held = False  # by a fault: what was sent is then exactly what comes before its position
        self.surplus = bytearray()  # rewritten bytes beyond what the new head promised
        self.looked = False
        self.tracker: Tracker | None = None  # of the message that is being relayed
        self.rewriter: Rewriter | None = None
        self.rewriting: list[Armed] = []  # rules whose rewrite this response has, not noted as fired yet

    @property
    def hold_back(self) -> int:
        open_rules = [a for a in self.armed if a.wire is None and not a.fired and not a.rule.rewrites]
        waiting = (a.rule.position.lookback for a in open_rules)
        return max(waiting, default=0)

    def payload_sent(self) -> int:
        """Payload bytes among the wire bytes sent so far."""
        while self.spans and self.spans[0].end <= self.sent:
            span = self.spans.popleft()
            self.payload += span.end - span.start
        partial = max(0, self.sent - self.spans[0].start) if self.spans else 0
        return self.payload + partial

    async def relay(self, canned_bytes: bytes | None) -> bool:
        """Relay the response (from the store, or the given bytes); True when the connection can go on."""
        try:
            while True:
                tracker = Tracker(self.method)
                self.end = await self._message(tracker, canned_bytes)
                status = tracker.head.status if tracker.head else 0
                if self.rewriter:
                    return await self._end_rewriting(tracker)
                if self.end != "complete" or not 100 <= status < 200 or status == 101:
                    break
                self.continued = self.continued or status == 100
                self._begin_message()
            return self.end == "complete" and tracker.framing is not Framing.CLOSE
        except Ended as ended:
            self.end = str(ended.args[0])
            raise
        except ConnectionError:
            self.end = "client-left"
            raise
        finally:
            # Also when the case ends while a connection is held, so no byte goes unrecorded.
            self._note_end()

    def _rewriter(self) -> Rewriter | None:
        """A rewriter, when rules in force want to change this response."""
        wanted = [
            Wanted(rewrite, one.rule.position, partial(self._claim, one))
            for one in self.armed
            for rewrite in one.rule.rewrites
        ]
        if not wanted:
            return None
        carries = self.operation == "get_object" and self.method == "GET"
        return Rewriter(self.method, wanted, carries_object=carries, total=self.relay_.case.object_size)

    def _claim(self, one: Armed, head_changes: bool) -> bool:
        """A rewrite applies: its rule has fired, and is noted once its first byte has been sent."""
        if one not in self.rewriting and not self.relay_.case.schedule.fire(one):
            return False
        if one not in self.rewriting:
            self.rewriting.append(one)
        if head_changes:
            one.wire = 0
        return True

    async def _end_rewriting(self, tracker: Tracker) -> bool:
        """The rewritten message is through; True when the connection can go on.

        Where the new head promised less than there was, the surplus follows and ends the connection.
        """
        relay, rewriter = self.relay_, self.rewriter
        assert rewriter
        self._note_rewrites(everything=True)
        bodiless = tracker.head is not None and tracker.head.status in (204, 304)
        surplus = b"" if bodiless else bytes(self.surplus)
        while (
            tracker.complete
            and (tracker.framing is Framing.LENGTH or (tracker.framing is Framing.NONE and not bodiless))
            and not rewriter.complete
            and relay.upstream
        ):
            data = await self._read_upstream()
            if not data:
                break
            surplus += rewriter.feed(data)[0]
        if surplus:
            await send_all(relay.client, surplus)
        early = rewriter.over or not rewriter.complete
        if early and relay.upload and not relay.upload.done():
            return False  # the upload still writes to that connection, and both end with it
        if early and relay.upstream:
            # The rest of what the store says is for nobody: the next request gets a new connection.
            relay.upstream.close()
            relay.upstream = None
            relay.from_upstream.clear()
        return self.end == "complete" and not surplus and tracker.framing is not Framing.CLOSE

    def _note_rewrites(self, *, everything: bool = False) -> None:
        """Note the rewrites whose byte has been sent."""
        for one in [a for a in self.rewriting if everything or (a.wire is not None and a.wire <= self.sent)]:
            self.rewriting.remove(one)
            self._note_fault(one)

    def ended_at_request(self, end: str) -> None:
        """The exchange was over before there was anything to relay."""
        self.end = end
        self._note_end()

    def _note_end(self) -> None:
        if self.end == "client-left":
            self.relay_.note("client-left", self.number)
        wire = self.interim + self.sent
        self.relay_.note(
            "sent", self.number, wire=wire, body=self.payload_sent(), end=self.end, held=self.held
        )
        self._release()
        self._note_unfired()
        self.relay_.wire += self.sent

    def _release(self) -> None:
        """Rewrites whose byte will not be sent have not happened: their rules wait for another response."""
        for one in self.rewriting:
            self.relay_.case.schedule.release(one)

    def _note_unfired(self) -> None:
        """Say of each rule that was in force and did not fire whether it could have."""
        for one in self.armed:
            if one.fired and one not in self.rewriting:
                continue
            if one.rule.rewrites:
                why = "elsewhere"
                if one in self.rewriting:
                    why = "ended"
            elif one.wire is not None and one.wire < self.sent:
                why = "passed"  # ours: the byte went by
            elif self.end != "complete":
                why = "ended"
            elif self.by == "injector":
                why = "elsewhere"  # this answer is ours; the position may lie in the store's next one
            elif one.rule.position.kind in ("object", "percent", "wire"):
                why = "elsewhere"
            else:
                why = "absent"
            self.relay_.note("unfired", self.number, rule=one.index, spec=str(one.rule), why=why)

    def _begin_message(self) -> None:
        self.end = "open"
        self.relay_.wire += self.sent
        self.interim += self.sent
        self.sent = self.payload = 0
        self.spans.clear()
        self.message = None
        for one in self.armed:
            one.wire = None  # counted from the start of the message before

    async def _message(self, tracker: Tracker, canned_bytes: bytes | None) -> str:
        """One message, interim or final; the word for how it ended."""
        relay = self.relay_
        self.tracker = tracker
        pending = bytearray()
        upstream_open = canned_bytes is None
        arrived = canned_bytes or bytes(relay.from_upstream)
        if canned_bytes is None:
            relay.from_upstream.clear()
            self.rewriter = self._rewriter()
        while True:
            if arrived and self.rewriter:
                rewritten, taken = self.rewriter.feed(arrived)
                relay.from_upstream += arrived[taken:]
                self.base = self.rewriter.base
                spans, used = tracker.feed(rewritten)
                pending += rewritten[:used]
                self.surplus += rewritten[used:]
                arrived = b""
                self._locate(spans, tracker)
                if self.rewriter.decided and not self.rewriter.applied:
                    self.rewriter = None  # nobody wanted it: the rest passes as any other response
            elif arrived:
                spans, taken = tracker.feed(arrived)
                pending += arrived[:taken] if taken < len(arrived) else arrived
                if canned_bytes is None:
                    relay.from_upstream += arrived[taken:]
                arrived = b""
                self._locate(spans, tracker)
            if upstream_open and self._is_looked_at(tracker):
                upstream_open = await self._look(pending, tracker)
            await self._fire_due()
            if await self._send_some(pending, tracker, flush=not upstream_open):
                continue
            if tracker.complete and not pending:
                await self._fire_due()
                return "complete"
            if not upstream_open:
                if canned_bytes is not None or self.rewriter:
                    return "cut"
                if peer_has_left(relay.client):  # the store need not answer somebody who has gone
                    raise Ended("client-left")
                return "store-ended" if relay.case.mutated else "upstream-closed"
            if self.rewriter and self.rewriter.complete:
                upstream_open = False  # the new head promised more than there is
                if tracker.close():
                    self._locate([tracker.end_span()], tracker)
                continue
            if not pending and (room := self._splice_room(tracker)) >= SPLICE_FROM:
                upstream_open = await self._splice(tracker, room)
            else:
                arrived = await self._read_upstream()
                upstream_open = bool(arrived)
            if not upstream_open:
                if relay.client_lost:
                    raise Ended("client-left")
                if self.rewriter and (rest := self.rewriter.close()):
                    arrived = b""
                    spans, _ = tracker.feed(rest)
                    pending += rest
                    self._locate(spans, tracker)
                if not relay.store_reset and tracker.close():
                    self._locate([tracker.end_span()], tracker)
                elif not tracker.head:
                    relay.note("note", self.number, text="the store ended before a response head")

    def _is_looked_at(self, tracker: Tracker) -> bool:
        """Whether this is the store's word that it has published an object, and somebody wants to see it."""
        wanted = self.relay_.case.looks and self.operation in APPEARS and not self.looked
        if not wanted or self.by != "store" or not tracker.head or tracker.head.status < 200:
            return False
        return self.rewriter is None or self.rewriter.complete

    async def _look(self, pending: bytearray, tracker: Tracker) -> bool:
        """Hear the store out, then have its object looked at; whether the store is still there."""
        self.looked = True
        there = self.rewriter is not None or await self._hear_out(pending, tracker)
        assert tracker.head
        if tracker.head.status < 300:
            await self.relay_.act(Look())
        return there

    async def _hear_out(self, pending: bytearray | None, tracker: Tracker) -> bool:
        """Read the rest of the answer without sending any of it; False when the store has ended."""
        relay = self.relay_
        while not tracker.complete:
            data = await self._read_upstream()
            if not data:
                if not relay.store_reset and tracker.close():
                    self._locate([tracker.end_span()], tracker)
                return False
            spans, taken = tracker.feed(data)
            if pending is not None:
                pending += data[:taken]
            relay.from_upstream += data[taken:]
            self._locate(spans, tracker)
        return True

    async def _read_upstream(self) -> bytes:
        """Bytes from the store; b"" when it has ended. Raises ConnectionError when the client left."""
        relay = self.relay_
        assert relay.upstream
        self.reads += 1
        if self.reads % 64 == 0:
            await asyncio.sleep(0)  # other connections have their turn
        watch_client = True
        while True:
            if answer := await relay.at_request_byte(self):
                return answer
            try:
                return relay.upstream.recv(RECV)
            except BlockingIOError:
                pass
            except OSError:
                relay.store_reset = True
                return b""
            if relay.upload and not relay.upload.done():
                await wait(read=(relay.upstream,), done=relay.upload)
                continue
            if relay.sending and relay.sending.due:
                continue
            await wait(read=(relay.upstream, relay.client) if watch_client else (relay.upstream,))
            # A pipelined request is not for here, and a half-closed client still reads.
            watch_client = watch_client and silent(relay.client)

    def _locate(self, spans: list[Span], tracker: Tracker) -> None:
        if not spans or tracker.head is None:
            return
        interim = 100 <= tracker.head.status < 200
        if self.message is None:
            self.message = self._describe(tracker)
        self.spans.extend(s for s in spans if s.place is Place.BODY)
        for one in [*self.armed, *self.rewriting]:
            waiting = not one.fired if not one.rule.rewrites else one in self.rewriting
            if one.wire is not None or not waiting or (interim and one.rule.position.kind != "wire"):
                continue
            for span in spans:
                at = locate(one.rule.position, span, self.message)
                if at is not None and at >= self.sent:
                    one.wire = at
                    break

    def _describe(self, tracker: Tracker) -> Message:
        head = tracker.head
        assert head
        declared = content_range(head.get("content-range"))
        base: int | None = None
        total = self.relay_.case.object_size
        # A body that is declared empty is unframed for the tracker.
        empty = tracker.framing is Framing.NONE and head.get("content-length") == "0"
        length = tracker.length if tracker.framing is Framing.LENGTH or empty else None
        carries = self.operation == "get_object" and self.method == "GET" and self.by == "store"
        base = self.rewriter.base if self.rewriter else object_base(head, carries_object=carries)
        if base is not None and total is None:
            total = declared.total if declared else length
        self.base = base
        if not 100 <= head.status < 200:
            self.relay_.note(
                "response",
                self.number,
                status=head.status,
                fields=redact_fields(head.fields),
                base=base,
                length=length,
                framing=tracker.framing.value,
                by=self.by,
            )
        return Message(head, base, total, self.relay_.wire)

    def _next_target(self) -> int | None:
        waiting = [a for a in self.armed if not a.fired and not a.rule.rewrites] + self.rewriting
        return min((a.wire for a in waiting if a.wire is not None), default=None)

    async def _fire_due(self) -> None:
        self._note_rewrites()
        while True:
            due = [
                a
                for a in self.armed
                if a.wire is not None and a.wire <= self.sent and not a.fired and not a.rule.rewrites
            ]
            if not due:
                return
            one = min(due, key=lambda a: (a.wire, a.index))
            if not self.relay_.case.schedule.fire(one):
                one.fired = True  # healed: another request was faster
                continue
            self._note_fault(one)
            for verb in one.rule.fault.verbs():
                match verb:
                    case Close(ending):
                        self.end = "cut"
                        self._release()  # now: the end may wait long for the client's
                        await self.relay_.close(ending)
                    case Hold(seconds):
                        self.end, self.held = "held", True
                        await self.relay_.hold(seconds)
                        self.end, self.held = "open", False
                    case Swallow():
                        assert self.tracker
                        await self._hear_out(None, self.tracker)
                    case Pace(rate):
                        self.pace = rate
                    case Send(data):
                        await send_all(self.relay_.client, data)
                        self.interim += len(data)
                        self.relay_.wire += len(data)
                    case Mutate() | Kill() | Alter():
                        self.end, self.held = "held", True
                        await self.relay_.act(verb)
                        self.end, self.held = "open", False

    def _note_fault(self, one: Armed) -> None:
        body = self.payload_sent()
        self.relay_.note(
            "fault",
            self.number,
            rule=one.index,
            spec=str(one.rule),
            wire=self.interim + self.sent,
            body=body,
            offset=None if self.base is None else self.base + body,
        )

    async def _send_some(self, pending: bytearray, tracker: Tracker, *, flush: bool) -> bool:
        """Send what may be sent now; False when nothing may."""
        ready = len(pending) if flush and not tracker.complete else tracker.wire - self.sent
        if not tracker.complete and not flush:
            ready -= self.hold_back
        n = min(ready, len(pending))
        target = self._next_target()
        if target is not None:
            n = min(n, target - self.sent)
        if n <= 0:
            return False
        if self.pace:
            n = min(n, max(1, self.pace // 20))
        view = memoryview(pending)[:n]
        try:
            await self._send(view)
        finally:
            view.release()
        del pending[:n]
        if self.pace:
            await asyncio.sleep(n / self.pace)
        return True

    async def _send(self, view: memoryview) -> None:
        client = self.relay_.client
        offset = 0
        while offset < len(view):
            try:
                n = client.send(view[offset:])
            except BlockingIOError:
                await wait(write=(client,))
                continue
            offset += n
            self.sent += n

    def _splice_room(self, tracker: Tracker) -> int:
        """Payload bytes that can pass unseen: none near a fault, none while pacing."""
        client = self.relay_.client
        if isinstance(client, TlsSocket):
            return 0  # the kernel cannot encrypt what it splices
        if self.pace or self.rewriter or self.hold_back or not tracker.bulk or tracker.held:
            return 0
        target = self._next_target()
        return tracker.bulk if target is None else min(tracker.bulk, target - self.sent)

    async def _splice(self, tracker: Tracker, room: int) -> bool:
        """Move payload without copying; False when the store has ended."""
        relay = self.relay_
        relay.pipe = relay.pipe or Pipe()
        assert relay.upstream
        assert isinstance(relay.client, socket.socket)
        spans: list[Span] = []
        try:
            _, ended = await relay.pipe.move(
                relay.upstream, relay.client, room, watch=not (relay.upload and not relay.upload.done())
            )
        finally:
            self.sent += relay.pipe.moved
            tracker.skip(relay.pipe.moved, spans)
            relay.store_reset = relay.store_reset or relay.pipe.failed
        self._locate(spans, tracker)
        return not ended
