"""A gateway on loopback, and a way to speak to it byte for byte."""

from __future__ import annotations

import http.client
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from reknit import Options
from reknit.gateway import Gateway


@dataclass
class Front:
    """A running gateway; `log` is what it says of each request, once that is over."""

    server: Gateway
    log: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)

    def line(self) -> str:
        """The next line of the log."""
        return self.log.get(timeout=30)

    def get(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own; names in lower case, `_` for `-`."""
        connection = http.client.HTTPConnection(*self.server.server_address[:2], timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, headers=named)
            answer = connection.getresponse()
            return answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """A connection to write to as one likes."""
        return socket.create_connection(self.server.server_address[:2], timeout=30)

    def say(self, request: bytes) -> tuple[bytes, BaseException | None]:
        """Everything that comes back until the connection ends, and the error that ended it, if one did."""
        came = b""
        with self.connect() as line:
            line.sendall(request)
            try:
                while data := line.recv(1 << 16):
                    came += data
            except OSError as error:
                return came, error
        return came, None


@pytest.fixture
def front() -> Iterator[Callable[..., Front]]:
    """Start gateways before a store URL; they end with the test."""
    running: list[Gateway] = []

    def start(store: str, options: Options | None = None, **more: Any) -> Front:
        log: queue.SimpleQueue[str] = queue.SimpleQueue()
        server = Gateway(store, options or Options(), log=log.put, **more)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return Front(server, log)

    yield start
    for server in running:
        server.shutdown()
        server.server_close()
