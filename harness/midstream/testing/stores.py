"""The contract every store keeps that speaks HTTP, as tests to run over a store of your own.

    from midstream.testing.stores import StoreContract

    class TestMyStore(StoreContract):
        store = "my-store"  # a member of the stores family

Tests are skipped, with the reason, where the store cannot run. What a store is known to do otherwise than the
RFC says goes into `deviations`: facet and a sentence with its source. Each is tested to be true still, and so
is what the store says in `under_way` about responses whose object is changed.
"""

from __future__ import annotations

import http.client
import itertools
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from midstream._content import Content
from midstream._errors import UsageError
from midstream._operations import OPERATIONS
from midstream._registry import load
from midstream.stores import CONTAINER, LAYOUTS, RunningStore, Store, Traits
from midstream.stores._changes import CHANGES, SEGMENT_CHANGES, Delivers, change, next_generation
from midstream.testing.any_store import WAIT, AnyStoreContract

SEGMENTED = ("slo", "dlo")
PART = 5 * 2**20  # of a multipart object; the least S3 takes
LAID_OUT = (
    *(("plain", size) for size in (0, 12_345)),
    *(("multipart", size) for size in (PART + 1, 2 * PART)),
    *(("versioned", size) for size in (0, 12_345)),
    *((layout, size) for layout in SEGMENTED for size in (1, 2, 5, 65_536)),
)
NOT_LAID_OUT = (("multipart", 0), ("multipart", PART), ("slo", 0), ("dlo", 0))
HELD = 64 * 1024  # bytes of a response that are read before its object is changed

DEVIATIONS: Mapping[str, Mapping[str, str]] = {
    "moto": {
        "if-range": "moto 5.2 reads Range without If-Range: a 206 for any value (measured)",
        "range-unit": "moto 5.2 takes any unit for bytes: lines=0-5 gives bytes 0-5 (measured)",
        "signature": "moto 5.2 checks no signature unless INITIAL_NO_AUTH_ACTION_COUNT is set (its docs)",
        "delete-marker": "moto 5.2 answers 404 without x-amz-delete-marker (measured)",
    },
    "swift": {
        "if-range": "swift.common.swob evaluates Range, never If-Range: a 206 for any value (measured)"
    },
    "swift-s3": {
        "if-range": "swift.common.swob evaluates Range, never If-Range: a 206 for any value (measured)",
        "delete-marker": "s3api of Swift 2.38 answers 404 without x-amz-delete-marker (measured)",
    },
}


@dataclass(frozen=True)
class Reply:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


