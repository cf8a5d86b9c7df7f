"""The origin's HTTP/1.1: reading requests, writing answers, with flow control in both directions."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate

from midstream._wire import MAX_HEAD, Head, head_end, parse_head
from midstream.stores._origin_answer import REASONS, Answer, plain
from midstream.stores._origin_application import Application
from midstream.stores._origin_intake import Ignored, Intake, Later

AT_ONCE = 256 * 1024  # bodies up to here are written with their head
SLICE = 512 * 1024  # longer ones so much at a time, others having their turn in between
CHUNK = 16 * 1024
LINGER = 2.0  # seconds to take in what a refused client still sends, lest the reset destroy our answer
READ_AHEAD = 256 * 1024  # of pipelined requests, while a response is on its way
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BadRequest(Exception):
    """What came cannot be read; the connection ends with a 400."""


class RequestBody:
    """Takes a request's body off the wire: `length` bytes, or chunks when it is None.

    `data` is what has come; whoever takes it away clears it.
    """

    def __init__(self, length: int | None) -> None:
        self.data = bytearray()
        self.length = length
        self._left = length
        self._chunked = length is None

    def feed(self, buffer: bytearray) -> bool:
        """Move what belongs to the body out of `buffer`; whether it is complete."""
        while True:
            if self._left is not None:
                part = buffer[: self._left]
                del buffer[: self._left]
                self.data += part
                self._left -= len(part)
                if self._left or not self._chunked:
                    return not self._left
                self._left = None
            found = re.match(rb"(?:\r?\n)?([0-9a-fA-F]{1,12})[^\r\n]*\r?\n", buffer)
            if not found:
                if len(buffer) > 4096:
                    raise BadRequest("chunk size line")
                return False
            self._left = int(found[1], 16)
            if not self._left:
                end = re.compile(rb"(?:[^\r\n]+\r?\n)*\r?\n").match(buffer, found.end())
                if not end:
                    self._left = None
                    return False
                del buffer[: end.end()]
                return True
            del buffer[: found.end()]


def body_of(head: Head) -> RequestBody | None:
    """The body a request announces, if any (RFC 9112 6.3)."""
    coding, length = head.get("transfer-encoding"), head.get("content-length")
    if coding is not None:
        if coding.strip().lower() != "chunked" or length is not None:
            raise BadRequest("framing")
        return RequestBody(None)
    if length is None:
        return None
    if not re.fullmatch(r"\d{1,18}", length):
        raise BadRequest("Content-Length")
    return RequestBody(int(length)) if int(length) else None


class Connection(asyncio.Protocol):
    """One client: reads requests, writes their answers in order."""

    transport: asyncio.Transport

    def __init__(self, application: Application) -> None:
        self._application = application
        self._buffer = bytearray()
        self._head: Head | None = None  # of the request whose body is being read
        self._body = RequestBody(0)
        self._intake: Intake = Ignored(plain(400))  # what takes the body being read
        self._stream: Iterator[bytes] | None = None  # what is left of the response being written
        self._busy = False  # a response is being found or written
        self._full = False  # the client reads slower than we write
        self._last = False  # the connection ends after this response
        self._held = False  # reading is paused
        self._ended = False  # the client has sent all it will
        self._over = False  # the client has been refused: what it still sends is dropped

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=AT_ONCE)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end. Of a body that was being read, what has arrived is all there will be."""
        self._stream = None
        if self._head:
            self._take()
        self._head = None
        self._over = True

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._buffer += data
        self._advance()

    def eof_received(self) -> bool:
        """A client may send its last request and close its half; it still gets its answers."""
        self._ended = True
        return self._busy or self._full

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._stream:
            self._pump()
        else:
            self._advance()

    def _advance(self) -> None:
        """Answer the requests that have come, until one has to wait."""
        try:
            while self._buffer and not self._busy and not self._full and not self._last:
                if not self._next():
                    break
        except (BadRequest, ValueError, KeyError, TypeError) as error:
            self._send(plain(400, detail=type(error).__name__, close=True), "GET")
        hold = (self._busy or self._full) and len(self._buffer) > READ_AHEAD
        if hold != self._held and not self.transport.is_closing():
            self._held = hold
            (self.transport.pause_reading if hold else self.transport.resume_reading)()
        if self._ended and not self._busy and not self._full:
            self.transport.close()

    def _next(self) -> bool:
        """Take one step with the input; whether there may be another."""
        if self._head is None:
            if self._buffer.startswith((b"\r", b"\n")):  # RFC 9112 2.2
                del self._buffer[: 2 if self._buffer.startswith(b"\r\n") else 1]
                return True
            end = head_end(self._buffer)
            if max(end, len(self._buffer) if end < 0 else 0) > MAX_HEAD:
                self._send(plain(431, close=True), "GET")
                return False
            if end < 0:
                return False
            head = parse_head(bytes(self._buffer[:end]))
            del self._buffer[:end]
            if not self._begin(head):
                return True
        assert self._head
        complete = self._body.feed(self._buffer)
        self._take()
        if not complete:
            return False
        head, self._head = self._head, None
        self._answer(head, self._intake.finish())
        return True

    def _yield(self) -> None:
        """End the request whose body is being read: a later one has taken its upload over.

        With an answer, so that nobody takes it for a failure of the server's.
        """
        head, self._head = self._head, None
        if head and not self.transport.is_closing():
            answer = plain(409, detail="a later request has taken the upload over", close=True)
            self._send(answer, head.request[0])

    def _take(self) -> None:
        if self._body.data:
            self._intake.take(bytes(self._body.data))
            self._body.data.clear()

    def _begin(self, head: Head) -> bool:
        """A head is complete; whether a body has to be read."""
        if not re.fullmatch(r"[!-~]+ [!-~]+ HTTP/1\.[01]", head.line):
            known = re.fullmatch(r"[!-~]+ [!-~]+ HTTP/\d\.\d", head.line)
            self._send(plain(505 if known else 400, close=True), "GET")
            return False
        body = body_of(head)
        found = self._application.intake(head, body.length if body else 0)
        if not body:
            if not isinstance(found, Answer) and found.interim:
                self.transport.write(render_interim(found.interim))
            self._answer(head, found if isinstance(found, Answer) else found.finish())
            return False
        expects = (head.get("expect") or "").lower() == "100-continue" and head.line.endswith("1.1")
        if isinstance(found, Answer):
            if expects:  # the final answer, to a body not worth waiting for (RFC 9110 10.1.1)
                self._send(replace(found, close=True), head.request[0])
                return False
            found = Ignored(found)
        if found.interim:
            self.transport.write(render_interim(found.interim))
        if expects and not self._buffer:
            self.transport.write(CONTINUE)
        found.abort_by(self._yield)
        self._head, self._body, self._intake = head, body, found
        return True

    def _answer(self, head: Head, found: Answer | Later) -> None:
        connection = (head.get("connection") or "").lower()
        old = head.line.endswith("1.0")
        self._last = "close" in connection or (old and "keep-alive" not in connection)
        if isinstance(found, Answer):
            self._send(found, head.request[0], old)
            return
        self._busy = True
        future = asyncio.get_running_loop().run_in_executor(None, found)
        future.add_done_callback(lambda done: self._found(done, head, old))

    def _found(self, done: asyncio.Future[Answer], head: Head, old: bool) -> None:
        self._busy = False
        error = done.exception()
        answer = plain(400, detail=str(error), close=True) if error else done.result()
        if not self.transport.is_closing():
            self._send(answer, head.request[0], old)
            self._advance()

    def _send(self, answer: Answer, method: str, old: bool = False) -> None:
        framing = answer.item.traits.framing if answer.item else "length"
        if framing == "chunked" and old:
            framing = "close"
        self._last = self._last or answer.close or framing == "close"
        head = render(answer, framing, "close" if self._last else "keep-alive" if old else "")
        item, length = answer.item, answer.length
        if not item:
            self.transport.write(head + answer.text if method != "HEAD" else head)
        elif method == "HEAD" or not length:
            ends = framing == "chunked" and method != "HEAD"
            self.transport.write(head + b"0\r\n\r\n" if ends else head)
        elif framing == "length" and length <= AT_ONCE:
            data = item.read(answer.first, length)
            self.transport.write(head + data)
            if len(data) < length:
                self.transport.abort()
        else:
            self.transport.write(head)
            self._stream = body_stream(answer, framing)
            self._busy = True
            self._pump()
        if answer.close:
            self._refuse()
        elif self._last and not self._busy:
            self.transport.close()

    def _refuse(self) -> None:
        """End the connection in the way of RFC 9112 9.6, for the client may be in the middle of sending."""
        self._over = True
        self._buffer.clear()
        if self._ended:
            self.transport.close()
            return
        try:
            self.transport.write_eof()
        except OSError:  # reset meanwhile; the request of another connection may stand above us, and goes on
            self.transport.abort()
            return
        asyncio.get_running_loop().call_later(LINGER, self.transport.close)

    def _pump(self) -> None:
        if not self._stream or self._full:
            return
        try:
            data = next(self._stream, None)
        except OSError:  # a file has become shorter: the response cannot be completed
            self.transport.abort()
            return
        if data is not None:
            self.transport.write(data)
            if not self._full:
                asyncio.get_running_loop().call_soon(self._pump)
            return
        self._stream = None
        self._busy = False
        if self._last:
            self.transport.close()
        else:
            self._advance()


