"""Servers that somebody else runs: written to below a name nobody else has, and tidied up at the end.

Cases reach such a server through the injector at 127.0.0.1: directly when it listens there itself, else by a
relay of ours, which also speaks TLS where the server wants it.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import ssl
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from midstream._content import Content
from midstream._errors import HarnessError, SetupError, StoreDied, UsageError
from midstream._parts import Endpoint
from midstream.stores import Access, ObjectInfo, RunningStore, Traits, refusal
from midstream.stores._bodies import body
from midstream.stores._s3 import LAYOUTS, Keys, RunningS3, make_client
from midstream.stores._s3_versions import VERSIONED, Versions

if TYPE_CHECKING:
    import requests

SECONDS = 60.0
CONNECT_SECONDS = 5.0
BLOCK = 1 << 16


def own_name() -> str:
    """A name that nobody else has."""
    return f"midstream-{secrets.token_hex(8)}"


class Relay:
    """A port of 127.0.0.1 from which every byte goes to an endpoint and back."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._tls = ssl.create_default_context() if endpoint.scheme == "https" else None
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), name="relay", daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client:
            try:
                server = connect(self._endpoint)
                if self._tls:
                    server = self._tls.wrap_socket(server, server_hostname=self._endpoint.host)
            except OSError:
                return
            with server:
                server.settimeout(None)
                back = threading.Thread(target=_copy, args=(server, client), name="relay", daemon=True)
                back.start()
                _copy(client, server)
                back.join()

    def close(self) -> None:
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(BLOCK):
            sink.sendall(data)
        if not isinstance(sink, ssl.SSLSocket):
            sink.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (source, sink):  # the other direction has to learn of it
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def connect(endpoint: Endpoint) -> socket.socket:
    return socket.create_connection((endpoint.host, endpoint.port), CONNECT_SECONDS)


class Line:
    """The port cases use for an endpoint, and whether somebody answers there."""

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._open = True
        try:
            connect(endpoint).close()
        except OSError as error:
            raise SetupError(f"{name}: nobody answers at {endpoint.url}: {error}") from None
        near = endpoint.scheme == "http" and endpoint.host.lower() in ("127.0.0.1", "localhost")
        self._relay = None if near else Relay(endpoint)
        self.port = self._relay.port if self._relay else endpoint.port

    def alive(self) -> bool:
        if not self._open:
            return False
        try:
            connect(self._endpoint).close()
        except OSError:
            return False
        return True

    def close(self) -> bool:
        """Whether it was open until now."""
        was, self._open = self._open, False
        if self._relay:
            self._relay.close()
        return was


def complain(name: str, what: str, error: Exception) -> None:
    """Said at the end, when nothing can be done about it and others still have to be stopped."""
    sys.stderr.write(f"midstream: {name}: {what} could not be removed: {error}\n")


