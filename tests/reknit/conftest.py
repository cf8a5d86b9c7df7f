"""A loopback origin that says exactly the bytes it is told to, and ends exactly as it is told."""

from __future__ import annotations

import fcntl
import re
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from reknit import Options


@dataclass
class Say:
    """One response, byte for byte; `end` is fin, rst, hold (open and silent), keep (next request, same line),
    or notify (TLS: close_notify, then fin).
    """

    wire: bytes
    end: str = "fin"


@dataclass
class Origin:
    """`script` is played in order, one entry per request; what was asked is kept, heads only. `tls` wraps."""

    script: list[Say] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    then: Callable[[str], Say] | None = None
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._held: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def url(self, path: str = "/object") -> str:
        return f"http{'s' * bool(self.tls)}://127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        self._listener.close()
        for connection in self._held:
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        if self.tls is not None:
            try:
                # Its plain close sends no close_notify.
                connection = self.tls.wrap_socket(connection, server_side=True)
            except OSError:
                connection.close()
                return
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                try:
                    more = connection.recv(65536)
                except OSError:
                    more = b""
                if not more:
                    connection.close()
                    return
                head += more
            self.asked.append(head.decode("latin-1"))
            if self.script:
                say = self.script.pop(0)
            else:
                say = (
                    self.then(self.asked[-1])
                    if self.then
                    else Say(b"HTTP/1.1 500 Over\r\nContent-Length: 0\r\n\r\n")
                )
            try:
                connection.sendall(say.wire)
            except OSError:
                pass  # the client hung up first
            if say.end == "keep":
                continue
            if say.end == "notify":
                try:
                    connection = connection.unwrap()
                except OSError:
                    pass  # the client does not wait for it
            if say.end == "hold":
                self._held.append(connection)
                return
            if say.end == "rst":
                # A reset throws away what the kernel has not sent yet: wait until nothing is left.
                while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4))[0]:
                    time.sleep(0.0005)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            return


@pytest.fixture
def origin() -> Iterator[Origin]:
    """One origin, closed afterwards."""
    server = Origin()
    yield server
    server.close()


@pytest.fixture
def other_origin() -> Iterator[Origin]:
    """Another host, as far as RFC 9110 §4.3.1 goes."""
    server = Origin()
    yield server
    server.close()


@pytest.fixture
def say() -> type[Say]:
    """The way to write a response."""
    return Say


@pytest.fixture
def fast() -> Options:
    """Options that never sleep and soon give up on silence."""
    return Options(backoff_base=0, idle_timeout=5, connect_timeout=5, attempts=3)


@pytest.fixture
def whole() -> Callable[..., bytes]:
    """Write a correct answer to a request head: 200, or 206 when it has a Range."""

    def write(data: bytes, asked: str = "", *, etag: str = '"a"', extra: str = "") -> bytes:
        found = re.search(r"(?im)^range: bytes=(\d+)-(\d*)", asked)
        first = int(found[1]) if found else 0
        end = min(len(data), int(found[2]) + 1) if found and found[2] else len(data)
        part = data[first:end]
        status = "206 Partial Content" if found else "200 OK"
        span = f"Content-Range: bytes {first}-{end - 1}/{len(data)}\r\n" if found else ""
        tag = f"ETag: {etag}\r\n" if etag else ""
        return f"HTTP/1.1 {status}\r\nContent-Length: {len(part)}\r\n{tag}{span}{extra}\r\n".encode() + part

    return write
