"""The listening side: one thread for each connection, so that a slow reader holds nobody but itself."""

from __future__ import annotations

import signal
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from reknit import stores
from reknit._errors import CallerError
from reknit._options import Options
from reknit.gateway._handler import Handler
from reknit.gateway._spool import Uploads
from reknit.gateway._target import BadTarget, is_local, is_named, prefix_of, url_of
from reknit.gateway._writer import Writer

# Each holds one buffer of `Options.buffer` and a connection to the store.
CONNECTIONS = 128
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


class Gateway(socketserver.ThreadingTCPServer):
    """Serves the objects below `store`, a URL of a prefix. Listens when made; `serve_forever`, `shutdown`.

    `writable` lets clients put objects. Where it listens for this machine alone, other hosts than that
    are refused by their Host field, but for those in `hosts`.

    Raises CallerError for a URL or setting that cannot work and OSError when it cannot listen. `log` is given
    a line for each request, without secrets.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    handler: type[Handler] = Handler

    def __init__(
        self,
        store: str,
        options: Options | None = None,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        *,
        writable: bool = False,
        hosts: Iterable[str] = (),
        connections: int = CONNECTIONS,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._prefix, self.options, self.log = prefix_of(store), options or Options(), log
        stores.open_store(url_of(self._prefix, "name"), self.options)
        parts = urlsplit(self._prefix)
        self._folder = Path(unquote(parts.path)).resolve() if parts.scheme == "file" else None
        self._open = not is_local(listen[0])
        self._hosts = frozenset(host.lower() for host in hosts)
        self._room = threading.BoundedSemaphore(connections)
        if ":" in listen[0]:
            self.address_family = socket.AF_INET6
        self.uploads = Uploads()
        super().__init__(listen, Writer if writable else self.handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        return f"http://{f'[{host!s}]' if self.address_family == socket.AF_INET6 else host!s}:{port}/"

    def locate(self, key: str) -> str:
        """The URL of the object called `key`. Raises BadTarget for a link that leads out of a folder."""
        url = url_of(self._prefix, key)
        if self._folder is not None and not (self._folder / key).resolve().is_relative_to(self._folder):
            raise BadTarget(404, "there is no such object")
        return url

    def is_meant(self, host: str) -> bool:
        """See Serving."""
        return self._open or is_named(host, self._hosts)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection if there is room for one more: what is held for each is what bounds memory."""
        if not self._room.acquire(blocking=False):
            request.sendall(_BUSY)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def shutdown_request(self, request: Any) -> None:
        """End a connection as it asks for: an orderly shutdown would tell that the body was whole."""
        if struct.unpack("ii", request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))[0]:
            request.close()
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no news; anything else is a bug, and said in one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.log(f"internal error: {type(error).__name__}: {error}")


def address(text: str, *, allow_remote: bool) -> tuple[str, int]:
    """Read HOST:PORT. Raises CallerError, also for other hosts than this one unless they are allowed."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise CallerError(f"--listen {text!r}: not HOST:PORT")
    if not is_local(host) and not allow_remote:
        raise CallerError(f"--listen {text!r}: not an address of this machine alone; add --allow-remote")
    return host, int(port)


def until_told(server: Gateway, ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called once both are heeded."""
    # Held back, and waited for: a handler that sets an event hangs if the thread it interrupts is about to
    # wait for it. Threads started from here on hold them back as well.
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    threading.Thread(target=server.serve_forever, name="gateway", daemon=True).start()
    ready()
    signal.sigwait(ends)
    server.shutdown()
    server.server_close()
