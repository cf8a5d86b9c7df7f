"""The origin's process: HTTP/1.1 over asyncio, keep-alive and pipelining.

    python -m midstream.stores._origin_server [--port 0] [--dir FOLDER]

Prints one line of JSON, {"port", "control"}, when it listens. Below the `control` path, which only the reader
of that line knows, objects are made and looked at: POST put, delete; GET stat, read, keys.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qs, unquote

from midstream._content import Content
from midstream._processes import announce, guard
from midstream._wire import MAX_HEAD, Head, head_end, parse_head
from midstream.stores import Traits
from midstream.stores._origin_answer import REASONS, Answer, Item, plain, precondition, respond
from midstream.stores._origin_objects import SMALL, Objects, generated, uploaded

AT_ONCE = 256 * 1024  # bodies up to here are written with their head
SLICE = 512 * 1024  # longer ones so much at a time, others having their turn in between
CHUNK = 16 * 1024
READ_AHEAD = 256 * 1024  # of pipelined requests, while a response is on its way
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BadRequest(Exception):
    """What came cannot be read; the connection ends with a 400."""


class RequestBody:
    """Takes a request's body off the wire: `length` bytes, or chunks when it is None."""

    def __init__(self, length: int | None) -> None:
        self.data = bytearray()
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


class Application:
    """Which answer a request gets; knows nothing of connections."""

    def __init__(self, objects: Objects, control: str) -> None:
        self.objects = objects
        self.control = control

    def refuses(self, head: Head) -> Answer | None:
        """The final answer to a request whose body is not worth waiting for (RFC 9110 10.1.1)."""
        method, target = head.request
        if method != "PUT" or target.startswith(self.control):
            return None
        failed = precondition(method, self.objects.get(key_of(target)), head)
        return plain(failed, close=True) if failed else None

    def answer(self, head: Head, body: bytes) -> Answer | Callable[[], Answer]:
        """The answer, or a function that takes long to find it."""
        method, target = head.request
        if target.startswith(self.control):
            return self._control(method, target[len(self.control) :], body)
        key = key_of(target)
        if method in ("GET", "HEAD"):
            return respond(method, self.objects.get(key), head, time.time())
        if method == "PUT" and key:
            failed = precondition(method, self.objects.get(key), head)
            return plain(failed) if failed else self._maybe_long(len(body), self._upload, key, body)
        if method == "DELETE" and key:
            return plain(204 if self.objects.delete(key) else 404)
        return plain(405, ("Allow", "GET, HEAD, PUT, DELETE"))

    def _maybe_long(
        self, size: int, make: Callable[..., Answer], *arguments: object
    ) -> Answer | Callable[[], Answer]:
        return (lambda: make(*arguments)) if size > SMALL else make(*arguments)

    def _upload(self, key: str, body: bytes) -> Answer:
        item = uploaded(body)
        replaced = self.objects.put(key, item)
        return plain(204 if replaced else 201, ("ETag", item.etag or ""))

    def _control(self, method: str, target: str, body: bytes) -> Answer | Callable[[], Answer]:
        name, _, query = target.lstrip("/").partition("?")
        values = {k: v[0] for k, v in parse_qs(query, keep_blank_values=True).items()}
        if method == "POST" and name == "put":
            order = json.loads(body)
            content = Content(order["size"], order["seed"], order["generation"])
            return self._maybe_long(content.size, self._generate, order["key"], content, order["traits"])
        if method == "POST" and name == "delete":
            return plain(204 if self.objects.delete(json.loads(body)["key"]) else 404)
        if method == "GET" and name == "keys":
            return Answer(200, text=json.dumps(self.objects.keys()).encode())
        item = self.objects.get(values.get("key", ""))
        if method != "GET" or name not in ("stat", "read") or not item:
            return plain(404)
        if name == "stat":
            return Answer(200, text=json.dumps({"size": item.size, "etag": item.etag}).encode())
        first = min(int(values["start"]), item.size)
        length = min(int(values.get("length", item.size)), item.size - first)
        return Answer(200, [], Item(item.size, item.tag, 0, item.read), first, length)

    def _generate(self, key: str, content: Content, traits: dict[str, str | bool]) -> Answer:
        self.objects.put(key, generated(content, Traits(**traits)))  # type: ignore[arg-type]
        return plain(204)


def key_of(target: str) -> str:
    """The key a request target names; absolute-form (RFC 9112 3.2.2) is taken too."""
    path = target.partition("?")[0]
    if not path.startswith("/") and "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    return unquote(path[1:])


class Connection(asyncio.Protocol):
    """One client: reads requests, writes their answers in order."""

    transport: asyncio.Transport

    def __init__(self, application: Application) -> None:
        self._application = application
        self._buffer = bytearray()
        self._head: Head | None = None  # of the request whose body is being read
        self._body = RequestBody(0)
        self._stream: Iterator[bytes] | None = None  # what is left of the response being written
        self._busy = False  # a response is being found or written
        self._full = False  # the client reads slower than we write
        self._last = False  # the connection ends after this response
        self._held = False  # reading is paused
        self._ended = False  # the client has sent all it will

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=AT_ONCE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stream = None

    def data_received(self, data: bytes) -> None:
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
            if end < 0:
                if len(self._buffer) > MAX_HEAD:
                    self._send(plain(431, close=True), "GET")
                return False
            head = parse_head(bytes(self._buffer[:end]))
            del self._buffer[:end]
            if not self._begin(head):
                return True
        assert self._head
        if not self._body.feed(self._buffer):
            return False
        head, self._head = self._head, None
        self._answer(head, bytes(self._body.data))
        return True

    def _begin(self, head: Head) -> bool:
        """A head is complete; whether a body has to be read."""
        if not re.fullmatch(r"[!-~]+ [!-~]+ HTTP/1\.[01]", head.line):
            known = re.fullmatch(r"[!-~]+ [!-~]+ HTTP/\d\.\d", head.line)
            self._send(plain(505 if known else 400, close=True), "GET")
            return False
        body = body_of(head)
        if not body:
            self._answer(head, b"")
            return False
        if (head.get("expect") or "").lower() == "100-continue" and head.line.endswith("1.1"):
            if refusal := self._application.refuses(head):
                self._send(refusal, head.request[0])
                return False
            if not self._buffer:
                self.transport.write(CONTINUE)
        self._head, self._body = head, body
        return True

    def _answer(self, head: Head, body: bytes) -> None:
        connection = (head.get("connection") or "").lower()
        old = head.line.endswith("1.0")
        self._last = "close" in connection or (old and "keep-alive" not in connection)
        found = self._application.answer(head, body)
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
        head = render(answer, framing, self._last)
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
        if self._last and not self._busy:
            self.transport.close()

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


def render(answer: Answer, framing: str, last: bool) -> bytes:
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
    if last:
        lines.append("Connection: close")
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


async def serve(port: int, root: Path | None) -> None:
    control = f"/_control/{secrets.token_hex(8)}"
    application = Application(Objects(root), control)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(application), "127.0.0.1", port, backlog=512)
    announce(port=server.sockets[0].getsockname()[1], control=control)
    gc.freeze()
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m midstream.stores._origin_server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dir", type=Path, help="serve the files below this folder")
    parser.add_argument("--owned", type=Path, metavar="FOLDER", help="end with stdin, and remove FOLDER then")
    options = parser.parse_args()
    guard(options.owned is not None, options.owned)
    try:
        asyncio.run(serve(options.port, options.dir))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
