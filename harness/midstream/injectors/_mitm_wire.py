"""The client's side of a connection through mitmproxy: which byte of which response is to go out next.

mitmproxy writes to a `Gate` as it would to the client's stream. What it writes is queued; one task sends it
on, piece by piece, knowing of each HTTP/1.1 byte what it is, and carries out what a rule wants at that byte
through the transport of that stream. `Gate.drain` returns once the queue is empty, so mitmproxy reads no
faster than the client does. HTTP/2 passes unread; what is to happen there is queued between its frames.

Nothing here imports mitmproxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from midstream._evidence import redact_fields
from midstream._positions import Message, locate
from midstream._rewriting import Rewriter, Wanted, object_base
from midstream._schedule import Armed
from midstream._verbs import Close, Ending, Hold, Kill, Mutate, Pace, Send
from midstream._wire import Framing, Head, Place, Span, Tracker, content_range
from midstream.injectors._case import DYING, Case
from midstream.injectors._sockets import delivered

Act = Callable[[Mutate | Kill], Awaitable[None]]
CONTROL = "control"  # the socket by which owner and engine talk, in the engine's folder
CERTIFICATE = "mitmproxy-ca-cert.pem"  # what drivers have to trust, in mitmproxy's folder
HELLO = b"midstream 1\n"  # how an owner begins with an engine that runs already


@contextlib.contextmanager
def nearby(folder: Path) -> Iterator[str]:
    """A short name for a folder: a unix socket's may only have 107 bytes (unix(7))."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


class Over(Exception):
    """The connection is over; `args[0]` says how, in the words of `Exchange.end`."""


class Reader(asyncio.StreamReader):
    """A client's stream that tells when the client has ended its direction, or is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.ended.set()

    def set_exception(self, exc: BaseException) -> None:
        super().set_exception(exc)  # type: ignore[arg-type]
        self.ended.set()


@dataclass
class Done:
    """mitmproxy has said all of a response whose length its new head may not have told truly."""

    answer: Answer


@dataclass
class Failed:
    """mitmproxy could not have the response from the store: what it says from here on is its own."""

    answer: Answer | None
    reason: str


@dataclass
class Step:
    """Something to do between the bytes before and behind it; may raise Over."""

    run: Callable[[], Awaitable[None]]


class _Closed:
    """mitmproxy has closed the connection."""


Item = bytes | Done | Failed | Step | _Closed


@dataclass
class Line:
    """What goes out to one client.

    `encrypt` turns plain bytes into those of TLS; `notify` gives the bytes of a close_notify.
    """

    case: Case
    number: int
    reader: Reader
    writer: asyncio.StreamWriter
    act_out: Act
    encrypt: Callable[[bytes], bytes] | None = None
    notify: Callable[[], bytes] | None = None
    tls: bool = False
    raw: bool = False  # HTTP/2: bytes are not followed
    answers: deque[Answer] = field(default_factory=deque)
    wire: int = 0  # response bytes of earlier messages
    ended: bool = False
    muted: bool = False
    closed: bool = False  # by mitmproxy
    _queue: deque[Item] = field(default_factory=deque)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    on_end: list[Callable[[str], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._idle.set()
        # A drained stream is an empty one: then the kernel has it all.
        self.writer.transport.set_write_buffer_limits(high=0)

    def note(self, kind: str, exchange: int = 0, **data: object) -> None:
        self.case.record(kind, self.case.now(), self.number, exchange, **data)

    def push(self, item: Item) -> None:
        if not self.ended:
            self._queue.append(item)
            self._idle.clear()
            self._wake.set()

    def close(self) -> None:
        """mitmproxy is done with this client; what is queued still goes out."""
        if not self.closed:
            self.closed = True
            self.push(_Closed())

    async def drain(self) -> None:
        await self._idle.wait()

    async def serve(self) -> None:
        """Send what is queued until the connection is over."""
        how = "client-left"
        try:
            while True:
                while not self._queue:
                    self._idle.set()
                    self._wake.clear()
                    await self._wake.wait()
                await self._handle(self._queue.popleft())
        except Over as over:
            how = str(over.args[0])
        except ConnectionError:
            pass
        except asyncio.CancelledError:
            how = "open"
            raise
        finally:
            self.ended = True
            self._queue.clear()
            self._idle.set()
            for answer in self.answers:
                answer.note_end(how)
            for told in self.on_end:
                told(how)
            self.writer.transport.abort()

    async def _handle(self, item: Item) -> None:
        match item:
            case bytes() if self.raw:
                await self.put(item)
            case bytes():
                await self._feed(item)
            case Step(run):
                await run()
            case Done(answer):
                await answer.done()
            case Failed(answer, reason):
                self.muted = True
                if answer and not self.reader.ended.is_set():
                    answer.lacking = reason
            case _:
                await self._finish()

    async def _feed(self, data: bytes) -> None:
        while data and not self.muted:
            if not self.answers:
                return await self.put(data)  # to what was no request
            answer = self.answers[0]
            if answer.complete:  # it promised less than there is
                answer.surplus += data
                return None
            data = await answer.feed(data)
        return None

    async def _finish(self) -> None:
        """mitmproxy has closed: what is still open ends here. Raises Over."""
        answer = self.answers[0] if self.answers else None
        if answer:
            await answer.cut_short()
        await self.end(Ending.FIN)

    # --- the client's transport

    async def put(self, data: bytes | bytearray | memoryview) -> None:
        """Send, and return once the kernel has it. Raises ConnectionError."""
        if data:
            self.writer.write(self.encrypt(bytes(data)) if self.encrypt else bytes(data))
            await self.writer.drain()
            if self.writer.transport.is_closing():
                raise ConnectionResetError("the client has gone")

    async def end(self, ending: Ending) -> None:
        """End the connection, every byte before delivered; raises Over."""
        transport = self.writer.transport
        sock: Any = transport.get_extra_info("socket")
        if transport.is_closing() or sock.fileno() < 0:
            raise Over("client-left")
        if ending is Ending.NOTIFY and self.notify:
            self.writer.write(self.notify())
            await self.writer.drain()
        if ending is Ending.RST:
            await self._delivered()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            if ending is not Ending.HALF and isinstance(transport, asyncio.Transport):
                transport.pause_reading()  # what comes behind the end is answered by a reset, not taken
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
            self.ended = True  # mitmproxy may say what it likes
            self._idle.set()
            await (self.reader.ended.wait() if ending is Ending.HALF else self._delivered())
        transport.abort()
        raise Over("cut")

    async def _delivered(self) -> None:
        """Return when the client's kernel holds every byte sent; raises Over when it has gone."""
        try:
            await delivered(self.writer.transport.get_extra_info("socket"))
        except (OSError, ValueError):  # closed meanwhile: the descriptor is no more
            raise Over("client-left") from None

    async def hold(self, seconds: float | None) -> None:
        """Send nothing; raises Over when the client leaves meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.reader.ended.wait()
            raise Over("client-left")

    async def act(self, verb: Mutate | Kill) -> None:
        """Have something done off the wire, once the client's kernel holds what was sent."""
        await self._delivered()
        self.case.mutated = self.case.mutated or isinstance(verb, Mutate)
        await self.act_out(verb)
        if isinstance(verb, Kill):
            # What is sent to a dying process reaches nobody, and must not count as delivered.
            await self.hold(DYING)