def render_interim(answer: Answer) -> bytes:
    """A 1xx response: a head, and nothing after it."""
    lines = [f"HTTP/1.1 {answer.status} {REASONS[answer.status]}"]
    lines += [f"{name}: {value}" for name, value in answer.fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def render(answer: Answer, framing: str, connection: str) -> bytes:
    """The head of a response."""
    lines = [
        f"HTTP/1.1 {answer.status} {REASONS[answer.status]}",
        f"Date: {_date(int(time.time()))}",
        "Server: midstream-origin",
    ]
    lines += [f"{name}: {value}" for name, value in answer.fields]
    if answer.status not in (204, 304):
        if framing == "chunked":
            lines.append("Transfer-Encoding: chunked")
        elif framing == "length":
            lines.append(f"Content-Length: {answer.length if answer.item else len(answer.text)}")
    if connection:
        lines.append(f"Connection: {connection}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


_dates: dict[int, str] = {}


def _date(now: int) -> str:
    if now not in _dates:
        _dates.clear()
        _dates[now] = formatdate(now, usegmt=True)
    return _dates[now]


def body_stream(answer: Answer, framing: str) -> Iterator[bytes]:
    """The framed body of a response, a slice at a time; raises OSError when the object falls short."""
    assert answer.item
    end = answer.first + answer.length
    for start in range(answer.first, end, SLICE):
        length = min(SLICE, end - start)
        data = answer.item.read(start, length)
        if len(data) < length:
            raise OSError("short read")
        if framing == "chunked":
            parts = [data[i : i + CHUNK] for i in range(0, length, CHUNK)]
            data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        yield data
    if framing == "chunked":
        yield b"0\r\n\r\n"
