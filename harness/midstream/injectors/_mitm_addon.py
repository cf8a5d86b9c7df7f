"""The addon that carries faults out in mitmproxy, loaded into mitmdump by `_mitm_script`.

It is told by its owner, over a unix socket and in lines of JSON, which sessions to open and close, and tells
of every event as it happens. With MIDSTREAM_LISTEN=HOST:PORT in place of MIDSTREAM_CONTROL it waits for
owners there, and outlives them; a GET of /version there is answered by HTTP. Each session has a listener of
its own, whose connections are handed to mitmproxy as those of a reverse proxy.

Public in mitmproxy: all hooks, `flow.response.stream` as a callable, TLS by its own authority. Beyond what is
public, tried on 11.0.2 and proved by calibration:

- `ServerInstance.handle_stream` is called with a stream of ours, so that what mitmproxy writes to its client
  passes through a `Gate` and can be stopped at a byte;
- `ClientTLSLayer.send_data` of a connection is replaced, so that the gate sees the bytes before encryption;
- of HTTP/2, `Http2Server.h2_conn` is asked what it still holds back, and told to reset a stream.

Requests are followed and matched in the hooks. mitmproxy takes messages apart and puts them together again:
chunks are its own, trailers are not passed, and a client that ends its direction counts as gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mitmproxy import ctx, http, version  # type: ignore[import-not-found,unused-ignore]
from mitmproxy.connection import Client as ClientConnection  # type: ignore[import-not-found,unused-ignore]
from mitmproxy.proxy.layers import ClientTLSLayer, HttpLayer  # type: ignore[import-not-found,unused-ignore]
from mitmproxy.proxy.mode_servers import ServerInstance  # type: ignore[import-not-found,unused-ignore]
from OpenSSL import SSL  # type: ignore[import-not-found,unused-ignore]

from midstream._errors import MidstreamError, SetupError
from midstream._evidence import Event, redact_fields, redact_target
from midstream._positions import Position
from midstream._rewriting import object_base
from midstream._schedule import Armed, Schedule
from midstream._verbs import Close, EditRequest, Ending, Hold, Kill, Mutate, ResetStream, Respond
from midstream._wire import Head, content_range, parse_head
from midstream.injectors import Plan
from midstream.injectors._case import Case, canned, wants_close
from midstream.injectors._mitm_wire import (
    CERTIFICATE,
    CONTROL,
    HELLO,
    Answer,
    Done,
    Failed,
    Gate,
    Line,
    Over,
    PayloadRewriter,
    Reader,
    Step,
    nearby,
)
from midstream.injectors._relay import Relay
from midstream.injectors.embedded import EmbeddedSession

Flow = Any  # mitmproxy.http.HTTPFlow
MODE = "reverse:http://{}:{}"


class Control:
    """The line to the owner."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self.sessions: dict[int, MitmSession] = {}
        self._numbers = itertools.count(1)

    def tell(self, **message: Any) -> None:
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def ask(self, session: int, what: str, *about: Any) -> Any:
        """Ask the owner; raises MidstreamError when it could not do it."""
        number = next(self._numbers)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        self.tell(kind="ask", session=session, number=number, what=what, about=about)
        return await future

    def answered(self, message: dict[str, Any]) -> None:
        future = self._asked.pop(message["number"])
        if future.done():
            return
        if "error" in message:
            future.set_exception(MidstreamError(message["error"]))
        else:
            future.set_result(message["value"])

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        while line := await self._reader.readline():
            yield json.loads(line)

    async def end(self) -> None:
        """The owner has gone: what waits for an answer gets none, and its sessions end."""
        for future in self._asked.values():
            if not future.done():
                future.set_exception(MidstreamError("the owner has gone"))
        while self.sessions:
            await self.sessions.popitem()[1].end()
        self._writer.close()


