"""HTTP for the stores that speak it: one connection and one try per call, every failure named.

On http.client, for what the libraries above it add is what a resumable client must switch off: pools,
retries, decoding, cookies, .netrc. A kept connection may be closed by the peer just as we write on it
(RFC 9112 §9.3.1), which would look like a failure of the store, so each serves one request.
"""

from __future__ import annotations

import base64
import http.client
import io
import os
import socket
import ssl
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from reknit._errors import CallerError, StoreFault
from reknit._options import Options
from reknit._ranges import range_header

# RFC 9110 §15.4: the redirects a GET may follow as it is. curl stops at 50, browsers at 20, requests at 30.
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 10
_MAX_INTERIM = 100
_PORTS = {"http": 80, "https": 443}


class FinalResponse(http.client.HTTPResponse):
    """Reads on until the status is final (RFC 9110 §15.2): http.client takes 102 and 103 for the answer."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MAX_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 101 < status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("interim responses without end")


class _WholeLines:
    """Refuses a chunk-size line that the connection's end cut short.

    http.client takes "0" out of a cut "00ff" CRLF for the last chunk, and so a cut body for a whole one
    (RFC 9112 §7.1: a chunk-size ends with CRLF).
    """

    def __init__(self, fp: Any) -> None:
        self._fp = fp

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self._fp.readline(limit)
        if line and not line.endswith(b"\n"):
            raise http.client.IncompleteRead(line)
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fp, name)


class HttpResponse:
    """The head of an answer, and its body raw: undecoded, as framed, as it comes."""

    def __init__(self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> None:
        self._connection, self._answer = connection, answer
        self.status = answer.status
        head: dict[str, str] = {}
        for name, value in answer.getheaders():
            name = name.lower()
            head[name] = f"{head[name]}, {value}" if name in head else value
        self.headers: Mapping[str, str] = head
        self._plain: Any = None if answer.chunked else answer.fp
        if answer.chunked:
            answer.fp = _WholeLines(answer.fp)  # type: ignore[assignment]
        self._buffers, self._drained = (bytearray(), bytearray()), False

    def read(self, limit: int) -> bytes | memoryview:
        """See Response.read. One system call at most, so that nothing received is lost to a later error.

        A body that is not chunked is read below http.client, which would only count the bytes, as the machine
        does anyway.
        """
        try:
            return self._answer.read1(limit) if self._plain is None else self._read_plain(limit)
        except Exception as error:
            raise as_fault(error) from error

    def _read_plain(self, limit: int) -> bytes | memoryview:
        # Into two buffers by turns: a new megabyte for each read costs as much as the rest. But readinto1
        # goes on to the socket after what its own buffer held, and an error there loses that: read1 empties
        # it first.
        if not self._drained or limit <= io.DEFAULT_BUFFER_SIZE:
            data: bytes = self._plain.read1(limit)
            self._drained = self._drained or len(data) < limit
            return data
        last, buffer = self._buffers
        if len(buffer) < limit:
            buffer = bytearray(limit)
        self._buffers = buffer, last
        view = memoryview(buffer)
        return view[: self._plain.readinto1(view[:limit])]

    def close(self) -> None:
        """Close the connection, too."""
        for one in (self._answer, self._connection):
            try:
                one.close()
            except (OSError, http.client.HTTPException):
                pass


def ask(
    method: str,
    url: str,
    options: Options,
    ours: Mapping[str, str],
    private: Mapping[str, str] | None = None,
    *,
    hops: int = _MAX_REDIRECTS,
) -> HttpResponse:
    """One request, up to `hops` redirects followed. `private` headers go to the origin of `url` only.

    `Accept-Encoding: identity` on every one: ranges count the bytes of the selected, coded representation
    (RFC 9110 §14.1.2), so all answers must be of the same, uncoded one. Raises StoreFault, and CallerError
    for a URL that cannot be asked.
    """
    public = {"User-Agent": "reknit", "Accept": "*/*"}
    ours = {**ours, "Accept-Encoding": "identity"}
    headers = merged(public, private or {}, ours)
    for left in range(hops, -1, -1):
        response = _once(method, url, headers, options)
        target = urljoin(url, _quoted(response.headers.get("location", "").encode("latin-1")))
        followed = response.status in _REDIRECTS and "location" in response.headers and left
        if not followed or urlsplit(target).scheme not in _PORTS:
            # A redirect that leads nowhere, or on and on, is an answer: asking again gets the same.
            return response
        response.close()
        if not same_origin(url, target):
            headers = merged(public, ours)
        url = target
    raise AssertionError("the last redirect is returned")


def range_headers(first: int, last: int | None, condition: str, etag: str | None) -> dict[str, str]:
    """The headers that shape one GET: none for the plain whole."""
    if not first and last is None:
        return {}
    headers = {"Range": range_header(first, last)}
    return headers if etag is None else {**headers, condition: etag}


def as_fault(error: BaseException, otherwise: str = "") -> StoreFault:
    """Name what broke, from an exception of http.client or the socket, or one of another library around it.

    An error without one of those at its root is of the kind `otherwise`, or a bug, and raised again.
    """
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        inside = [arg for arg in at.args if isinstance(arg, BaseException)]
        at = at.__cause__ or at.__context__ or (inside[0] if inside else None)
    for kind, types in _KINDS:
        if any(isinstance(link, types) for link in chain):
            # The innermost message is the plain one; the outer ones are about wrappers.
            told = next((link for link in reversed(chain) if str(link)), error)
            return StoreFault(kind, f"{kind}: {type(told).__name__}: {told}")
    if otherwise:
        return StoreFault(otherwise, f"{otherwise}: {error}")
    raise error


_KINDS: tuple[tuple[str, tuple[type[BaseException], ...]], ...] = (
    ("connect", (ConnectionRefusedError, socket.gaierror)),
    ("tls", (ssl.SSLError,)),
    ("timeout", (TimeoutError,)),
    ("short", (http.client.IncompleteRead, http.client.RemoteDisconnected)),
    ("reset", (ConnectionError,)),
    ("protocol", (http.client.HTTPException, OSError)),
)


def basic(parts: SplitResult) -> str:
    """The Authorization for the user information of a URL."""
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _once(method: str, url: str, headers: dict[str, tuple[str, str]], options: Options) -> HttpResponse:
    connection = prepare(method, url, headers, options)
    try:
        connect(connection)
        connection.sock.settimeout(options.idle_timeout)
        connection.endheaders()
        return HttpResponse(connection, connection.getresponse())
    except Exception as error:
        connection.close()
        raise error if isinstance(error, (StoreFault, CallerError)) else as_fault(error) from error


def prepare(
    method: str,
    url: str,
    headers: dict[str, tuple[str, str]],
    options: Options,
    kept: http.client.HTTPConnection | None = None,
) -> http.client.HTTPConnection:
    """A connection for this request, `kept` or one to be opened, with the head ready to be sent."""
    parts = urlsplit(url)
    target = _quoted(parts.path or "/") + (f"?{_quoted(parts.query)}" if parts.query else "")
    try:
        proxy = _proxy(parts)
        connection = kept or _connection(parts, proxy, options)
        if proxy is not None and parts.scheme == "http":
            target = f"http://{parts.netloc}{target}"
            headers = headers | _proxy_login(proxy)
        connection.putrequest(method, target, skip_host="host" in headers, skip_accept_encoding=True)
        for name, value in headers.values():
            connection.putheader(name, value)
    except (ValueError, http.client.InvalidURL) as error:
        raise CallerError(f"cannot ask for this: {error}") from error
    return connection


def _connection(
    parts: SplitResult, proxy: SplitResult | None, options: Options
) -> http.client.HTTPConnection:
    """One that is not open yet."""
    to = proxy or parts
    host, port = to.hostname or "", to.port or _PORTS.get(to.scheme, 80)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        # The names under which requests, curl and OpenSSL are told of an authority of one's own.
        named = map(os.environ.get, ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"))
        context = _trust(next(filter(None, named), ""))
        connection = http.client.HTTPSConnection(host, port, timeout=options.connect_timeout, context=context)
        if proxy is not None:
            connection.set_tunnel(parts.hostname or "", parts.port or 443, dict(_proxy_login(proxy).values()))
    else:
        connection = http.client.HTTPConnection(host, port, timeout=options.connect_timeout)
    connection.response_class = FinalResponse
    return connection


def connect(connection: http.client.HTTPConnection) -> None:
    """Open it. Raises StoreFault, and CallerError for a host that cannot be one."""
    try:
        connection.connect()
    except ssl.SSLError as error:
        raise as_fault(error) from error
    except UnicodeError as error:
        raise CallerError(f"not a host name: {error}") from error
    except ConnectionResetError as error:  # it was there: whether the reset or we come first is chance
        raise as_fault(error) from error
    except OSError as error:
        raise StoreFault("connect", f"connect: {type(error).__name__}: {error}") from error


@lru_cache(maxsize=4)
def _trust(bundle: str) -> ssl.SSLContext:
    """Whom to believe: reading the authorities takes longer than a small download."""
    import certifi

    where = bundle or certifi.where()
    folder = Path(where).is_dir()
    context = ssl.create_default_context(cafile=None if folder else where, capath=where if folder else None)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy(parts: SplitResult) -> SplitResult | None:
    """The proxy that the environment names; never one for this machine itself."""
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127."):
        return None
    from urllib.request import getproxies, proxy_bypass  # slow to import

    named = getproxies().get(parts.scheme)
    if not named or proxy_bypass(host):
        return None
    return urlsplit(named if "://" in named else f"http://{named}")


def _proxy_login(proxy: SplitResult) -> dict[str, tuple[str, str]]:
    return merged({"Proxy-Authorization": basic(proxy)}) if proxy.username else {}


def merged(*parts: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Headers by lower-case name. Names without regard to case; the later ones win."""
    return {name.lower(): (name, value) for part in parts for name, value in part.items()}


def _quoted(text: str | bytes) -> str:
    return quote(text, safe="!#$%&'()*+,/:;=?@[]~")


def same_origin(one: str, other: str) -> bool:
    """RFC 9110 §4.3.1: scheme, host, port. A step up from http to https on one host counts as the same."""
    a, b = ((p.scheme, p.hostname, p.port or _PORTS[p.scheme]) for p in (urlsplit(one), urlsplit(other)))
    return a == b or (a[1] == b[1] and a[::2] == ("http", 80) and b[::2] == ("https", 443))
