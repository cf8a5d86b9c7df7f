"""One connection through the embedded injector: exchange by exchange, byte by byte.

The relay forwards what the client and the store say without changing a byte. It follows the framing of each
message only to know, before a byte is sent, which byte it is. Exchanges are relayed one at a time; a
pipelined request waits in the buffer until the response before it is through.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from midstream._errors import HarnessError
from midstream._evidence import redact_fields, redact_target
from midstream._schedule import Armed
from midstream._verbs import Act, Alter, Close, EditRequest, Ending, Hold, Kill, Mutate, Respond
from midstream._wire import Framing, Head, Span, Tracker
from midstream.injectors._case import DYING, Case, Client, Ended, canned, wants_close
from midstream.injectors._outgoing import fire
from midstream.injectors._request import Sending
from midstream.injectors._response import Response
from midstream.injectors._sockets import RECV, Pipe, delivered, half_close, recv, reset, wait, wait_for
from midstream.injectors._tls import TlsSocket


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
