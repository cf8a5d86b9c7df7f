"""TLS on the client's side of the relay, with the ends of a connection in plain sight.

A TLS connection ends in two ways at once: with or without close_notify, and by FIN or RST. The standard
library's socket hides the first, so this wraps it to the few calls the relay makes and says `BlockingIOError`
where TLS has to wait, as a plain socket does.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any

from midstream.injectors._sockets import wait


class TlsSocket:
    """A server-side TLS connection, non-blocking. `close` and `shutdown` send no close_notify."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        self._tls = context.wrap_socket(
            raw, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        self._peeked = b""

    async def handshake(self) -> None:
        """Raises ssl.SSLError or ConnectionError when the client does not agree."""
        while True:
            try:
                return self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await wait(read=(self._tls,))
            except ssl.SSLWantWriteError:
                await wait(write=(self._tls,))

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self._peeked:
            try:
                self._peeked = self._tls.recv(max(size, 16384))
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise BlockingIOError from None
            except ssl.SSLError as error:
                raise ConnectionError(str(error)) from None
        data = self._peeked[:size]
        if not flags & socket.MSG_PEEK:
            self._peeked = self._peeked[size:]
        return data

    def send(self, data: bytes | bytearray | memoryview) -> int:
        try:
            return self._tls.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLError as error:
            raise ConnectionError(str(error)) from None

    def notify(self) -> None:
        """Send close_notify (RFC 8446 section 6.1); the peer's is not waited for."""
        with contextlib.suppress(ssl.SSLError, OSError, ValueError):
            self._tls.unwrap()

    def shutdown(self, how: int) -> None:
        self._tls.shutdown(how)

    def close(self) -> None:
        self._tls.close()

    def fileno(self) -> int:
        return self._tls.fileno()

    def getsockname(self) -> Any:
        return self._tls.getsockname()

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        self._tls.setsockopt(level, name, value)

    def getsockopt(self, level: int, name: int, buflen: int = 0) -> Any:
        return self._tls.getsockopt(level, name, buflen) if buflen else self._tls.getsockopt(level, name)