class Gate:
    """What mitmproxy takes for the stream of its client."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def write(self, data: bytes) -> None:
        if self._line.tls:  # handshake, or encrypted by the line itself
            if not self._line.writer.transport.is_closing():
                self._line.writer.write(data)
        else:
            self._line.push(bytes(data))

    def is_closing(self) -> bool:
        return self._line.closed or self._line.ended

    def close(self) -> None:
        self._line.close()

    def write_eof(self) -> None:
        self._line.close()

    async def drain(self) -> None:
        await self._line.drain()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._line.writer.get_extra_info(name, default)


class Answer:
    """One HTTP/1.1 response on its way through a line, with the rules in force for it."""

    def __init__(
        self, line: Line, number: int, method: str, operation: str, armed: list[Armed], by: str = "store"
    ) -> None:
        self.line = line
        self.number = number
        self.method = method
        self.operation = operation
        self.armed = armed
        self.by = by
        self.base: int | None = None
        self.rewriter: PayloadRewriter | None = None
        self.rewriting: list[Armed] = []
        self.expected: int | None = None  # all wire bytes of an answer made here
        self.surplus = bytearray()
        self.complete = False
        self.lacking = ""  # why the store's response is not all here
        self.end = "open"
        self.sent = 0  # wire bytes of the current message
        self.interim = 0  # of the interim ones before it
        self._fed = 0
        self._pace: int | None = None
        self._payload = 0
        self._spans: deque[Span] = deque()
        self._message: Message | None = None
        self._tracker = Tracker(method)
        self._pending = bytearray()
        self._said = False
        self._noted = False

    # --- rewriting

    def rewriter_for(self) -> PayloadRewriter | None:
        """A rewriter, when rules in force want to change this response."""
        wanted = [
            Wanted(rewrite, one.rule.position, partial(self._claim, one))
            for one in self.armed
            for rewrite in one.rule.rewrites
        ]
        if not wanted:
            return None
        return PayloadRewriter(
            self.method, wanted, carries_object=self.carries_object, total=self.line.case.object_size
        )

    @property
    def carries_object(self) -> bool:
        return self.operation == "get_object" and self.method == "GET" and self.by == "store"

    def _claim(self, one: Armed, head_changes: bool) -> bool:
        if one not in self.rewriting and not self.line.case.schedule.fire(one):
            return False
        if one not in self.rewriting:
            self.rewriting.append(one)
        if head_changes:
            one.wire = 0
        return True

    # --- bytes from mitmproxy

    async def feed(self, data: bytes) -> bytes:
        """Bytes of this response; gives those behind its end. Raises Over, ConnectionError."""
        while data and not self.complete:
            spans, taken = self._tracker.feed(data)
            self._pending += data[:taken]
            self._fed += taken
            data = data[taken:]
            self._locate(spans)
            await self._advance(flush=False)
            status = self._tracker.head.status if self._tracker.head else 0
            if not (self._tracker.complete and not self._pending):
                break
            if 100 <= status < 200 and status != 101:
                self._begin_message()
            else:
                await self._completed()
        if self.expected is not None and self._fed >= self.expected and not self.complete:
            await self.cut_short()
        return data

    async def _completed(self) -> None:
        await self._fire_due()
        self.complete = True
        if not self.rewriter or self._said:
            self._note_rewrites(everything=True)
            self._leave("complete")

    async def done(self) -> None:
        """mitmproxy has said it all, but for a last chunk; only asked where the head was rewritten."""
        self._said = True
        if self._tracker.framing is Framing.CHUNKED and not self.complete:
            return
        if self.complete:
            self._note_rewrites(everything=True)
            await self.line.put(self.surplus)
            self._leave("complete")
            if self.surplus:
                await self.line.end(Ending.FIN)
        else:
            await self.cut_short()

    async def cut_short(self) -> None:
        """There is no more to come. Raises Over."""
        tracker = self._tracker
        if not self.lacking and tracker.close():
            self._locate([tracker.end_span()])
        await self._advance(flush=True)
        if tracker.complete and not self._pending:
            await self._fire_due()
            self.complete = True
            self._note_rewrites(everything=True)
            self._leave("complete")
        elif self.line.reader.ended.is_set():
            raise Over("client-left")
        elif self.by != "store" or self.rewriter:
            self.end = "cut"
        else:
            self.end = "store-ended" if self.line.case.mutated else "upstream-closed"
        await self.line.end(Ending.FIN)

    def _leave(self, how: str) -> None:
        self.note_end(how)
        with contextlib.suppress(ValueError):
            self.line.answers.remove(self)

    def note_end(self, how: str) -> None:
        """The exchange is over, by whatever was first."""
        if self._noted:
            return
        self._noted = True
        if self.end in ("open", "held") and how != "open":
            self.end = how
        if self.lacking and self.end == "upstream-closed":
            self.line.note("note", self.number, text=self.lacking)
        if self.end == "client-left":
            self.line.note("client-left", self.number)
        wire = self.interim + self.sent
        self.line.note("sent", self.number, wire=wire, body=self.payload_sent(), end=self.end)
        self._note_unfired()
        self.line.wire += self.sent

    def _note_unfired(self) -> None:
        for one in self.armed:
            if one.fired and one not in self.rewriting:
                continue
            if one.rule.rewrites:
                why = "elsewhere"
                if one in self.rewriting:
                    why = "ended"
                    self.line.case.schedule.release(one)
            elif one.wire is not None and one.wire < self.sent:
                why = "passed"
            elif self.end != "complete":
                why = "ended"
            elif one.rule.position.kind in ("object", "percent", "wire"):
                why = "elsewhere"
            else:
                why = "absent"
            self.line.note("unfired", self.number, rule=one.index, spec=str(one.rule), why=why)

    def _begin_message(self) -> None:
        self.line.wire += self.sent
        self.interim += self.sent
        self.sent = self._payload = 0
        self._spans.clear()
        self._message = None
        self._tracker = Tracker(self.method)
        for one in self.armed:
            one.wire = None

    # --- positions

    def _locate(self, spans: list[Span]) -> None:
        head = self._tracker.head
        if not spans or head is None:
            return
        interim = 100 <= head.status < 200
        if self._message is None:
            self._message = self._describe(head, interim)
        self._spans.extend(s for s in spans if s.place is Place.BODY)
        for one in self.armed:
            waiting = one in self.rewriting if one.rule.rewrites else not one.fired
            if one.wire is not None or not waiting or (interim and one.rule.position.kind != "wire"):
                continue
            for span in spans:
                at = locate(one.rule.position, span, self._message)
                if at is not None and at >= self.sent:
                    one.wire = at
                    break

    def _describe(self, head: Head, interim: bool) -> Message:
        tracker = self._tracker
        declared = content_range(head.get("content-range"))
        empty = tracker.framing is Framing.NONE and head.get("content-length") == "0"
        length = tracker.length if tracker.framing is Framing.LENGTH or empty else None
        base = self.rewriter.base if self.rewriter else object_base(head, carries_object=self.carries_object)
        total = self.line.case.object_size
        if base is not None and total is None:
            total = declared.total if declared else length
        self.base = base
        if not interim:
            self.line.note(
                "response",
                self.number,
                status=head.status,
                fields=redact_fields(head.fields),
                base=base,
                length=length,
                framing=tracker.framing.value,
                by=self.by,
            )
        return Message(head, base, total, self.line.wire)

    def payload_sent(self) -> int:
        while self._spans and self._spans[0].end <= self.sent:
            span = self._spans.popleft()
            self._payload += span.end - span.start
        partial_ = max(0, self.sent - self._spans[0].start) if self._spans else 0
        return self._payload + partial_

    @property
    def _hold_back(self) -> int:
        """Bytes that must wait, since a place before the end is only known at the end."""
        waiting = (
            a.rule.position.lookback
            for a in self.armed
            if a.wire is None and not a.fired and not a.rule.rewrites
        )
        return max(waiting, default=0)

    def _next_target(self) -> int | None:
        waiting = [a for a in self.armed if not a.fired and not a.rule.rewrites] + self.rewriting
        return min((a.wire for a in waiting if a.wire is not None), default=None)

    # --- bytes to the client

    async def _advance(self, *, flush: bool) -> None:
        await self._fire_due()
        while await self._send_some(flush=flush):
            await self._fire_due()

    async def _send_some(self, *, flush: bool) -> bool:
        tracker, pending = self._tracker, self._pending
        ready = len(pending) if flush and not tracker.complete else tracker.wire - self.sent
        if not tracker.complete and not flush:
            ready -= self._hold_back
        n = min(ready, len(pending))
        target = self._next_target()
        if target is not None:
            n = min(n, target - self.sent)
        if n <= 0:
            return False
        if self._pace:
            n = min(n, max(1, self._pace // 20))
        await self.line.put(pending[:n])
        self.sent += n
        del pending[:n]
        if self._pace:
            await asyncio.sleep(n / self._pace)
        return True

    def _note_rewrites(self, *, everything: bool = False) -> None:
        for one in [a for a in self.rewriting if everything or (a.wire is not None and a.wire <= self.sent)]:
            self.rewriting.remove(one)
            self.note_fault(one)

    def note_fault(self, one: Armed) -> None:
        body = self.payload_sent()
        self.line.note(
            "fault",
            self.number,
            rule=one.index,
            spec=str(one.rule),
            wire=self.interim + self.sent,
            body=body,
            offset=None if self.base is None else self.base + body,
        )

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
            if not self.line.case.schedule.fire(one):
                one.fired = True  # healed: another request was faster
                continue
            self.note_fault(one)
            for verb in one.rule.fault.verbs():
                await self.carry_out(verb)

    async def carry_out(self, verb: object) -> None:
        """Do what a rule wants here. Raises Over."""
        match verb:
            case Close(ending):
                self.end = "cut"
                for one in self.rewriting:
                    self.line.case.schedule.release(one)
                await self.line.end(ending)
            case Hold(seconds):
                self.end = "held"
                await self.line.hold(seconds)
                self.end = "open"
            case Pace(rate):
                self._pace = rate
            case Send(data):
                await self.line.put(data)
                self.interim += len(data)
                self.line.wire += len(data)
            case Mutate() | Kill():
                self.end = "held"
                await self.line.act(verb)
                self.end = "open"


class PayloadRewriter(Rewriter):
    """Rewrites for an engine that takes the framing off and puts it on again itself."""

    def begin(self, head: Head) -> bytes | None:
        """The new head, None when nobody wants this response changed."""
        raw = self._begin(Head(head.line, head.fields, head.render()))
        return raw if self.applied else None

    def pass_on(self, data: bytes) -> bytes:
        """Payload through the rewrites; b"" behind an end."""
        if self.over:
            return b""
        out = self._pass(data, 0)
        self.over = any(p.over for p in self._payloads)
        return out

    def rest(self) -> bytes:
        """What the rewrites still hold at the end of the payload."""
        out = b""
        for index, payload in enumerate(self._payloads):
            if rest := payload.end():
                out += self._pass(rest, index + 1)
        return out
