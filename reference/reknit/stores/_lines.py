"""HTTP for uploads: bodies that are sent, answers that are read whole, and connections that are kept.

A kept connection may be closed by the peer just as we write on it (RFC 9112 §9.3.1). One that is seen to be
closed is not used again; the rest looks like a drop, and the machine asks again.

A large body is sent once the server has said that it wants it (RFC 9110 §10.1.1): what is refused for its
head, by 403 or 507 say, costs no body. A server that says nothing to that gets the body all the same, and is
not waited for again.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from reknit._errors import CallerError, ReknitError, StoreFault
from reknit._options import Options
from reknit._upload_events import Told
from reknit.stores._uploader import Body
from reknit.stores._wire import FinalResponse, as_fault, connect, merged, prepare, same_origin

# Bodies from this size on are announced; a smaller one is sooner sent than asked about.
_ANNOUNCED = 1 << 20
# curl waits as long for the 100.
_PATIENCE = 1.0
# What is handed to the kernel between two looks at whether the server has said something.
_CHUNK = 256 << 10
# A listing of a thousand parts takes some 300 KB; anything much larger is not an answer to us.
_ANSWER = 8 << 20
# RFC 9110 §15.4.8, §15.4.9: the redirects that keep the method and the content.
_REDIRECTS = frozenset({307, 308})


class Got(NamedTuple):
    """An answer, read to its end. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def told(self, **also: Any) -> Told:
        """In the words of the machine."""
        return Told(**{"status": self.status, "headers": self.headers, "now": time.time(), **also})


class _Listening(FinalResponse):
    """Can be read before the request is out: a server may answer early, and stop reading (RFC 9112 §9.5)."""

    early: tuple[str, int, str] | None = None

    def hear(self) -> bool:
        """Read one head that has come; whether it is the final one (RFC 9110 §15.2)."""
        version, status, reason = http.client.HTTPResponse._read_status(self)  # type: ignore[attr-defined]
        if 100 <= status < 200:
            http.client.parse_headers(self.fp)
            return False
        self.early = version, status, reason
        return True

    def hear_first(self, sock: Any) -> bool | None:
        """What it says to the head alone: whether that is final; None when it says nothing for a while."""
        usual = sock.gettimeout()
        sock.settimeout(_PATIENCE)
        try:
            # Not by way of our file, which is of no more use once it has timed out.
            word = sock.recv(1)
        except TimeoutError:
            return None
        finally:
            sock.settimeout(usual)
        file: Any = self.fp
        self.fp = io.BufferedReader(_Ahead(word, file.detach()))
        return self.hear()

    def _read_status(self) -> tuple[str, int, str]:
        return self.early or super()._read_status()


class _Ahead(io.RawIOBase):
    """A connection's bytes, of which the first was taken off before."""

    def __init__(self, word: bytes, rest: io.RawIOBase) -> None:
        self._word, self._rest = word, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if not self._word:
            return self._rest.readinto(buffer)
        buffer[:1], self._word = self._word, b""
        return 1

    def close(self) -> None:
        super().close()
        self._rest.close()