def fetch(url: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Reply:
    """One request on a connection of its own, without any client's cleverness."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=WAIT)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, headers=dict(headers or {}))
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, fields, response.read())
    finally:
        connection.close()


@contextmanager
def holding(url: str, headers: Mapping[str, str] | None = None) -> Iterator[http.client.HTTPResponse]:
    """A response of which no more is taken off the wire than is read, and little is on it."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    with socket.socket() as sock:
        sock.settimeout(WAIT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, HELD)  # set, it is never widened
        sock.connect((parts.hostname or "", parts.port or 80))
        connection.sock = sock
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request("GET", target, headers=dict(headers or {}))
        yield connection.getresponse()
        connection.close()


def rest(response: http.client.HTTPResponse) -> bytes:
    """What there still is of a response, however it ends."""
    try:
        return response.read()
    except http.client.IncompleteRead as short:
        return short.partial


def seams(layout: str, size: int) -> list[int]:
    """Where the parts or segments of an object start, other than the first."""
    return list(range(0, size, PART if layout == "multipart" else -(-size // 4) or 1))[1:]


@contextmanager
def relay(port: int) -> Iterator[str]:
    """The base URL of another port of loopback, from which every byte goes to `port` and back."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_sockets: list[socket.socket] = [listener]

    def copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", port))
            except OSError:
                return
            open_sockets.extend((client, server))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=copy, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for each in open_sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()


class StoreContract(AnyStoreContract):
    """Subclass it, name the `store`, and pytest collects the tests."""

    @property
    def deviations(self) -> Mapping[str, str]:
        """Facet → sentence; facets are `if-range`, `range-unit`, `signature` and `delete-marker`."""
        return DEVIATIONS.get(self.store, {})

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Tests of a layout or of a change run for those the store has."""
        if {"layout", "action"} & set(metafunc.fixturenames) and "size" not in metafunc.fixturenames:
            member: Store = load("stores", self.store)
            layouts = [layout for layout in LAYOUTS if not member.supports(Traits(layout=layout))]
            if "action" not in metafunc.fixturenames:
                metafunc.parametrize("layout", layouts)
                return
            pairs = itertools.product(layouts, CHANGES)
            metafunc.parametrize(
                ("layout", "action"),
                [(to, what) for to, what in pairs if what not in SEGMENT_CHANGES or to in SEGMENTED],
            )

    @pytest.fixture(scope="class")
    @staticmethod
    def base(running: RunningStore) -> Iterator[str]:
        with relay(running.port) as url:
            yield url

    def test_large_object(self, running: RunningStore, base: str, key: str) -> None:
        """An object of 64 MiB arrives by its address, every byte in its place."""
        content = Content(64 * 2**20, seed=64)
        running.put(key, content, Traits())
        reply = fetch(running.access(key, base).url)
        running.delete(key)
        assert reply.status == 200
        assert reply.body == content.whole()

    def test_missing_object(self, running: RunningStore, base: str, key: str) -> None:
        """What does not exist is None out of band, 404 in band, and can be deleted and not be read."""
        assert running.stat(key) is None
        running.delete(key)
        with pytest.raises(UsageError):
            running.read(key)
        assert fetch(running.access(key, base).url).status in (403, 404)

    @pytest.mark.parametrize("size", [0, 1, 65_536])
    def test_address_points_at_injector(self, running: RunningStore, base: str, key: str, size: int) -> None:
        """A plain GET of the address works on the injector's port and is signed for the injector's host."""
        content = Content(size, seed=3)
        running.put(key, content, Traits())
        access = running.access(key, base)
        assert access.kind == load("stores", self.store).kind
        assert access.url.startswith(f"{base}/")
        for value in access.env.values():
            assert str(running.port) not in value
        reply = fetch(access.url)
        assert (reply.status, reply.body) == (200, content.whole())
        assert reply.headers["content-length"] == str(size)

    def test_credentials_work_at_injector(self, running: RunningStore, base: str, key: str) -> None:
        """The store's own client gets the object with `native` and `env`, all of it through the injector."""
        content = Content(12_345, seed=4)
        running.put(key, content, Traits())
        access = running.access(key, base)
        if access.kind == "swift":
            signed = sign_in(access.env)
            assert signed["x-storage-url"].startswith(f"{base}/")
            token = {"X-Auth-Token": signed["x-auth-token"]}
            assert fetch(access.url, token).body == content.whole()
            listing = fetch(f"{signed['x-storage-url']}/{CONTAINER}?format=json", token)
            assert listing.status == 200
        elif access.kind == "s3":
            assert access.native == f"s3://{CONTAINER}/{key}"
            client = _boto3_client(access.env)
            assert client.get_object(Bucket=CONTAINER, Key=key)["Body"].read() == content.whole()
        else:
            assert access.native == access.url

    def test_wrong_signature(self, running: RunningStore, base: str, key: str) -> None:
        """A presigned URL that somebody has changed is refused."""
        running.put(key, Content(10), Traits())
        url = running.access(key, base).url
        if "X-Amz-Signature=" not in url:
            pytest.skip(f"{self.store} is read without credentials: its addresses carry no signature")
        head, _, signature = url.rpartition("X-Amz-Signature=")
        changed = ("1" if signature[0] == "0" else "0") + signature[1:]
        status = fetch(f"{head}X-Amz-Signature={changed}").status
        assert status == (200 if "signature" in self.deviations else 403)

    @pytest.mark.parametrize(
        ("field", "first", "last"),
        [
            ("bytes=0-0", 0, 0),
            ("bytes=100-199", 100, 199),
            ("bytes=12000-", 12_000, 12_344),
            ("bytes=-45", 12_300, 12_344),
            ("bytes=-99999", 0, 12_344),
            ("bytes=12000-99999", 12_000, 12_344),
            ("bytes=12344-", 12_344, 12_344),
        ],
    )
    def test_range(
        self, running: RunningStore, base: str, key: str, field: str, first: int, last: int
    ) -> None:
        """A range gives 206, its Content-Range and exactly its bytes (RFC 9110 14.2)."""
        content = Content(12_345, seed=5)
        running.put(key, content, Traits())
        reply = fetch(running.access(key, base).url, {"Range": field})
        assert reply.status == 206
        assert reply.headers["content-range"] == f"bytes {first}-{last}/12345"
        assert reply.body == content.read(first, last - first + 1)

    @pytest.mark.parametrize("field", ["bytes=12345-", "bytes=12345-20000", "bytes=-0"])
    def test_unsatisfiable_range(self, running: RunningStore, base: str, key: str, field: str) -> None:
        """A range that starts behind the end gives 416 (RFC 9110 15.5.17)."""
        running.put(key, Content(12_345), Traits())
        reply = fetch(running.access(key, base).url, {"Range": field})
        assert reply.status == 416
        if "content-range" in reply.headers:  # a SHOULD
            assert reply.headers["content-range"] == "bytes */12345"

    @pytest.mark.parametrize("field", ["bytes=9-5", "bytes=a-b", "lines=0-5"])
    def test_malformed_range(self, running: RunningStore, base: str, key: str, field: str) -> None:
        """A Range that does not read is ignored (RFC 9110 14.2)."""
        running.put(key, Content(100), Traits())
        reply = fetch(running.access(key, base).url, {"Range": field})
        honoured = field.startswith("lines") and "range-unit" in self.deviations
        assert reply.status == (206 if honoured else 200)
        assert reply.body == Content(100).read(0, 6 if honoured else 100)

    def test_if_match(self, running: RunningStore, base: str, key: str) -> None:
        """If-Match lets the right ETag pass, also with a Range, and stops a wrong one with 412."""
        running.put(key, Content(100), Traits())
        info = running.stat(key)
        assert info
        assert info.etag
        url = running.access(key, base).url
        quoted = info.etag if info.etag.startswith('"') else f'"{info.etag}"'
        assert fetch(url, {"If-Match": quoted}).status == 200
        assert fetch(url, {"If-Match": quoted, "Range": "bytes=50-"}).body == Content(100).read(50, 50)
        for extra in ({}, {"Range": "bytes=50-"}):
            reply = fetch(url, {"If-Match": '"0123456789abcdef0123456789abcdef"', **extra})
            assert reply.status == 412
        assert fetch(url, {"If-None-Match": quoted}).status == 304

    def test_if_range(self, running: RunningStore, base: str, key: str) -> None:
        """If-Range with another ETag gives the whole object (RFC 9110 13.1.5), unless known not to."""
        running.put(key, Content(100), Traits())
        url = running.access(key, base).url
        etag = fetch(url).headers["etag"]
        assert fetch(url, {"If-Range": etag, "Range": "bytes=50-"}).status == 206
        reply = fetch(url, {"If-Range": '"another"', "Range": "bytes=50-"})
        assert reply.status == (206 if "if-range" in self.deviations else 200)

    def test_replaced_object(self, running: RunningStore, base: str, key: str) -> None:
        """Another generation has another ETag and its own bytes; If-Match on the old ETag says so."""
        url = running.access(key, base).url
        seen: list[str] = []
        for generation in (1, 2, 3):
            content = Content(1000, seed=6, generation=generation)
            running.put(key, content, Traits())
            reply = fetch(url)
            assert reply.body == content.whole()
            seen.append(reply.headers["etag"])
        assert len(set(seen)) == 3
        assert fetch(url, {"If-Match": seen[0], "Range": "bytes=10-"}).status == 412

    @pytest.mark.parametrize(("layout", "size"), LAID_OUT)
    def test_layout(
        self, member: Store, running: RunningStore, base: str, key: str, layout: str, size: int
    ) -> None:
        """However an object is made, it is one object; a store that cannot make it so says why."""
        content, traits = Content(size, seed=7), Traits(layout=layout)
        if reason := member.supports(traits):
            assert layout in reason
            with pytest.raises(UsageError, match=re.escape(reason)):
                running.put(key, content, traits)
            return
        running.put(key, content, traits)
        info = running.stat(key)
        assert info
        assert info.size == size
        assert running.read(key) == content.whole()
        url = running.access(key, base).url
        reply = fetch(url)
        assert (reply.status, reply.body) == (200, content.whole())
        if layout == "multipart":
            assert reply.headers["etag"].endswith(f'-{1 + len(seams(layout, size))}"')
        for seam in seams(layout, size) if layout != "plain" else ():
            reply = fetch(url, {"Range": f"bytes={seam - 1}-{seam}"})
            assert (reply.status, reply.body) == (206, content.read(seam - 1, 2))
        assert [name for name in running.keys() if key in name] == [key]  # noqa: SIM118 - it is no mapping
        running.delete(key)
        assert running.stat(key) is None

    @pytest.mark.parametrize(("layout", "size"), NOT_LAID_OUT)
    def test_size_that_cannot_be_laid_out(
        self, running: RunningStore, key: str, layout: str, size: int
    ) -> None:
        """An object too small for its layout is refused and leaves nothing behind."""
        with pytest.raises(UsageError):
            running.put(key, Content(size), Traits(layout=layout))
        assert running.stat(key) is None

    def test_layout_is_replaced(self, running: RunningStore, key: str, layout: str) -> None:
        """An object of one layout can become one of another, and go back."""
        size = PART + 1 if layout == "multipart" else 1000
        for generation, traits in ((1, Traits(layout=layout)), (2, Traits()), (3, Traits(layout=layout))):
            content = Content(size, seed=8, generation=generation)
            running.put(key, content, traits)
            assert running.read(key) == content.whole()
        running.delete(key)

    def test_versions(self, member: Store, running: RunningStore, base: str, key: str) -> None:
        """A versioned object that is replaced and deleted is still had by its version, until it is purged."""
        if reason := member.supports(Traits(layout="versioned")):
            pytest.skip(reason)
        first, second = (Content(1000, seed=10, generation=n) for n in (1, 2))
        running.put(key, first, Traits(layout="versioned"))
        access = running.access(key, base)
        before = fetch(access.url).headers
        running.put(key, second, Traits(layout="versioned"))
        assert fetch(access.url).headers["x-amz-version-id"] != before["x-amz-version-id"]
        assert running.read(key) == second.whole()
        running.delete(key)
        assert running.stat(key) is None
        gone = fetch(access.url)
        assert gone.status == 404
        assert ("x-amz-delete-marker" in gone.headers) == ("delete-marker" not in self.deviations)
        bucket = access.native.removeprefix("s3://").partition("/")[0]
        client, where = _boto3_client(access.env), {"Bucket": bucket, "Key": key}
        tied = {**where, "VersionId": before["x-amz-version-id"], "IfMatch": before["etag"]}
        assert client.get_object(**tied, Range="bytes=500-")["Body"].read() == first.read(500, 500)
        running.purge(key)
        left = client.list_object_versions(Bucket=bucket, Prefix=key)
        assert not left.get("Versions")
        assert not left.get("DeleteMarkers")
        running.put(key, first, Traits())
        assert "x-amz-version-id" not in fetch(running.access(key, base).url).headers
        running.delete(key)

    def test_changed_under_way(
        self, member: Store, running: RunningStore, key: str, layout: str, action: str
    ) -> None:
        """A response whose object is changed goes on as the store says it does."""
        traits = Traits(layout=layout)
        then = member.when_changed(layout, action)
        if then is None:
            pytest.skip(f"{self.store} does not say what follows {action} of a {layout} object")
        content = Content(2**22 if layout in SEGMENTED else 2**23, seed=9)
        running.put(key, content, traits)
        with holding(running.access(key, f"http://127.0.0.1:{running.port}").url) as response:
            assert response.status == 200
            body = response.read(HELD)
            after = change(running, key, content, traits, action)
            body += rest(response)
        starts = seams(layout, content.size)
        if then.delivers is Delivers.OLD:
            assert body == content.whole()
        elif then.delivers is Delivers.MIXED:
            last = next_generation(content).read(starts[-1], content.size)
            assert body == content.read(0, starts[-1]) + last
        else:
            assert len(body) in (starts[-1:] if action in SEGMENT_CHANGES else starts)
            assert body == content.read(0, len(body))
        if after is None:
            assert running.stat(key) is None
        elif layout == "dlo" or action not in SEGMENT_CHANGES:
            assert running.read(key) == after.whole()
        running.delete(key)

    def test_expired_credentials(self, member: Store, running: RunningStore, base: str, key: str) -> None:
        """A token that is made invalid is answered with 401 from the next request on, a new one works."""
        if member.kind != "swift":
            with pytest.raises(UsageError):
                running.expire_credentials()
            return
        running.put(key, Content(10), Traits())
        one, two = running.access(key, base), running.access(key, base)

        def tokens() -> list[dict[str, str]]:
            return [{"X-Auth-Token": sign_in(access.env)["x-auth-token"]} for access in (one, two)]

        old = tokens()
        assert tokens() == old
        running.expire_credentials(one)
        assert [fetch(one.url, token).status for token in old] == [401, 200]
        running.expire_credentials()
        assert [fetch(one.url, token).status for token in old] == [401, 401]
        assert [fetch(one.url, token).status for token in tokens()] == [200, 200]
        assert fetch(one.url).status == 200
        assert running.read(key) == Content(10).whole()

    def test_backends(self, member: Store, running: RunningStore, base: str, key: str) -> None:
        """As many servers behind the store as asked for run; those that come back have what they had."""
        if not member.backends:
            assert f"{member.id} has no servers" in (member.lacks_backends(["all"]) or "")
            with pytest.raises(UsageError):
                running.run_backends(None)
            return
        most = member.backends
        assert member.lacks_backends([]) is member.lacks_backends(["all", "0", str(most)]) is None
        assert str(most + 1) in (member.lacks_backends([str(most + 1)]) or "")
        with pytest.raises(UsageError):
            running.run_backends(most + 1)
        running.put(key, Content(5000), Traits())
        url = running.access(key, base).url
        try:
            for count in (*range(most, 0, -1), *range(1, most + 1)):
                running.run_backends(count)
                assert fetch(url).body == Content(5000).whole()
            running.run_backends(0)
            assert all(fetch(url).status >= 500 for _ in range(25))
        finally:
            running.run_backends(None)
        assert running.read(key) == Content(5000).whole()
        running.delete(key)  # needs a majority of them, however often they were not there
        assert running.stat(key) is None

    def test_operation(self, member: Store, running: RunningStore, base: str) -> None:
        """Requests are told by the operation they are."""
        parts = urlsplit(running.access("a/b c", base).url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        assert member.operation("GET", target, {}) == "get_object"
        assert member.operation("HEAD", target, {}) == "head_object"
        for method in ("PUT", "POST", "DELETE", "OPTIONS", "COPY"):
            found = member.operation(method, target, {})
            assert found in OPERATIONS
            assert found not in ("get_object", "head_object", "list_objects")
        others = {"http": {}, "s3": _S3_OPERATIONS, "swift": _SWIFT_OPERATIONS}[member.kind]
        assert {t: member.operation("GET", t, {}) for t in others} == others


_S3_OPERATIONS = {
    f"/{CONTAINER}/key": "get_object",
    f"/{CONTAINER}/a/b/c?versionId=1": "get_object",
    f"/{CONTAINER}/key?partNumber=2": "get_object",
    f"/{CONTAINER}/key?x-id=GetObject&response-content-type=a": "get_object",
    f"/{CONTAINER}": "list_objects",
    f"/{CONTAINER}/?list-type=2&prefix=a": "list_objects",
    f"/{CONTAINER}?marker=acl": "list_objects",
    f"/{CONTAINER}?uploads": "list_uploads",
    f"/{CONTAINER}?location": "other",
    f"/{CONTAINER}/key?acl": "other",
    f"/{CONTAINER}/key?uploadId=1": "list_parts",
    "/": "other",
}
_SWIFT_OPERATIONS = {
    f"/v1/AUTH_a/{CONTAINER}/key": "get_object",
    f"/v1/AUTH_a/{CONTAINER}/a/b/c?format=json": "get_object",
    f"/v1/AUTH_a/{CONTAINER}/key?multipart-manifest=get": "other",
    f"/v1/AUTH_a/{CONTAINER}": "list_objects",
    f"/v1/AUTH_a/{CONTAINER}/?format=json&marker=x": "list_objects",
    "/v1/AUTH_a": "other",
    "/v1/AUTH_a/": "other",
    "/info": "other",
    "/auth/v1.0": "authenticate",
}


def sign_in(env: Mapping[str, str]) -> Mapping[str, str]:
    """What Swift's authentication answers to the credentials a driver gets."""
    reply = fetch(env["ST_AUTH"], {"X-Auth-User": env["ST_USER"], "X-Auth-Key": env["ST_KEY"]})
    assert reply.status == 200
    return reply.headers


def _boto3_client(env: Mapping[str, str]) -> Any:
    from midstream.stores._s3 import Keys, make_client

    return make_client(env["AWS_ENDPOINT_URL"], Keys(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]))