class Conversation(Relay):
    """One client connection, carried by mitmproxy."""

    def __init__(self, case: Case, client: socket.socket, number: int, session: MitmSession) -> None:
        super().__init__(case, client, number)
        self.session = session
        self.line: Line | None = None
        self.handler: Any = None

    async def run(self, armed: list[Armed]) -> None:
        self.note("connection")
        loop = asyncio.get_running_loop()
        reader = Reader()
        protocol = asyncio.StreamReaderProtocol(reader)
        assert isinstance(self.client, socket.socket)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, self.client)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        line = self.line = Line(self.case, self.number, reader, writer, self.session.act)
        serving = loop.create_task(line.serve())
        try:
            for one in armed:
                self._at_accept(line, one)
            if not armed:
                self.session.addon.conversations[self._key(writer)] = self
                await self.session.instance.handle_stream(reader, Gate(line))
                line.close()
            await serving
        finally:
            addon = self.session.addon
            addon.conversations.pop(self._key(writer), None)
            for flow in [f for f, e in addon.exchanges.items() if e.conversation is self]:
                del addon.exchanges[flow]
            serving.cancel()
            await asyncio.wait({serving})

    def _at_accept(self, line: Line, armed: Armed) -> None:
        for verb in armed.rule.fault.verbs():
            if isinstance(verb, Close) and self.case.schedule.fire(armed):
                self.note("fault", 0, rule=armed.index, spec=str(armed.rule), wire=0, body=0, offset=None)
                line.push(Step(partial(line.end, verb.ending)))

    @staticmethod
    def _key(writer: asyncio.StreamWriter) -> tuple[Any, Any]:
        return writer.get_extra_info("peername"), writer.get_extra_info("sockname")

    def discard(self) -> None:
        if self.line:
            self.line.writer.transport.abort()
        else:
            self.client.close()