class Lines:
    """The connections of one upload. Threads may ask at the same time: each has a connection to itself."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._idle: dict[str, list[http.client.HTTPConnection]] = {}
        self._busy: set[http.client.HTTPConnection] = set()
        self._closed = False
        self._silent: set[str] = set()  # the origins that have no word for an announced body

    def ask(
        self,
        method: str,
        url: str,
        ours: Mapping[str, str],
        private: Mapping[str, str] | None = None,
        body: Body | None = None,
        *,
        hops: int = 0,
    ) -> Got:
        """One request with `body`, up to `hops` redirects followed. `private` headers go to the origin of
        `url` only. Raises StoreFault, CallerError, and SourceError from the body."""
        public = {"User-Agent": "reknit", "Accept": "*/*"}
        ours = {**ours, "Accept-Encoding": "identity"}
        if body is not None or method not in ("GET", "HEAD", "DELETE"):
            ours["Content-Length"] = str(body.size if body else 0)
        headers = merged(public, private or {}, ours)
        for left in range(hops, -1, -1):
            got = self._once(method, url, headers, body)
            target = urljoin(url, got.headers.get("location", ""))
            on = got.status in _REDIRECTS and "location" in got.headers and left
            if not on or urlsplit(target).scheme not in ("http", "https"):
                return got
            if not same_origin(url, target):
                headers = merged(public, ours)
            url = target
        raise AssertionError("the last redirect is returned")

    def close(self) -> None:
        """Drop every connection: a thread that waits on one gets a StoreFault."""
        with self._lock:
            self._closed = True
            busy, idle = list(self._busy), [one for kept in self._idle.values() for one in kept]
            self._idle.clear()
        for connection in busy:
            with contextlib.suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        for connection in idle:
            connection.close()

    def _once(self, method: str, url: str, headers: dict[str, tuple[str, str]], body: Body | None) -> Got:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        announced = body is not None and body.size >= _ANNOUNCED and origin not in self._silent
        head = headers | merged({"Expect": "100-continue"}) if announced else headers
        connection = prepare(method, url, head, self._options, self._kept(origin))
        with self._lock:
            self._busy.add(connection)
        try:
            if connection.sock is None:
                connect(connection)
            if self._closed:
                raise StoreFault("reset", "reset: the upload was given up")
            connection.sock.settimeout(self._options.idle_timeout)
            silent = partial(self._silent.add, origin) if announced else None
            got, reusable = _converse(connection, method, body, silent)
        except BaseException as error:
            self._release(connection, None)
            if isinstance(error, Exception) and not isinstance(error, (StoreFault, ReknitError)):
                raise as_fault(error) from error
            raise
        self._release(connection, origin if reusable else None)
        if announced and got.status == 417:
            self._silent.add(origin)
            return self._once(method, url, headers, body)
        return got

    def _kept(self, origin: str) -> http.client.HTTPConnection | None:
        while True:
            with self._lock:
                kept = self._idle.get(origin)
                connection = kept.pop() if kept else None
            if connection is None or not select.select([connection.sock], [], [], 0)[0]:
                return connection
            connection.close()

    def _release(self, connection: http.client.HTTPConnection, origin: str | None) -> None:
        with self._lock:
            self._busy.discard(connection)
            if origin is not None and not self._closed:
                self._idle.setdefault(origin, []).append(connection)
                return
        connection.close()


def _converse(
    connection: http.client.HTTPConnection, method: str, body: Body | None, silent: Callable[[], None] | None
) -> tuple[Got, bool]:
    """Send the request, read the answer; whether the connection may be used again. With `silent`, the body is
    announced, and that is called when nothing is said to it."""
    answer = _Listening(connection.sock, method=method)
    connection.response_class = lambda *_, **__: answer  # type: ignore[assignment]
    connection.endheaders()
    if body is not None:
        try:
            first = answer.hear_first(connection.sock) if silent else False
            if silent and first is None:
                silent()
            if not first:
                _pour(connection.sock, answer, body)
        except (TimeoutError, ReknitError):
            raise
        except OSError as error:
            # It stopped reading; what it said before that is in our kernel, and says why.
            try:
                answer.early or answer.hear()
            except Exception:
                raise error from None
    cut_off = answer.early is not None
    connection.getresponse()
    if cut_off and answer.status < 300:
        raise StoreFault("protocol", f"protocol: {answer.status} before the whole of the request was sent")
    content = answer.read(_ANSWER)
    reusable = answer.isclosed() and not answer.will_close and not cut_off
    head: dict[str, str] = {}
    for name, value in answer.getheaders():
        name = name.lower()
        head[name] = f"{head[name]}, {value}" if name in head else value
    return Got(answer.status, head, content), reusable


def _pour(sock: Any, answer: _Listening, body: Body) -> None:
    """Send the body; stop when a final answer comes before its end."""
    # Over TLS, bytes that came are not told from records that say nothing (RFC 8446 §4.6): there, an early
    # answer is read once sending fails.
    watch = None if isinstance(sock, ssl.SSLSocket) else select.poll()
    if watch is not None:
        watch.register(sock, select.POLLIN | select.POLLOUT)
    wait = sock.gettimeout() * 1000
    sent = 0
    for block in body.blocks():
        at = 0
        while at < len(block):
            if watch is not None:
                ready = watch.poll(wait)
                if not ready:
                    raise TimeoutError("timed out while sending")
                if ready[0][1] & ~select.POLLOUT and answer.hear():
                    return
                if not ready[0][1] & select.POLLOUT:
                    continue
            at += sock.send(block[at : at + _CHUNK])
        sent += at
    if sent != body.size:
        raise CallerError(f"a body of {body.size} bytes gave {sent}")