class RunningS3Elsewhere(RunningS3):
    """An S3 of somebody else: a bucket of our own, or below a prefix of our own in a bucket that is given.

    Every call names the usual bucket and key; the client puts the true ones in their place.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        keys: Keys,
        folder: Path,
        bucket: str = "",
        version: str = "",
        layouts: tuple[str, ...] = LAYOUTS,
    ) -> None:
        # What is taken over from RunningS3 asks for the client and the keys, never for a process.
        own = own_name()
        self.id = name
        self.version = version
        self._line = Line(name, endpoint)
        self.port = self._line.port
        self._endpoint = endpoint
        self._keys = keys
        self._folder = folder
        self._client = None
        self._lock = threading.Lock()
        self._versions = Versions(self.call)
        self.layouts = layouts
        self._bucket, self._prefix = (bucket, f"{own}/") if bucket else (own, "")
        self._names = {VERSIONED: f"{own}-versioned"}  # of buckets, where that is not `_bucket`
        self._given = bool(bucket)
        if bucket:
            self.call(lambda s3: s3.head_bucket(Bucket=""))
        else:
            self.create_bucket()

    def client(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = make_client(self._endpoint.url, self._keys)
                self._client.meta.events.register("provide-client-params.s3", self._place)
            return self._client

    def _place(self, params: dict[str, Any], **_: Any) -> dict[str, Any]:
        placed = {**params, "Bucket": self._names.get(params["Bucket"], self._bucket)}
        if "Key" in params:
            placed["Key"] = self._prefix + params["Key"]
        else:
            # for a listing; other calls without a key have no use for it
            below = self._prefix + params.get("Prefix", "")
            placed |= {"Prefix": below} if "MaxKeys" in params or "Prefix" in params else {}
        return placed

    def keys(self) -> list[str]:
        return [key.removeprefix(self._prefix) for key in super().keys()]  # noqa: SIM118 - it is no mapping

    def _address(self, key: str) -> tuple[str, str]:
        return self._names.get(self._versions.bucket(key), self._bucket), self._prefix + key

    def alive(self) -> bool:
        return self._line.alive()

    def stop(self) -> None:
        if not self._line.close():
            return
        try:
            self._versions.remove()
            for key in self.keys():
                self.delete(key)
            if not self._given:
                self.call(lambda s3: s3.delete_bucket(Bucket=""))
        except (HarnessError, SetupError) as error:
            complain(self.id, f"{self._bucket}/{self._prefix}", error)
        with self._lock:
            if self._client is not None:
                self._client.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Http:
    """Requests to a server of somebody else; what is no answer becomes StoreDied."""

    def __init__(self, name: str, auth: tuple[str, str] | None = None) -> None:
        import requests

        self.name = name
        self._failure = requests.RequestException
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.auth = auth

    def __call__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        also: tuple[int, ...] = (),
    ) -> requests.Response:
        """A response; statuses of failure that are none of `also` raise HarnessError."""
        try:
            response = self.session.request(
                method, url, headers=dict(headers or {}), data=data, timeout=SECONDS, allow_redirects=False
            )
        except self._failure as error:
            raise StoreDied(f"{self.name}: does not answer: {error}") from error
        if not 200 <= response.status_code < 300 and response.status_code not in also:
            raise HarnessError(f"{self.name}: {method} {url} gave {response.status_code} {response.reason}")
        return response


class _RunningBelow(RunningStore):
    """Objects below a URL, of a server somebody else runs, written by PUT and removed by DELETE."""

    _http: _Http
    _line: Line
    _folder: Path
    _root: str  # what objects are below, out of band

    def _url(self, key: str) -> str:
        return f"{self._root}/{quote(key)}"

    def stat(self, key: str) -> ObjectInfo | None:
        # identity: the length told is to be the object's
        found = self._http("HEAD", self._url(key), {"Accept-Encoding": "identity"}, also=(404,))
        if found.status_code == 404:
            return None
        return ObjectInfo(int(found.headers["Content-Length"]), found.headers.get("ETag"))

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        info = self.stat(key)
        if info is None:
            raise UsageError(f"{self.id}: no object is called {key!r}")
        end = info.size if length is None else min(info.size, start + length)
        if start >= end:
            return b""
        fields = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        found = self._http("GET", self._url(key), fields)
        data: bytes = found.content
        return data if found.status_code == 206 else data[start:end]

    def alive(self) -> bool:
        return self._line.alive()

    def _remove_all(self) -> None:
        for key in self.keys():
            self.delete(key)

    def stop(self) -> None:
        if not self._line.close():
            return
        try:
            self._remove_all()
        except (HarnessError, SetupError) as error:
            complain(self.id, self._root, error)
        self._http.session.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class RunningHttpElsewhere(_RunningBelow):
    """A plain HTTP server that takes PUT and DELETE; what has been put is remembered: it lists nothing."""

    def __init__(
        self, name: str, endpoint: Endpoint, auth: tuple[str, str] | None, folder: Path, version: str = ""
    ) -> None:
        self.id = name
        self.version = version
        self._line = Line(name, endpoint)
        self.port = self._line.port
        self._folder = folder
        self._path = f"{endpoint.path}/{own_name()}"
        self._root = f"{Endpoint(endpoint.scheme, endpoint.host, endpoint.port).url}{self._path}"
        self._http = _Http(name, auth)
        self._made: dict[str, int] = {}
        self._puts = 0
        self._lock = threading.Lock()

    def put(self, key: str, content: Content, traits: Traits) -> None:
        if reason := refusal(self.id, ("plain",), traits):
            raise UsageError(reason)
        with self._lock:
            self._puts += 1
            self._made[key] = self._puts
        # nginx takes the time of a file from here; one second apart, no two have the same ETag
        date = formatdate(LONG_AGO + self._puts, usegmt=True)
        self._http("PUT", self._url(key), {"Date": date}, body(content))

    def delete(self, key: str) -> None:
        self._http("DELETE", self._url(key), also=(404,))
        with self._lock:
            self._made.pop(key, None)

    def keys(self) -> list[str]:
        if not self._line.alive():
            raise StoreDied(f"{self.id}: does not answer at {self._root}")
        with self._lock:
            return sorted(self._made)

    def _remove_all(self) -> None:
        for key in list(self._made):
            self.delete(key)

    def access(self, key: str, base_url: str) -> Access:
        url = f"{base_url.rstrip('/')}{self._path}/{quote(key)}"
        return Access("http", url, url)


LONG_AGO = 1_600_000_000  # seconds: a Last-Modified that lies behind every Date


@dataclass(frozen=True)
class SwiftLogin:
    """v1 authentication: where, who, and the key."""

    path: str
    user: str
    key: str


class RunningSwiftElsewhere(_RunningBelow):
    """A Swift of somebody else, by v1 authentication: plain objects in a container of our own."""

    def __init__(self, name: str, endpoint: Endpoint, login: SwiftLogin, folder: Path) -> None:
        self.id = name
        self._line = Line(name, endpoint)
        self.port = self._line.port
        self._folder = folder
        self._login = login
        self._http = _Http(name)
        self._server = Endpoint(endpoint.scheme, endpoint.host, endpoint.port).url
        signed = self._http(
            "GET", self._server + login.path, {"X-Auth-User": login.user, "X-Auth-Key": login.key}
        )
        self._http.session.headers["X-Auth-Token"] = signed.headers["X-Auth-Token"]
        storage = urlsplit(signed.headers["X-Storage-Url"])
        self._container = own_name()
        self._path = f"{storage.path}/{self._container}"
        self._root = self._server + self._path
        self._http("PUT", self._root, {"X-Container-Read": ".r:*"})

    def put(self, key: str, content: Content, traits: Traits) -> None:
        if reason := refusal(self.id, ("plain",), traits):
            raise UsageError(reason)
        self._http("PUT", self._url(key), data=body(content))

    def delete(self, key: str) -> None:
        self._http("DELETE", self._url(key), also=(404,))

    def keys(self) -> list[str]:
        found: list[str] = []
        while True:
            marker = quote(found[-1], safe="") if found else ""
            page = self._http("GET", f"{self._root}?format=json&marker={marker}").json()
            if not page:
                return sorted(found)
            found += [entry["name"] for entry in page]

    def access(self, key: str, base_url: str) -> Access:
        base = base_url.rstrip("/")
        env = {"ST_AUTH": f"{base}{self._login.path}", "ST_USER": self._login.user, "ST_KEY": self._login.key}
        return Access("swift", f"{base}{self._path}/{quote(key)}", f"swift://{self._container}/{key}", env)

    def expire_credentials(self, access: Access | None = None) -> None:
        raise UsageError(f"{self.id}: the tokens of a Swift that is not ours are not made invalid")

    def _remove_all(self) -> None:
        super()._remove_all()
        self._http("DELETE", self._root, also=(404,))