class MitmSession(EmbeddedSession):
    """One case: a listener, and a reverse proxy of mitmproxy behind it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, plan: Plan, addon: Midstream, control: Control, number: int
    ) -> None:
        self.addon = addon
        self.control = control
        self.number = number
        self.instance = ServerInstance.make(MODE.format(*plan.upstream), ctx.master.addons.get("proxyserver"))
        super().__init__(loop, plan)

    @property
    def case(self) -> Case:
        return self._case

    def relay(self, client: Any) -> Relay:
        return Conversation(self._case, client, self._accepted, self)

    async def act(self, verb: Mutate | Kill) -> None:
        what = ["mutate", verb.action] if isinstance(verb, Mutate) else ["kill", verb.signal]
        try:
            await self.control.ask(self.number, "act", *what)
        except MidstreamError as error:
            self._trouble(error)

    async def end(self) -> None:
        await self._close()


class Midstream:
    """The addon."""

    def __init__(self) -> None:
        self.conversations: dict[tuple[Any, Any], Conversation] = {}
        self.exchanges: dict[str, Exchange] = {}  # by flow
        self._served: asyncio.Task[None] | None = None

    def running(self) -> None:
        self._served = asyncio.get_running_loop().create_task(self._serve())

    # --- the owner

    async def _serve(self) -> None:
        try:
            if address := os.environ.get("MIDSTREAM_LISTEN"):
                host, _, port = address.rpartition(":")
                server = await asyncio.start_server(self._received, host, int(port))
                await server.serve_forever()
            else:
                with nearby(Path(os.environ["MIDSTREAM_CONTROL"])) as near:
                    reader, writer = await asyncio.open_unix_connection(f"{near}/{CONTROL}")
                await self._obey(reader, writer)
        except Exception as error:  # mitmproxy's log is not for us
            sys.stderr.write(f"midstream: {type(error).__name__}: {error}\n")
        finally:
            os._exit(0)  # nobody is left to work for

    async def _received(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody has come to the address of MIDSTREAM_LISTEN."""
        try:
            first = await reader.readline()
            if first == HELLO:
                await self._obey(reader, writer)
            elif first.startswith(b"GET /version "):
                body = json.dumps({"version": version.VERSION})
                writer.write(f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
                await writer.drain()
        except (OSError, ValueError):
            pass  # it has gone, or is no owner
        finally:
            writer.close()

    async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what an owner says for as long as it is there."""
        control = Control(reader, writer)
        bundle = Path(ctx.options.confdir).expanduser() / CERTIFICATE
        control.tell(kind="ready", version=version.VERSION, bundle=bundle.read_text())
        tasks = set()
        try:
            async for message in control.messages():
                if message["kind"] == "answer":
                    control.answered(message)
                    continue
                task = asyncio.get_running_loop().create_task(self._do(control, message))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            await control.end()

    async def _do(self, control: Control, message: dict[str, Any]) -> None:
        number = message["session"]
        try:
            if message["kind"] == "open":
                said = {"port": await self._open(control, number, message)}
            else:
                await control.sessions.pop(number).end()
                said = {}
        except SetupError as error:
            control.tell(kind="done", session=number, error=str(error), setup=True)
        except Exception as error:
            control.tell(kind="done", session=number, error=f"{type(error).__name__}: {error}")
        else:
            control.tell(kind="done", session=number, **said)

    async def _open(self, control: Control, number: int, message: dict[str, Any]) -> int:
        def tell(event: Event) -> None:
            control.tell(
                kind="event",
                session=number,
                name=event.kind,
                at=time.monotonic(),
                connection=event.connection,
                exchange=event.exchange,
                data=event.data,
            )

        host, port = message["upstream"]
        plan = Plan(
            (host, port),
            Schedule.parse(message["rules"]),
            lambda *_: "",  # asked of the owner
            message["object_size"],
            message["listen_port"],
            tell,
        )
        session = MitmSession(asyncio.get_running_loop(), plan, self, control, number)
        control.sessions[number] = session
        return int(session.url.rpartition(":")[2])

    def _conversation(self, client: ClientConnection) -> Conversation | None:
        return self.conversations.get((client.peername, client.sockname))

    # --- TLS

    def tls_start_client(self, data: Any) -> None:
        if (found := self._conversation(data.conn)) and found.line:
            found.line.tls = True

    def tls_established_client(self, data: Any) -> None:
        found = self._conversation(data.conn)
        if not found or not found.line:
            return
        line = found.line
        layer = next(one for one in reversed(data.context.layers) if isinstance(one, ClientTLSLayer))

        def pending() -> bytes:
            out = b""
            with contextlib.suppress(SSL.WantReadError):
                while piece := layer.tls.bio_read(65535):
                    out += piece
            return out

        def encrypt(plain: bytes) -> bytes:
            with contextlib.suppress(SSL.ZeroReturnError, SSL.SysCallError):
                layer.tls.sendall(plain)
            return pending()

        def notify() -> bytes:
            with contextlib.suppress(SSL.Error):
                layer.tls.shutdown()
            return pending()

        def send_data(plain: bytes) -> Iterator[Any]:
            line.push(bytes(plain))
            if line.raw:
                for exchange in list(self.exchanges.values()):
                    if exchange.conversation is found and isinstance(exchange, Stream):
                        exchange.look()
            return iter(())

        line.encrypt, line.notify = encrypt, notify
        line.raw = data.conn.alpn == b"h2"
        layer.send_data = send_data

    def tls_failed_client(self, data: Any) -> None:
        found = self._conversation(data.conn)
        said = str(data.conn.error or "").lower()
        if found and ("certificate" in said or "unknown ca" in said or "trust" in said):
            found.note("upstream-failed", reason="the driver does not trust mitmproxy's certificate")

    # --- exchanges

    async def requestheaders(self, flow: Flow) -> None:
        found = self._conversation(flow.client_conn)
        if not found or not found.line:
            return
        made: type[Exchange] = Stream if flow.request.is_http2 else Exchange
        exchange = self.exchanges[flow.id] = made(self, found, found.line, flow)
        await exchange.begin()

    async def responseheaders(self, flow: Flow) -> None:
        if exchange := self.exchanges.get(flow.id):
            await exchange.head()

    async def response(self, flow: Flow) -> None:
        if exchange := self.exchanges.get(flow.id):
            await exchange.said_it_all()
            self.exchanges.pop(flow.id, None)

    def error(self, flow: Flow) -> None:
        if exchange := self.exchanges.pop(flow.id, None):
            exchange.failed(flow.error.msg if flow.error else "")

    def server_connected(self, data: Any) -> None:
        found = self._conversation(data.client)
        if found and found.case.schedule.changes_objects:
            # What the store has already sent is not changed by a change: let it send no more than it must.
            handler = ctx.master.addons.get("proxyserver").connections.get(data.client.id)
            sock = handler.transports[data.server].writer.get_extra_info("socket") if handler else None
            if sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)


def _text(pairs: Any) -> list[tuple[str, str]]:
    return [(n.decode("latin-1"), v.decode("latin-1")) for n, v in pairs]


def _bytes(pairs: list[tuple[str, str]]) -> http.Headers:
    return http.Headers([(n.encode("latin-1"), v.encode("latin-1")) for n, v in pairs])


class Exchange:
    """One request and its response, over HTTP/1.1."""

    http2 = False

    def __init__(self, addon: Midstream, conversation: Conversation, line: Line, flow: Flow) -> None:
        self.addon = addon
        self.conversation = conversation
        self.session = conversation.session
        self.case = conversation.case
        self.line = line
        self.flow = flow
        self.case.exchanges += 1
        self.number = self.case.exchanges
        self.method = str(flow.request.method)
        self.target = flow.request.data.path.decode("latin-1")
        self.operation = ""
        self.answer: Answer | None = None
        self.rewriter: PayloadRewriter | None = None

    def request_head(self) -> Head:
        request = self.flow.request
        line = f"{self.method} {self.target} {'HTTP/1.1' if self.http2 else request.http_version}"
        fields = _text(request.headers.fields)
        if self.http2:
            fields.insert(0, ("Host", request.authority))
        return Head(line, fields)

    async def begin(self) -> None:
        """The request has come: match it, and do what is to be done before the store sees it."""
        head = self.request_head()
        headers = {n.lower(): v for n, v in head.fields}
        self.operation = await self.session.control.ask(
            self.session.number, "operation", self.method, self.target, headers
        )
        self.line.note(
            "request",
            self.number,
            method=self.method,
            target=redact_target(self.target),
            operation=self.operation,
            fields=redact_fields(head.fields),
        )
        armed = self.case.schedule.request(self.method, self.target, self.operation)
        before = [a for a in armed if a.rule.at_request]
        armed = [a for a in armed if not a.rule.at_request]
        self.expect([a for a in armed if not a.rule.answers])
        try:
            head = await self.before_forwarding(before, head)
        except Over as over:
            self.left(str(over.args[0]))
            return
        answer = next((a for a in armed if a.rule.answers and self.case.schedule.fire(a)), None)
        if answer and answer.rule.answers:
            self.note_fault(answer)
            self.respond(answer.rule.answers, head)
        else:
            self.flow.request.stream = True

    def expect(self, armed: list[Armed]) -> None:
        """A response will come, with these rules in force."""
        for one in [a for a in armed if any(isinstance(v, ResetStream) for v in a.rule.fault.verbs())]:
            armed.remove(one)  # there are no streams here
            self.line.note("unfired", self.number, rule=one.index, spec=str(one.rule), why="elsewhere")
        self.answer = Answer(self.line, self.number, self.method, self.operation, armed)
        self.line.answers.append(self.answer)

    def left(self, how: str) -> None:
        """The connection was over before there was anything to forward."""
        if self.answer:
            self.answer.note_end(how)
        self.line.push(Step(self._over(how)))
        self.flow.kill()

    @staticmethod
    def _over(how: str) -> Callable[[], Any]:
        async def over() -> None:
            raise Over(how)

        return over

    def note_fault(self, one: Armed) -> None:
        self.line.note("fault", self.number, rule=one.index, spec=str(one.rule), wire=0, body=0, offset=None)

    async def before_forwarding(self, armed: list[Armed], head: Head) -> Head:
        """Fire what fires at the request. Raises Over."""
        for one in armed:
            edits = [v.edit for v in one.rule.fault.verbs() if isinstance(v, EditRequest)]
            edited = edits[0](head) if edits else None
            if (edits and edited is None) or not self.case.schedule.fire(one):
                self.line.note("unfired", self.number, rule=one.index, spec=str(one.rule), why="elsewhere")
                continue
            self.note_fault(one)
            if edited:
                head = edited
                self._edit(edited)
                continue
            for verb in one.rule.fault.verbs():
                await self.carry_out(verb)
        return head

    async def carry_out(self, verb: object) -> None:
        assert self.answer
        await self.answer.carry_out(verb)

    def _edit(self, head: Head) -> None:
        request = self.flow.request
        method, target = head.request
        request.data.method = method.encode("latin-1")
        request.data.path = target.encode("latin-1")
        hidden = {"host"} if self.http2 else set()
        request.headers = _bytes([(n, v) for n, v in head.fields if n.lower() not in hidden])

    def respond(self, answer: Respond, head: Head) -> None:
        """Answer in the store's place."""
        port = self.flow.client_conn.sockname[1]
        raw = canned(answer, close=wants_close(head), elsewhere=f"http://localhost:{port}{self.target}")
        made = parse_head(raw[: len(raw) - len(answer.body)])
        body = b"" if self.method == "HEAD" else answer.body
        if self.answer:
            self.answer.by = "injector"
            self.answer.expected = len(made.raw) + len(body)
        status, reason = _status_of(made.line)
        self.flow.response = http.Response(
            b"HTTP/1.1", status, reason, _bytes(made.fields), body, None, time.time(), time.time()
        )

    async def head(self) -> None:
        """The store's response has begun."""
        answer, response = self.answer, self.flow.response
        if not answer or answer.by != "store":
            return
        response.stream = True
        self.rewriter = answer.rewriter_for()
        if not self.rewriter:
            return
        self.change_head(self.rewriter)
        if self.rewriter.applied:
            answer.rewriter = self.rewriter
            response.stream = self._rewritten
        else:
            self.rewriter = None

    def change_head(self, rewriter: PayloadRewriter) -> None:
        response = self.flow.response
        line = f"{response.http_version} {response.status_code} {response.reason}".rstrip()
        if self.http2:
            line = f"HTTP/1.1 {response.status_code}"
        raw = rewriter.begin(Head(line, _text(response.headers.fields)))
        if raw is None:
            return
        # Not parsed as a head: what is folded is to stay folded.
        lines = re.split(rb"\r\n(?![ \t])", raw.removesuffix(b"\r\n\r\n"))
        status, reason = _status_of(lines[0].decode("latin-1"))
        response.status_code, response.data.reason = status, reason
        pairs = [line.partition(b":") for line in lines[1:]]
        response.headers = http.Headers([(n, v.removeprefix(b" ")) for n, _, v in pairs])

    def _rewritten(self, data: bytes) -> bytes:
        assert self.rewriter
        return self.rewriter.pass_on(data) if data else self.rewriter.rest()

    async def said_it_all(self) -> None:
        if self.answer and self.answer.rewriter:
            self.line.push(Done(self.answer))

    def failed(self, reason: str) -> None:
        self.line.push(Failed(self.answer, f"mitmproxy: {reason}"))


def _status_of(line: str) -> tuple[int, bytes]:
    found = re.match(r"HTTP/1\.[01] +(\d{3}) ?(.*)", line)
    return (int(found[1]), found[2].encode("latin-1")) if found else (502, b"")


class Stream(Exchange):
    """One request and its response, over HTTP/2: positions are those of payload bytes, and the head's."""

    http2 = True

    def expect(self, armed: list[Armed]) -> None:
        self.armed = armed
        self.by = "store"
        self.base: int | None = None
        self.sent = 0
        self.length: int | None = None
        self.total: int | None = None
        self.over = False  # nothing more is passed on
        self.noted = False
        self.gone = asyncio.Event()
        self.how = "open"
        self.due: Armed | None = None  # once everything before it has left
        self.rewriting: list[Armed] = []
        self.line.on_end.append(self.note_end)

    def left(self, how: str) -> None:
        self.note_end(how)
        super().left(how)

    async def carry_out(self, verb: object) -> None:
        match verb:
            case Close(ending):
                self.how = "cut"
                await self._end_line(ending)
            case Hold(seconds):
                self.how = "held"
                await self.line.hold(seconds)
                self.how = "open"
            case Mutate() | Kill():
                await self.line.act(verb)
            case ResetStream(code):
                self._reset(code)

    async def _end_line(self, ending: Ending) -> None:
        """End the connection behind everything queued; raises Over."""
        self.line.push(Step(partial(self.line.end, ending)))
        await self.line.drain()
        raise Over("cut")

    def respond(self, answer: Respond, head: Head) -> None:
        self.by = "injector"
        super().respond(answer, head)
        self.flow.response.headers.pop("connection", None)

    # --- the response

    async def head(self) -> None:
        response = self.flow.response
        if self.by == "store":
            self.rewriter = self._rewriter()
            if self.rewriter:
                self.change_head(self.rewriter)
                for name in ("transfer-encoding", "connection", "keep-alive"):
                    response.headers.pop(name, None)
                for one in list(self.rewriting):
                    self.note_fault(one)
        response.stream = self._pass_on
        self._describe(Head(f"HTTP/1.1 {response.status_code}", _text(response.headers.fields)))
        for one in [a for a in self.armed if self._at(a) == -1]:
            if self.case.schedule.fire(one):
                self.note_fault(one)
                try:
                    for verb in one.rule.fault.verbs():
                        await self.carry_out(verb)
                except Over as over:
                    self.left(str(over.args[0]))
                    return

    def _rewriter(self) -> PayloadRewriter | None:
        stand_in = Answer(self.line, self.number, self.method, self.operation, self.armed)
        stand_in.rewriting = self.rewriting
        return stand_in.rewriter_for()

    def _describe(self, head: Head) -> None:
        carries = self.operation == "get_object" and self.method == "GET" and self.by == "store"
        applied = self.rewriter is not None and self.rewriter.applied
        self.base = (
            self.rewriter.base if self.rewriter and applied else object_base(head, carries_object=carries)
        )
        declared = content_range(head.get("content-range"))
        text = head.get("content-length") or ""
        self.length = int(text) if text.isdigit() else None
        self.total = self.case.object_size
        if self.base is not None and self.total is None:
            self.total = declared.total if declared else self.length
        self.line.note(
            "response",
            self.number,
            status=head.status,
            fields=redact_fields(head.fields),
            base=self.base,
            length=self.length,
            framing="http/2",
            by=self.by,
        )

    def _at(self, one: Armed) -> int | None:
        """Where a rule fires: a payload byte, -1 for the head, the length (or for ever) for the end."""
        if one.fired or one.rule.rewrites:
            return None
        position: Position = one.rule.position.aim(self.total)
        match position.kind, position.value, position.delta:
            case "object", int() as offset, _:
                if self.base is None:
                    return None
                at = offset - self.base
                last = self.length if self.length is not None else 1 << 62
                return at if 0 <= at < last or (at == last and offset == self.total) else None
            case "body", int() as count, _:
                return count
            case "place", "head", 0:
                return -1
            case "place", "end", 0:
                return self.length if self.length is not None else 1 << 62
        return None

    def _pass_on(self, data: bytes) -> Iterator[bytes]:
        """What mitmproxy is to send for what the store sent; at the end of the payload, for nothing."""
        ends = not data
        if self.rewriter and self.rewriter.applied:
            data = self.rewriter.rest() if ends else self.rewriter.pass_on(data)
        while not self.over and not self.due:
            waiting = [(at, a.index, a) for a in self.armed if (at := self._at(a)) is not None and at >= 0]
            if ends and not data:
                waiting = [(min(at, self.sent), i, a) for at, i, a in waiting if self._is_end(a)] or waiting
            target, _, one = min(waiting, default=(1 << 62, 0, None))
            n = min(len(data), target - self.sent)
            if n:
                self.sent += n
                yield data[:n]
                data = data[n:]
            if one is None or self.sent < target or self.over:
                if not data:
                    return
                continue
            self.due = one
            self.look()

    @staticmethod
    def _is_end(one: Armed) -> bool:
        return (one.rule.position.kind, one.rule.position.value) == ("place", "end")

    def look(self) -> None:
        """Fire what is due, if nothing before it waits for the client's flow control."""
        if not self.due:
            return
        connection, stream = self._h2()
        if connection is None or connection.stream_buffers.get(stream):
            return
        one, self.due = self.due, None
        if not self.case.schedule.fire(one):
            one.fired = True
            return
        self.line.note(
            "fault",
            self.number,
            rule=one.index,
            spec=str(one.rule),
            wire=self.sent,
            body=self.sent,
            offset=None if self.base is None else self.base + self.sent,
        )
        for verb in one.rule.fault.verbs():
            self.over = True
            match verb:
                case ResetStream(code):
                    self._reset(code)
                case Close(ending):
                    self.how = "cut"
                    self.line.push(Step(partial(self.line.end, ending)))
                case Hold(None):
                    self.how = "held"
                case _:
                    what = type(verb).__name__.lower()
                    self.line.note(
                        "upstream-failed", self.number, reason=f"{one.rule}: no {what} inside HTTP/2"
                    )

    def _h2(self) -> tuple[Any, int]:
        """mitmproxy's side of the client's connection, and the number of this stream."""
        handler = ctx.master.addons.get("proxyserver").connections.get(self.flow.client_conn.id)
        layer = getattr(handler, "layer", None)
        while layer is not None and not isinstance(layer, HttpLayer):
            layer = getattr(layer, "layer", None) or getattr(layer, "child_layer", None)
        if layer is None:
            return None, 0
        number = next((n for n, s in layer.streams.items() if getattr(s, "flow", None) is self.flow), 0)
        return layer.connections[layer.context.client].h2_conn, number

    def _reset(self, code: int) -> None:
        connection, stream = self._h2()
        if connection is None or not stream:
            return
        self.over = True
        connection.reset_stream(stream, code)
        self.line.push(connection.data_to_send())
        self.note_end("cut")

    def note_end(self, how: str) -> None:
        if self.noted:
            return
        self.noted = True
        self.gone.set()
        with contextlib.suppress(ValueError):
            self.line.on_end.remove(self.note_end)
        end = how if self.how == "open" else self.how
        if end == "client-left":
            self.line.note("client-left", self.number)
        self.line.note("sent", self.number, wire=self.sent, body=self.sent, end=end)
        for one in self.armed:
            if not one.fired:
                self.line.note("unfired", self.number, rule=one.index, spec=str(one.rule), why="elsewhere")

    async def said_it_all(self) -> None:
        if self.how == "held":
            await self.gone.wait()  # its end would end the silence
        elif not self.over:
            self.sent += len(self.flow.response.raw_content or b"") if self.by == "injector" else 0
            self.line.push(Step(self._complete))

    async def _complete(self) -> None:
        self.note_end("complete")

    def failed(self, reason: str) -> None:
        if self.how == "held":
            self.note_end("held")
        elif self.over or "client" in reason.lower() or "reset" in reason.lower():
            self.note_end("client-left")
        else:
            self.line.note("note", self.number, text=f"mitmproxy: {reason}")
            self.note_end("store-ended" if self.case.mutated else "upstream-closed")
