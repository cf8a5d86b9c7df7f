"""TLS on the client's side of the relay, with the ends of a connection in plain sight.

A TLS connection ends in two ways at once: with or without close_notify, and by FIN or RST. The standard
library's socket hides the first, so this wraps it to the few calls the relay makes and says `BlockingIOError`
where TLS has to wait, as a plain socket does.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from midstream.injectors._sockets import wait


class TlsSocket:
    """A server-side TLS connection, non-blocking. `close` and `shutdown` send no close_notify.

    Until `handshake` it is the plain socket beneath: what ends before that ends without a byte of TLS.
    """

    def __init__(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = raw
        self._context = context
        self._peeked = b""

    async def handshake(self) -> None:
        """Raises OSError (ssl.SSLError among them) when the client does not agree."""
        self._sock = tls = self._context.wrap_socket(
            self._sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        while True:
            try:
                return tls.do_handshake()
            except ssl.SSLWantReadError:
                await wait(read=(tls,))
            except ssl.SSLWantWriteError:
                await wait(write=(tls,))

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not isinstance(self._sock, ssl.SSLSocket):
            return self._sock.recv(size, flags)
        if not self._peeked:
            try:
                self._peeked = self._sock.recv(max(size, 16384))
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
            return self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLError as error:
            raise ConnectionError(str(error)) from None

    async def notify(self) -> None:
        """Send close_notify (RFC 8446 section 6.1); the peer's is not waited for."""
        assert isinstance(self._sock, ssl.SSLSocket)
        while True:
            try:
                self._sock.unwrap()
            except ssl.SSLWantWriteError:  # the client reads slowly
                await wait(write=(self._sock,))
                continue
            except (OSError, ValueError):
                pass  # sent, and now it would wait for the peer's; or the peer has gone
            return

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)

    def close(self) -> None:
        self._sock.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    def getsockname(self) -> Any:
        return self._sock.getsockname()

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        self._sock.setsockopt(level, name, value)

    def getsockopt(self, level: int, name: int, buflen: int = 0) -> Any:
        return self._sock.getsockopt(level, name, buflen) if buflen else self._sock.getsockopt(level, name)
