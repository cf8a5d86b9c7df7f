"""One connection through the embedded injector: exchange by exchange, byte by byte.

The relay forwards what the client and the store say without changing a byte. It follows the framing of each
message only to know, before a byte is sent, which byte it is. Exchanges are relayed one at a time; a
pipelined request waits in the buffer until the response before it is through.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from midstream._errors import HarnessError
from midstream._evidence import Evidence, redact_fields, redact_target
from midstream._operations import APPEARS
from midstream._positions import Message, locate
from midstream._rewriting import Rewriter, Wanted, object_base
from midstream._schedule import Armed, Schedule
from midstream._verbs import (
    Act,
    Alter,
    Close,
    EditRequest,
    Ending,
    Hold,
    Kill,
    Look,
    Mutate,
    Pace,
    Respond,
    Send,
    Swallow,
)
from midstream._wire import Framing, Head, Place, Span, Tracker, content_range
from midstream.injectors import Operation
from midstream.injectors._outgoing import fire
from midstream.injectors._request import Sending
from midstream.injectors._sockets import (
    RECV,
    Pipe,
    delivered,
    half_close,
    peer_has_left,
    recv,
    reset,
    send_all,
    silent,
    wait,
    wait_for,
)
from midstream.injectors._tls import TlsSocket

DYING = 2.0  # seconds for a signalled driver to leave; one that stays is served on
SPLICE_FROM = 256 * 1024  # below that, copying is cheaper than a pipe
REASONS = {200: "OK", 206: "Partial Content", 404: "Not Found", 412: "Precondition Failed"}


Client = socket.socket | TlsSocket


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
    act: Callable[[Act], None] | None = None
    path: str = ""  # of the store's socket, where it is not at `upstream`
    looks: bool = False  # whether `act` wants to look at what the store is asked to publish
    exchanges: int = 0
    mutated: bool = False  # a fault changed the store: how it ends from here on is no trouble of ours
    record: Callable[..., None] = field(init=False)

    def __post_init__(self) -> None:
        self.record = self.evidence.add


def canned(answer: Respond, *, close: bool, elsewhere: str = "") -> bytes:
    """The bytes of a response made here; `{other-host}` in a field is the target under another host name."""
    lines = [f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Injected')}"]
    lines += [f"{n}: {v.replace('{other-host}', elsewhere)}" for n, v in answer.headers]
    names = {n.lower() for n, _ in answer.headers}
    if not names & {"content-length", "transfer-encoding"} and answer.status not in (204, 304):
        lines.append(f"Content-Length: {len(answer.body)}")
    if "content-type" not in names and answer.body:
        lines.append("Content-Type: text/html")
    if close and "connection" not in names:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + answer.body


def wants_close(head: Head) -> bool:
    """Whether a request asks for the connection to end after the response (RFC 9112 section 9.3)."""
    options = {o.strip() for o in (head.get("connection") or "").lower().split(",")}
    return "close" in options or (head.line.endswith("HTTP/1.0") and "keep-alive" not in options)


class Relay:
    """One client connection. `run` serves it until either side ends it.

    While a request body comes in, a task of its own (`upload`) reads from the client and writes to the store;
    everything else reads from the store and writes to the client. So no two wait for the same direction of a
    socket, and `stop_upload` comes before either socket is closed.
    """

    def __init__(self, case: Case, client: Client, number: int) -> None:
        self.case = case
        self.client = client
        self.number = number
        self.upstream: socket.socket | None = None
        self.from_client = bytearray()
        self.from_upstream = bytearray()
        self.wire = 0  # response bytes sent on this connection in earlier messages
        self.pipe: Pipe | None = None
        self.upload: asyncio.Task[None] | None = None
        self.sending: Sending | None = None  # the request with a body that is under way
        self.spans: list[Span] = []  # of the request that is being read
        self.upload_started = False  # the client has sent some of the body after the head
        self.client_lost = False  # found out by the upload
        self.store_reset = False  # the store ended by an error, not by an orderly end
        if case.schedule.alters_source and isinstance(client, socket.socket):
            # What the driver has already read of its source is not changed any more: let that be little.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)

    def note(self, kind: str, exchange: int = 0, **data: object) -> None:
        self.case.record(kind, self.case.now(), self.number, exchange, **data)

    async def run(self, armed: list[Armed]) -> None:
        """Serve the connection; `armed` are the faults of the connection itself."""
        self.note("connection")
        try:
            for one in armed:
                await self._fire_at_accept(one)
            if isinstance(self.client, TlsSocket):
                await self._agree(self.client)
            while (ending := await self._exchange()) is None:
                pass
            if ending is Ending.FIN and isinstance(self.client, TlsSocket):
                ending = Ending.NOTIFY  # nothing went wrong, so TLS ends as it should
            await self.close(ending)
        except (Ended, ConnectionError):
            pass
        finally:
            self.discard()

    async def _agree(self, client: TlsSocket) -> None:
        try:
            await client.handshake()
        except (OSError, ConnectionError) as error:
            if "UNKNOWN_CA" in str(error).upper() or "CERTIFICATE" in str(error).upper():
                self.note("upstream-failed", reason="the driver does not trust the run's certificate")
            raise Ended("client-left") from None

    def discard(self) -> None:
        """Free every descriptor; may be called twice."""
        self.client.close()
        if self.upstream:
            self.upstream.close()
            self.upstream = None
        if self.pipe:
            self.pipe.close()
            self.pipe = None

    def _as_the_store(self) -> Ending:
        """The store's own ending, passed on: a reset turned into an orderly end would look like success."""
        return Ending.RST if self.store_reset else Ending.FIN

    # --- requests

    async def _exchange(self) -> Ending | None:
        """Relay one request and its response; None to go on, else how the connection is to end."""
        tracker = Tracker(None)
        request = await self._request_head(tracker)
        if request is None or tracker.head is None:
            return self._as_the_store()
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
        before = [a for a in armed if a.rule.at_request]
        inside = [a for a in armed if a.rule.in_request]
        armed = [a for a in armed if not a.rule.at_request and not a.rule.in_request]
        response = self.response(number, method, operation, [a for a in armed if not a.rule.answers])
        try:
            request = await self._before_forwarding(before, response, tracker.head, request)
        except (Ended, asyncio.CancelledError) as error:
            response.ended_at_request(str(error.args[0]) if isinstance(error, Ended) else response.end)
            raise
        self.sending = None
        if tracker.framing is not Framing.NONE:
            self.sending = Sending(tracker, self.spans, operation, inside)
        answer = next((a for a in armed if a.rule.answers and self.case.schedule.fire(a)), None)
        try:
            if answer and answer.rule.answers:
                return await self._answer(response, answer, answer.rule.answers, tracker)
            return await self._forward(response, tracker, request)
        finally:
            self._note_sending(number, inside)

    def _note_sending(self, number: int, inside: list[Armed]) -> None:
        """What came of the request's body, and of the rules that were to fire in it."""
        if self.sending and self.sending.has_body:
            self.note("received", number, **self.sending.account())
        unfired = self.sending.unfired() if self.sending else [(a, "elsewhere") for a in inside]
        for one, why in unfired:
            self.note("unfired", number, rule=one.index, spec=str(one.rule), why=why)

    def response(self, number: int, method: str, operation: str, armed: list[Armed]) -> Response:
        """What relays the response of an exchange; for relays that do it in their own way."""
        return Response(self, number, method, operation, armed)

    async def _before_forwarding(
        self, armed: list[Armed], response: Response, head: Head, request: bytes
    ) -> bytes:
        """Fire what fires at the request; the request as the store is to see it."""
        number = response.number
        body = request[len(head.raw) :]
        for one in armed:
            edits = [v.edit for v in one.rule.fault.verbs() if isinstance(v, EditRequest)]
            edited = edits[0](head) if edits else None
            if (edits and edited is None) or not self.case.schedule.fire(one):
                self.note("unfired", number, rule=one.index, spec=str(one.rule), why="elsewhere")
                continue
            self.note("fault", number, rule=one.index, spec=str(one.rule), wire=0, body=0, offset=None)
            if edited:
                head = edited
                request = head.render() + body
                continue
            for verb in one.rule.fault.verbs():
                match verb:
                    case Close(ending):
                        response.end = "cut"
                        await self.close(ending)
                    case Hold(seconds):
                        response.end = "held"
                        await self.hold(seconds)
                        response.end = "open"
                    case Mutate() | Kill() | Alter():
                        await self.act(verb)
        return request

    async def act(self, verb: Act, *, wait: bool = True) -> None:
        """Have something done off the wire, once the client's kernel holds what was sent."""
        await delivered(self.client)
        if self.case.act is None:
            raise HarnessError(f"nobody here can {type(verb).__name__.lower()}")
        self.case.mutated = self.case.mutated or isinstance(verb, Mutate)
        await asyncio.get_running_loop().run_in_executor(None, self.case.act, verb)
        if isinstance(verb, Kill) and wait:
            # What is sent to a dying process reaches nobody, and must not count as delivered.
            await self.hold(DYING)

    async def _request_head(self, tracker: Tracker) -> bytes | None:
        """Read until a request head is complete; the wire bytes so far, or None when there is no request."""
        seen = bytearray()
        data = bytes(self.from_client)
        self.from_client.clear()
        self.spans = []
        while True:
            if data:
                spans, taken = tracker.feed(data)
                self.spans += spans
                seen += data[:taken]
                self.from_client += data[taken:]
            if tracker.head:
                # A pipelined request may come after the store has ended: nobody is left to answer it.
                return None if self.upstream and self._upstream_gone() else bytes(seen)
            if self.upstream and self._upstream_gone():
                return None
            try:
                more = self.client.recv(RECV)  # before waiting: TLS may hold what the kernel no longer has
            except BlockingIOError:
                await wait(read=(self.client, self.upstream) if self.upstream else (self.client,))
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
            self.store_reset = True
        return True

    async def _answer(
        self, response: Response, armed: Armed, answer: Respond, tracker: Tracker
    ) -> Ending | None:
        """Answer in the store's place. A body the client waits to send is not asked for."""
        assert tracker.head
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
        if not expects_continue(tracker.head):
            try:
                await self._swallow_body(tracker)
            except ConnectionError:
                response.ended_at_request("client-left")
                raise
        close = not tracker.complete or wants_close(tracker.head)
        alive = await response.relay(self.canned(answer, response.method, tracker.head.request[1], close))
        if not tracker.complete:
            return Ending.HALF  # what the client still sends is read, so that it gets to read the answer
        return None if alive and not close else Ending.FIN

    def canned(self, answer: Respond, method: str, target: str = "/", close: bool = True) -> bytes:
        """The bytes of an answer in the store's place."""
        port = self.client.getsockname()[1]
        raw = canned(answer, close=close, elsewhere=f"http://localhost:{port}{target}")
        return raw[: len(raw) - len(answer.body)] if method == "HEAD" else raw

    async def _swallow_body(self, tracker: Tracker) -> None:
        while not tracker.complete and (data := await self._more_body()):
            _, taken = tracker.feed(data)
            self.from_client += data[taken:]

    async def _more_body(self) -> bytes:
        """More of a request body: first what came in while the request was held."""
        if self.from_client:
            data = bytes(self.from_client)
            self.from_client.clear()
            return data
        return await recv(self.client, RECV)

    async def _forward(self, response: Response, tracker: Tracker, request: bytes) -> Ending | None:
        if not await self._connect(response.number):
            return Ending.FIN
        assert self.upstream
        sending = self.sending = self.sending or Sending(tracker, self.spans, response.operation, [])
        sending.push(request)
        try:
            await sending.forward(self.upstream)
        except ConnectionError as error:
            # The store may have answered before it ended: what it said is still to be read.
            self.store_reset = isinstance(error, ConnectionResetError)
        self.upload_started = False
        self._go_on_uploading(sending)
        try:
            alive = await response.relay(None)
            if self.upload and not self._body_is_off(response, tracker):
                alive = await self._finish_upload(response, alive) and tracker.complete
        finally:
            await self.stop_upload()
        if response.by == "injector":  # a rule has answered in the middle of the request
            return Ending.HALF
        return None if alive else self._as_the_store()

    def _go_on_uploading(self, sending: Sending) -> None:
        """Have the rest of the request moved, unless it stands at the byte of a rule."""
        if self.upstream and not sending.finished and not sending.due:
            self.upload = asyncio.get_running_loop().create_task(self._request_body(sending, self.upstream))

    async def at_request_byte(self, response: Response) -> bytes | None:
        """Fire the rule that the request's body stands at; None when it stands at none.

        Gives the answer in the store's place, if that is what the rule is.
        """
        sending = self.sending
        if sending is None or sending.due is None:
            return None
        await self.stop_upload()
        answer = await fire(self, response, sending)
        if not answer:
            self._go_on_uploading(sending)
        return answer

    def _body_is_off(self, response: Response, tracker: Tracker) -> bool:
        """Whether the client waited for a 100 and got a final status: it will not send the body.

        RFC 9110 section 10.1.1 lets the client go on with its next request.
        """
        assert tracker.head
        return expects_continue(tracker.head) and not response.continued and not self.upload_started

    async def _request_body(self, sending: Sending, upstream: socket.socket) -> None:
        """Client to store, until the request is complete, at a rule's byte, or one of them has gone."""
        while not sending.due and not sending.finished:
            try:
                data = b"" if sending.waiting else await self._more_body()
            except OSError:
                self.client_lost = True
                with contextlib.suppress(OSError):
                    upstream.shutdown(socket.SHUT_RDWR)  # wakes the response
                return
            try:
                if not data and not sending.waiting:
                    upstream.shutdown(socket.SHUT_WR)
                    return
                self.upload_started = True
                self.from_client += sending.take(data)
                await sending.forward(upstream)
            except OSError as error:  # the store reads no more; what it said is still to be read
                self.store_reset = self.store_reset or isinstance(error, ConnectionResetError)
                return
            await asyncio.sleep(0)  # a client that never pauses must not stop the others

    async def _finish_upload(self, response: Response, alive: bool) -> bool:
        """The response was faster than the request: the rest of the request still passes.

        The store's end is passed on at once. What the client goes on to send still goes to the store, which
        may read it to the end (a lingering close) or refuse it.
        """
        while self.upload and not self.store_reset:
            assert self.upstream
            if await self.at_request_byte(response):
                return False  # the client has an answer already
            if self.upload is None or self.upload.done():
                break
            if not alive or self._upstream_gone():
                alive = False
                if not self.store_reset:
                    with contextlib.suppress(OSError):
                        self.client.shutdown(socket.SHUT_WR)
                    await wait(done=self.upload)
            else:
                await wait(read=(self.upstream,), done=self.upload)
        return alive

    async def stop_upload(self) -> None:
        if self.upload:
            upload, self.upload = self.upload, None
            upload.cancel()
            await asyncio.wait({upload})
            if not upload.cancelled():
                upload.result()  # what went wrong there goes wrong here

    def address(self) -> tuple[str, int]:
        """Where the next connection to the store goes."""
        return self.case.upstream

    async def _connect(self, exchange: int) -> bool:
        if self.upstream:
            return True
        address = self.case.path or self.address()
        sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        sock.setblocking(False)
        if sock.family is socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.case.schedule.changes_objects:
            # What the store has already sent is not changed by a change: let it send no more than it must.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):
                raise
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
        await self.stop_upload()
        if self.upstream:
            self.upstream.close()
            self.upstream = None
        if ending is Ending.NOTIFY:
            if not isinstance(self.client, TlsSocket):
                raise HarnessError("cut:notify needs a TLS connection (tls = true in the scenario)")
            await self.client.notify()
        if ending is Ending.RST:
            await reset(self.client)
        else:
            await half_close(self.client, answer_data_with_reset=ending is Ending.FIN)
        raise Ended("cut")

    async def hold(self, seconds: float | None) -> None:
        """Send nothing; raises Ended when the client leaves meanwhile (its end counts as leaving)."""
        loop = asyncio.get_running_loop()
        until = None if seconds is None else loop.time() + seconds
        while until is None or loop.time() < until:
            left = None if until is None else until - loop.time()
            if self.upload and not self.upload.done():
                await wait_for(left, done=self.upload)
                continue
            if not await wait_for(left, read=(self.client,)):
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


def expects_continue(head: Head) -> bool:
    return (head.get("expect") or "").lower() == "100-continue"


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
