"""One connection through the embedded injector: exchange by exchange, byte by byte.

The relay forwards what the client and the store say without changing a byte. It follows the framing of each
message only to know, before a byte is sent, which byte it is. Exchanges are relayed one at a time; a
pipelined request waits in the buffer until the response before it is through.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from midstream._evidence import Evidence, redact_fields, redact_target
from midstream._positions import Message, locate
from midstream._schedule import Armed, Schedule
from midstream._verbs import Close, Ending, Hold, Pace, Respond
from midstream._wire import Framing, Place, Span, Tracker, content_range
from midstream.injectors import Operation
from midstream.injectors._sockets import Pipe, half_close, recv, reset, send_all, wait, wait_for

RECV = 256 * 1024
SPLICE_FROM = 256 * 1024  # below that, copying is cheaper than a pipe
REASONS = {200: "OK", 206: "Partial Content", 404: "Not Found", 412: "Precondition Failed"}


class Ended(Exception):
    """The connection is over; `args[0]` says how, in the words of `Exchange.end`."""


@dataclass
class Case:
    """What the connections of one session share."""

    upstream: tuple[str, int]
    schedule: Schedule
    operation: Operation
    object_size: int | None
    evidence: Evidence
    now: Callable[[], float]
    exchanges: int = 0
    record: Callable[..., None] = field(init=False)

    def __post_init__(self) -> None:
        self.record = self.evidence.add


def canned(answer: Respond, *, close: bool) -> bytes:
    """The bytes of a response made here."""
    lines = [f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Injected')}"]
    lines += [f"{n}: {v}" for n, v in answer.headers]
    names = {n.lower() for n, _ in answer.headers}
    if not names & {"content-length", "transfer-encoding"} and answer.status not in (204, 304):
        lines.append(f"Content-Length: {len(answer.body)}")
    if "content-type" not in names and answer.body:
        lines.append("Content-Type: text/html")
    if close and "connection" not in names:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + answer.body


class Relay:
    """One client connection. `run` serves it until either side ends it."""

    def __init__(self, case: Case, client: socket.socket, number: int) -> None:
        self.case = case
        self.client = client
        self.number = number
        self.upstream: socket.socket | None = None
        self.from_client = bytearray()
        self.from_upstream = bytearray()
        self.wire = 0  # response bytes sent on this connection in earlier messages
        self.pipe: Pipe | None = None
        self.pace: int | None = None
        self.closed = False
        self.uploading = False  # a request body is being read: nobody else may wait on the client

    def note(self, kind: str, exchange: int = 0, **data: object) -> None:
        self.case.record(kind, self.case.now(), self.number, exchange, **data)

    async def run(self, armed: list[Armed]) -> None:
        """Serve the connection; `armed` are the faults of the connection itself."""
        self.note("connection")
        try:
            for one in armed:
                await self._fire_at_accept(one)
            while await self._exchange():
                pass
            if not self.closed:
                # The store ended in an orderly way, or the client did: either way nothing is unsent.
                self.closed = True
                await half_close(self.client, answer_data_with_reset=True)
        except (Ended, ConnectionError):
            pass
        finally:
            self.discard()

    def discard(self) -> None:
        """Free every descriptor; may be called twice."""
        self.client.close()
        if self.upstream:
            self.upstream.close()
            self.upstream = None
        if self.pipe:
            self.pipe.close()
            self.pipe = None

    # --- requests

    async def _exchange(self) -> bool:
        """Relay one request and its response; False when the connection is over."""
        tracker = Tracker(None)
        request = await self._request_head(tracker)
        if request is None or tracker.head is None:
            return False
        method, target = tracker.head.request
        headers = {n.lower(): v for n, v in tracker.head.fields}
        operation = self.case.operation(method, target, headers)
        self.case.exchanges += 1
        number = self.case.exchanges
        self.note(
            "request",
            number,
            method=method,
            target=redact_target(target),
            operation=operation,
            fields=redact_fields(tracker.head.fields),
        )
        armed = self.case.schedule.request(method, target, operation)
        answer = next((a for a in armed if a.rule.answers and self.case.schedule.fire(a)), None)
        response = Response(self, number, method, operation, [a for a in armed if not a.rule.answers])
        if answer and answer.rule.answers:
            return await self._answer(response, answer, answer.rule.answers, tracker)
        return await self._forward(response, tracker, request)

    async def _request_head(self, tracker: Tracker) -> bytes | None:
        """Read until a request head is complete; the wire bytes so far, or None when there is no request."""
        seen = bytearray()
        data = bytes(self.from_client)
        self.from_client.clear()
        while True:
            if data:
                _, taken = tracker.feed(data)
                seen += data[:taken]
                self.from_client += data[taken:]
            if tracker.head:
                return bytes(seen)
            idle = (self.client, self.upstream) if self.upstream else (self.client,)
            await wait(read=idle)
            if self.upstream and self._upstream_gone():
                return None
            try:
                more = self.client.recv(RECV)
            except BlockingIOError:
                data = b""
                continue
            if not more:
                return None
            data = more

    def _upstream_gone(self) -> bool:
        """Between exchanges the store says nothing; whatever it does then ends the connection."""
        assert self.upstream
        try:
            self.upstream.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    async def _answer(self, response: Response, armed: Armed, answer: Respond, tracker: Tracker) -> bool:
        """Answer in the store's place. A body the client waits to send is not asked for."""
        expects = (tracker.head.get("expect") or "").lower() == "100-continue" if tracker.head else False
        while not tracker.complete and not expects:
            data = await recv(self.client, RECV)
            if not data:
                return False
            _, taken = tracker.feed(data)
            self.from_client += data[taken:]
        close = not tracker.complete
        response.by = "injector"
        self.note(
            "fault",
            response.number,
            rule=armed.index,
            spec=str(armed.rule),
            wire=0,
            body=0,
            offset=None,
        )
        raw = canned(answer, close=close)
        if response.method == "HEAD":
            raw = raw[: len(raw) - len(answer.body)]
        await response.relay(raw)
        return not close

    async def _forward(self, response: Response, tracker: Tracker, request: bytes) -> bool:
        if not await self._connect(response.number):
            return False
        assert self.upstream
        try:
            await send_all(self.upstream, request)
        except ConnectionError:
            pass  # the store may have answered before it ended: what it said is still to be read
        body = None
        if not tracker.complete:
            self.uploading = True
            body = asyncio.get_running_loop().create_task(self._request_body(tracker))
        try:
            alive = await response.relay(None)
            if body and alive:
                await body
        finally:
            if body:
                body.cancel()
        return alive

    async def _request_body(self, tracker: Tracker) -> None:
        """Client to store, until the request is complete or one of them has gone."""
        try:
            while not tracker.complete:
                data = await recv(self.client, RECV)
                if not data:
                    if self.upstream:
                        self.upstream.shutdown(socket.SHUT_WR)
                    return
                _, taken = tracker.feed(data)
                self.from_client += data[taken:]
                assert self.upstream
                await send_all(self.upstream, memoryview(data)[:taken])
        except OSError:
            return
        finally:
            self.uploading = False

    async def _connect(self, exchange: int) -> bool:
        if self.upstream:
            return True
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(sock, self.case.upstream)
        except OSError as error:
            sock.close()
            self.note("upstream-failed", exchange, reason=f"the store does not accept connections: {error}")
            return False
        self.upstream = sock
        return True

    # --- faults

    async def _fire_at_accept(self, armed: Armed) -> None:
        for verb in armed.rule.fault.verbs():
            if isinstance(verb, Close) and self.case.schedule.fire(armed):
                self.note("fault", 0, rule=armed.index, spec=str(armed.rule), wire=0, body=0, offset=None)
                await self.close(verb.ending)

    async def close(self, ending: Ending) -> None:
        """End the client's connection; always raises Ended."""
        self.closed = True
        if self.upstream:
            self.upstream.close()
            self.upstream = None
        if ending is Ending.RST:
            await reset(self.client)
        else:
            await half_close(self.client, answer_data_with_reset=ending is Ending.FIN)
        raise Ended("cut")

    async def hold(self, seconds: float | None) -> None:
        """Send nothing; raises Ended when the client leaves meanwhile."""
        loop = asyncio.get_running_loop()
        if self.uploading:
            await asyncio.sleep(1e9 if seconds is None else seconds)
            return
        until = None if seconds is None else loop.time() + seconds
        while until is None or loop.time() < until:
            if until is None:
                await wait(read=(self.client,))
            elif not await wait_for(until - loop.time(), read=(self.client,)):
                return
            try:
                data = self.client.recv(RECV)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                raise Ended("client-left")
            self.from_client += data


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
        self.payload = 0  # payload bytes in spans that are wholly sent
        self.spans: deque[Span] = deque()
        self.end = "open"

    @property
    def hold_back(self) -> int:
        return max((a.rule.position.lookback for a in self.armed if a.wire is None and not a.fired), default=0)

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
                if self.end != "complete" or not 100 <= status < 200 or status == 101:
                    break
                self._begin_message()
            return self.end == "complete" and tracker.framing is not Framing.CLOSE
        except Ended as ended:
            self.end = str(ended.args[0])
            raise
        except ConnectionError:
            self.end = "client-left"
            self.relay_.note("client-left", self.number)
            raise
        finally:
            # Also when the case ends while a connection is held, so no byte goes unrecorded.
            self.relay_.note("sent", self.number, wire=self.sent, body=self.payload_sent(), end=self.end)
            self._note_unfired()
            self.relay_.wire += self.sent

    def _note_unfired(self) -> None:
        """Say of each rule that was in force and did not fire whether it could have."""
        for one in self.armed:
            if one.fired:
                continue
            if one.wire is not None and one.wire < self.sent:
                why = "passed"  # ours: the byte went by
            elif self.end != "complete":
                why = "ended"
            elif one.rule.position.kind in ("object", "percent", "wire"):
                why = "elsewhere"
            else:
                why = "absent"
            self.relay_.note("unfired", self.number, rule=one.index, spec=str(one.rule), why=why)

    def _begin_message(self) -> None:
        self.end = "open"
        self.relay_.wire += self.sent
        self.sent = self.payload = 0
        self.spans.clear()
        self.message = None

    async def _message(self, tracker: Tracker, canned_bytes: bytes | None) -> str:
        """One message, interim or final; the word for how it ended."""
        pending = bytearray()
        upstream_open = canned_bytes is None
        arrived = canned_bytes or bytes(self.relay_.from_upstream)
        if canned_bytes is None:
            self.relay_.from_upstream.clear()
        while True:
            if arrived:
                spans, taken = tracker.feed(arrived)
                pending += arrived[:taken] if taken < len(arrived) else arrived
                if canned_bytes is None:
                    self.relay_.from_upstream += arrived[taken:]
                arrived = b""
                self._locate(spans, tracker)
            await self._fire_due()
            if await self._send_some(pending, tracker, flush=not upstream_open):
                continue
            if tracker.complete and not pending:
                await self._fire_due()
                return "complete"
            if not upstream_open:
                return "upstream-closed"
            if not pending and (room := self._splice_room(tracker)) >= SPLICE_FROM:
                upstream_open = await self._splice(tracker, room)
            else:
                arrived = await self._read_upstream()
                upstream_open = bool(arrived)
            if not upstream_open:
                if tracker.close():
                    self._locate([tracker.end_span()], tracker)
                elif self.by == "store" and not tracker.head:
                    self.relay_.note("note", self.number, text="the store ended before a response head")

    async def _read_upstream(self) -> bytes:
        """Bytes from the store; b"" when it has ended. Raises Ended when the client leaves first."""
        relay = self.relay_
        assert relay.upstream
        watch_client = not relay.uploading
        while True:
            try:
                return relay.upstream.recv(RECV)
            except BlockingIOError:
                pass
            except OSError:
                return b""
            await wait(read=(relay.upstream, relay.client) if watch_client else (relay.upstream,))
            if watch_client:
                try:
                    # A pipelined request is not for here, and a half-closed client still reads: one that
                    # has gone altogether is found out by the next send.
                    relay.client.recv(1, socket.MSG_PEEK)
                    watch_client = False
                except BlockingIOError:
                    pass
                except OSError:
                    relay.note("client-left", self.number)
                    raise Ended("client-left") from None

    def _locate(self, spans: list[Span], tracker: Tracker) -> None:
        if not spans or tracker.head is None:
            return
        interim = 100 <= tracker.head.status < 200
        if self.message is None:
            self.message = self._describe(tracker)
        self.spans.extend(s for s in spans if s.place is Place.BODY)
        for one in self.armed:
            if one.wire is not None or one.fired or (interim and one.rule.position.kind != "wire"):
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
        if self.operation == "get_object" and self.method == "GET":
            if head.status == 206 and declared and declared.first is not None:
                base = declared.first
                total = declared.total if total is None else total
            elif head.status == 200 and self.by == "store":
                base = 0
                total = tracker.length if total is None and tracker.framing is Framing.LENGTH else total
        self.base = base
        if not 100 <= head.status < 200:
            self.relay_.note(
                "response",
                self.number,
                status=head.status,
                fields=redact_fields(head.fields),
                base=base,
                length=tracker.length if tracker.framing is Framing.LENGTH else None,
                framing=tracker.framing.value,
                by=self.by,
            )
        return Message(head, base, total, self.relay_.wire)

    def _next_target(self) -> int | None:
        return min((a.wire for a in self.armed if a.wire is not None and not a.fired), default=None)

    async def _fire_due(self) -> None:
        while True:
            due = [a for a in self.armed if a.wire is not None and a.wire <= self.sent and not a.fired]
            if not due:
                return
            one = min(due, key=lambda a: (a.wire, a.index))
            if not self.relay_.case.schedule.fire(one):
                one.fired = True  # healed: another request was faster
                continue
            body = self.payload_sent()
            self.relay_.note(
                "fault",
                self.number,
                rule=one.index,
                spec=str(one.rule),
                wire=self.sent,
                body=body,
                offset=None if self.base is None else self.base + body,
            )
            for verb in one.rule.fault.verbs():
                match verb:
                    case Close(ending):
                        self.end = "cut"
                        await self.relay_.close(ending)
                    case Hold(seconds):
                        self.end = "held"
                        await self.relay_.hold(seconds)
                        self.end = "open"
                    case Pace(rate):
                        self.relay_.pace = rate

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
        if self.relay_.pace:
            n = min(n, max(1, self.relay_.pace // 20))
        view = memoryview(pending)[:n]
        try:
            await self._send(view)
        finally:
            view.release()
        del pending[:n]
        if self.relay_.pace:
            await self.relay_.hold(n / self.relay_.pace)
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
        if self.relay_.pace or self.hold_back or not tracker.bulk or tracker.held:
            return 0
        target = self._next_target()
        return tracker.bulk if target is None else min(tracker.bulk, target - self.sent)

    async def _splice(self, tracker: Tracker, room: int) -> bool:
        """Move payload without copying; False when the store has ended."""
        relay = self.relay_
        relay.pipe = relay.pipe or Pipe()
        assert relay.upstream
        spans: list[Span] = []
        try:
            _, ended = await relay.pipe.move(relay.upstream, relay.client, room)
        finally:
            self.sent += relay.pipe.moved
            tracker.skip(relay.pipe.moved, spans)
        self._locate(spans, tracker)
        return not ended
