"""HTTP for the stores that speak it: one session, one try per call, every failure named."""

from __future__ import annotations

import http.client
import io
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3.exceptions as u3
from requests.adapters import HTTPAdapter

from reknit._errors import CallerError, StoreFault
from reknit._options import Options
from reknit._ranges import range_header
from reknit.stores._interim import teach

# RFC 9110 §15.4: the redirects a GET may follow as it is. curl stops at 50, browsers at 20, requests at 30.
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 10


class HttpResponse:
    """A body read through urllib3, raw: undecoded, as framed, as it comes."""

    def __init__(self, status: int, headers: Mapping[str, str], raw: Any) -> None:
        self.status, self.headers, self._raw = status, headers, raw
        # urllib3 before 2 has no read1, and its read blocks for all of `limit`: a drop may lose that much.
        self._take = getattr(raw, "read1", raw.read)
        inner: Any = getattr(raw, "_fp", None)
        self._plain: Any = getattr(inner, "fp", None)
        self._buffer, self._drained = bytearray(), False
        if getattr(inner, "chunked", False) and self._plain is not None:
            inner.fp, self._plain = _WholeLines(inner.fp), None

    def read(self, limit: int) -> bytes | memoryview:
        """See Response.read. One system call at most, so that nothing received is lost to a later error.

        A body that is not chunked is read below http.client, which would only count the bytes, as the machine
        does anyway.
        """
        try:
            if self._plain is not None:
                return self._read_plain(limit)
            data: bytes = self._take(limit, decode_content=False)
        except Exception as error:
            raise as_fault(error) from error
        return data

    def _read_plain(self, limit: int) -> bytes | memoryview:
        # Into one buffer: a new megabyte for each read costs as much as the rest. But readinto1 goes on to
        # the socket after what its own buffer held, and an error there loses that: read1 empties it first.
        if not self._drained or limit <= io.DEFAULT_BUFFER_SIZE:
            data: bytes = self._plain.read1(limit)
            self._drained = self._drained or len(data) < limit
            return data
        if len(self._buffer) < limit:
            self._buffer = bytearray(limit)
        view = memoryview(self._buffer)
        return view[: self._plain.readinto1(view[:limit])]

    def close(self) -> None:
        """Close the connection too, unless the body was read to its end."""
        try:
            self._raw.close()
            self._raw.release_conn()
        except (OSError, u3.HTTPError, http.client.HTTPException):
            pass


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


class Session:
    """A pool of connections, without retries, proxies, cookies, .netrc or redirects of its own.

    It drives the adapter of requests below its Session: that one would look for proxies in the environment,
    which catch loopback too, and in .netrc for credentials nobody named, and costs as much again as the
    request itself.
    """

    def __init__(self, options: Options) -> None:
        self._timeout = (options.connect_timeout, options.idle_timeout)
        self._adapter = HTTPAdapter(pool_connections=2, pool_maxsize=1, max_retries=0)
        teach(self._adapter.poolmanager)
        # The names under which requests, curl and OpenSSL are told of an authority of one's own.
        named = (os.environ.get(v) for v in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"))
        self._verify: bool | str = next((path for path in named if path), True)

    def send(
        self,
        method: str,
        url: str,
        ours: Mapping[str, str],
        private: Mapping[str, str] | None = None,
    ) -> HttpResponse:
        """One request, redirects followed. `private` headers go to the origin of `url` only.

        Raises StoreFault, and CallerError for a URL that cannot be asked.
        """
        public = {"User-Agent": "reknit", "Accept": "*/*"}
        headers = {**public, **(private or {}), **ours}
        for left in range(_MAX_REDIRECTS, -1, -1):
            response = self._once(method, url, headers)
            head = {name.lower(): value for name, value in response.headers.items()}
            target = urljoin(url, head.get("location", ""))
            followed = response.status_code in _REDIRECTS and "location" in head and left
            if not followed or urlsplit(target).scheme not in ("http", "https"):
                # A redirect that leads nowhere, or on and on, is an answer: asking again gets the same.
                return HttpResponse(response.status_code, head, response.raw)
            response.close()
            if not _same_origin(url, target):
                headers = {**public, **ours}
            url = target
        raise AssertionError("the last redirect is returned")

    def close(self) -> None:
        """Close every connection."""
        self._adapter.close()

    def _once(self, method: str, url: str, headers: Mapping[str, str]) -> requests.Response:
        try:
            request = requests.Request(method, url, headers=headers).prepare()
        except (requests.RequestException, ValueError) as error:
            raise CallerError(f"cannot ask for this: {error}") from error
        # A connection serves one request: a kept one may be closed by the peer just as we write on it
        # (RFC 9112 §9.3.1), and that would look like a failure of the store.
        self._adapter.close()
        try:
            return self._adapter.send(request, stream=True, timeout=self._timeout, verify=self._verify)
        except requests.RequestException as error:
            raise as_fault(error) from error


def range_headers(first: int, last: int | None, condition: str, etag: str | None) -> dict[str, str]:
    """The headers that shape one GET.

    `Accept-Encoding: identity` on every one: ranges count the bytes of the selected, coded representation
    (RFC 9110 §14.1.2), so all answers must be of the same, uncoded one.
    """
    headers = {"Accept-Encoding": "identity"}
    if first or last is not None:
        headers["Range"] = range_header(first, last)
        if etag is not None:
            headers[condition] = etag
    return headers


def _same_origin(one: str, other: str) -> bool:
    """RFC 9110 §4.3.1: scheme, host and port. A step up from http to https on the same host counts as the
    same.
    """
    a, b = urlsplit(one), urlsplit(other)
    if a.hostname != b.hostname:
        return False
    ports = {"http": 80, "https": 443}
    if (a.scheme, a.port or ports[a.scheme]) == ("http", 80) and (b.scheme, b.port or ports[b.scheme]) == (
        "https",
        443,
    ):
        return True
    return a.scheme == b.scheme and (a.port or ports[a.scheme]) == (b.port or ports[b.scheme])


def as_fault(error: BaseException) -> StoreFault:
    """Name what broke, from an exception of requests, urllib3, http.client or the socket.

    An error that none of them raises on purpose is a bug, not a mishap, and is raised again.
    """
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        inside = [arg for arg in at.args if isinstance(arg, BaseException)]
        at = at.__cause__ or at.__context__ or (inside[0] if inside else None)
    for kind, types in _KINDS:
        if any(isinstance(link, types) for link in chain):
            # The innermost message is the plain one; the outer ones are about pools and wrappers.
            told = next((link for link in reversed(chain) if str(link)), error)
            return StoreFault(kind, f"{kind}: {type(told).__name__}: {told}")
    raise error


_KINDS: tuple[tuple[str, tuple[type[BaseException], ...]], ...] = (
    ("connect", (u3.NewConnectionError, u3.ConnectTimeoutError, u3.NameResolutionError)),
    ("tls", (u3.SSLError, requests.exceptions.SSLError)),
    ("timeout", (TimeoutError, u3.ReadTimeoutError, requests.exceptions.Timeout)),
    ("short", (http.client.IncompleteRead, u3.IncompleteRead, http.client.RemoteDisconnected)),
    ("reset", (ConnectionError,)),
    ("protocol", (http.client.HTTPException, u3.HTTPError, requests.RequestException, OSError)),
)
