"""The origin over the wire: framing, connections, uploads, folders."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import http.client
import itertools
import os
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midstream._content import Content
from midstream._errors import HarnessError, UsageError
from midstream.stores import Traits
from midstream.stores._origin_application import Application
from midstream.stores._origin_http import BadRequest, Connection, RequestBody
from midstream.stores._origin_objects import Objects
from midstream.stores._origin_tus import MEDIA_TYPE
from midstream.stores.origin import MEMBER, RunningOrigin

numbers = itertools.count()


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningOrigin]:
    running = MEMBER.start(tmp_path_factory.mktemp("origin"))
    yield running
    running.stop()


@pytest.fixture
def key() -> str:
    return f"object-{next(numbers)}"


class Wire:
    """One connection, by hand."""

    def __init__(self, running: RunningOrigin, receive: int = 0) -> None:
        self.socket = socket.socket()
        if receive:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", running.port))

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, head: str, body: bytes = b"") -> None:
        self.socket.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)

    def receive(self, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
        """The next response, read byte for byte so that nothing of the one after is taken."""
        response = http.client.HTTPResponse(self.socket, method=method)
        response.fp = Unbuffered(self.socket)  # type: ignore[assignment]
        response.begin()
        return response, response.read()

    def ended(self) -> bool:
        return self.socket.recv(1) == b""


class Unbuffered:
    """What HTTPResponse needs of a file, without reading ahead."""

    def __init__(self, source: socket.socket) -> None:
        self._socket = source

    def readline(self, limit: int = -1) -> bytes:
        line = b""
        while not line.endswith(b"\n") and (data := self._socket.recv(1)):
            line += data
        return line

    def read(self, size: int = -1) -> bytes:
        parts = []
        while size and (data := self._socket.recv(min(65536, size) if size > 0 else 65536)):
            parts.append(data)
            size -= len(data) if size > 0 else 0
        return b"".join(parts)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


ALL_TRAITS = [
    Traits(*values)
    for values in itertools.product(
        ("strong", "weak", "modified", "none"),
        ("length", "chunked", "close"),
        (True, False),
        (True, False),
        (True, False),
    )
]


@pytest.mark.parametrize("size", [0, 1, 12_345, 300_000])
def test_all_traits(origin: RunningOrigin, key: str, size: int) -> None:
    """Each of the 96 presentations gives the right bytes, whole and in part, and frames them as told."""
    content = Content(size, seed=11)
    for traits in ALL_TRAITS:
        assert MEMBER.supports(traits) is None
        origin.put(key, content, traits)
        with Wire(origin) as wire:
            wire.send(f"HEAD /{key} HTTP/1.1\nHost: a")
            head, nothing = wire.receive("HEAD")
            assert (head.status, nothing) == (200 if traits.head else 405, b"")
            if traits.framing == "close" and traits.head:
                assert wire.ended()
        for field, start, end in ((None, 0, size), ("bytes=5-", 5, size), ("bytes=100-200", 100, 201)):
            partial = field is not None and traits.ranges and start < size
            if field and traits.ranges and not partial:
                continue
            with Wire(origin) as wire:
                wire.send(f"GET /{key} HTTP/1.1\nHost: a" + (f"\nRange: {field}" if field else ""))
                response, body = wire.receive()
                want = content.read(start, end - start) if partial else content.whole()
                assert response.status == (206 if partial else 200)
                assert body == want, traits
                assert (response.headers["Content-Length"] == str(len(want))) == (traits.framing == "length")
                assert (response.headers["Transfer-Encoding"] == "chunked") == (traits.framing == "chunked")
                assert (response.headers["Connection"] == "close") == (traits.framing == "close")
                assert (response.headers["Repr-Digest"] is not None) == traits.digest
                if traits.framing == "close":
                    assert wire.ended()
                else:
                    wire.send(f"GET /{key} HTTP/1.1\nHost: a")
                    assert wire.receive()[1] == content.whole()


def test_digests_are_right(origin: RunningOrigin, key: str) -> None:
    """Content-MD5 and Repr-Digest are those of the whole object, for every generation."""
    for generation in (1, 2):
        content = Content(70_001, 12, generation)
        origin.put(key, content, Traits())
        with Wire(origin) as wire:
            wire.send(f"GET /{key} HTTP/1.1\nHost: a")
            response, body = wire.receive()
        sha256 = base64.b64encode(hashlib.sha256(content.whole()).digest()).decode()
        assert body == content.whole()
        assert response.headers["Repr-Digest"] == f"sha-256=:{sha256}:"
        assert base64.b64decode(response.headers["Content-MD5"]) == hashlib.md5(content.whole()).digest()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_ranges(origin: RunningOrigin, data: st.DataObject) -> None:
    """Any range of any size of object, in any framing, is byte for byte what the content says."""
    size = data.draw(st.sampled_from([1, 31, 65_536, 131_072, 262_145, 1_048_577, 3_000_000]))
    framing = data.draw(st.sampled_from(["length", "chunked", "close"]))
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start, size + 10))
    content = Content(size, seed=13, generation=data.draw(st.integers(1, 5)))
    name = f"ranges-{size}-{framing}-{content.generation}"
    origin.put(name, content, Traits(framing=framing, digest=False))
    with Wire(origin) as wire:
        wire.send(f"GET /{name} HTTP/1.1\nHost: a\nRange: bytes={start}-{end}")
        response, body = wire.receive()
    assert response.status == 206
    assert response.headers["Content-Range"] == f"bytes {start}-{min(end, size - 1)}/{size}"
    assert body == content.read(start, end - start + 1)


@pytest.mark.parametrize("split", ["whole", "bytes", "random"])
def test_pipelining(origin: RunningOrigin, key: str, split: str) -> None:
    """Requests in one write, in single bytes or cut anywhere get their answers in order."""
    small, big = Content(100, 14), Content(700_000, 15)
    origin.put(f"{key}-small", small, Traits())
    origin.put(f"{key}-big", big, Traits(framing="chunked"))
    names = ["small", "big", "small", "missing", "big", "small"]
    requests = [f"GET /{key}-{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for name in names]
    requests.insert(3, f"PUT /{key}-sent HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello".encode())
    wanted = [small, big, small, None, None, big, small]
    stream = b"".join(requests)
    draw = random.Random(1)
    ends = {
        "whole": [len(stream)],
        "bytes": list(range(1, len(stream) + 1)),
        "random": [*sorted(draw.sample(range(1, len(stream)), 20)), len(stream)],
    }[split]
    with Wire(origin) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in itertools.pairwise([0, *ends]):
            wire.socket.sendall(stream[start:end])
        for content in wanted:
            response, body = wire.receive()
            if content:
                assert body == content.whole()
            else:
                assert response.status in (201, 404)
    assert origin.read(f"{key}-sent") == b"hello"


def test_many_pipelined_requests_to_a_client_that_does_not_read(origin: RunningOrigin, key: str) -> None:
    """A client that only sends is not answered into memory without end, and others are still served."""
    content = Content(200_000, 16)
    origin.put(key, content, Traits())
    before = psutil.Process(origin.pid).memory_info().rss
    count = 500
    with Wire(origin, receive=4096) as wire:
        wire.socket.sendall(f"GET /{key} HTTP/1.1\r\nHost: a\r\n\r\n".encode() * count)
        for _ in range(20):
            assert origin.stat(key)
        assert psutil.Process(origin.pid).memory_info().rss - before < 20 * 2**20
        assert wire.receive()[1] == content.whole()


def test_flow_control(origin: RunningOrigin, key: str) -> None:
    """A large object to a slow reader costs no memory, and arrives."""
    content = Content(64 * 2**20, 17)
    origin.put(key, content, Traits(digest=False))
    before = psutil.Process(origin.pid).memory_info().rss
    with Wire(origin, receive=4096) as wire:
        wire.send(f"GET /{key} HTTP/1.1\nHost: a\nConnection: close")
        for _ in range(20):
            assert origin.stat(key)
        assert psutil.Process(origin.pid).memory_info().rss - before < 24 * 2**20
        assert wire.receive()[1] == content.whole()
        assert wire.ended()


def test_client_that_leaves(origin: RunningOrigin, key: str) -> None:
    """A client that goes away in the middle does not disturb the next."""
    content = Content(8 * 2**20, 18)
    origin.put(key, content, Traits(digest=False))
    for _ in range(5):
        with Wire(origin) as wire:
            wire.send(f"GET /{key} HTTP/1.1\nHost: a")
            assert wire.socket.recv(1000)
    with Wire(origin) as wire:
        wire.send(f"GET /{key} HTTP/1.1\nHost: a")
        assert wire.receive()[1] == content.whole()


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_half_closed_client_gets_its_answer(origin: RunningOrigin, key: str, framing: str) -> None:
    """A client may close its sending half after the request."""
    content = Content(3_000_000, 19)
    origin.put(key, content, Traits(framing=framing, digest=False))
    with Wire(origin) as wire:
        wire.send(f"GET /{key} HTTP/1.1\nHost: a")
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.receive()[1] == content.whole()
        assert wire.ended()


@pytest.mark.parametrize(
    ("version", "connection", "stays"),
    [
        ("1.1", "", True),
        ("1.1", "close", False),
        ("1.1", "keep-alive", True),
        ("1.0", "", False),
        ("1.0", "keep-alive", True),
    ],
)
def test_persistence(origin: RunningOrigin, key: str, version: str, connection: str, stays: bool) -> None:
    """The connection stays or ends as the version and Connection say (RFC 9112 9.3)."""
    origin.put(key, Content(50), Traits())
    with Wire(origin) as wire:
        wire.send(f"GET /{key} HTTP/{version}" + (f"\nConnection: {connection}" if connection else ""))
        response, body = wire.receive()
        assert body == Content(50).whole()
        assert response.headers["Connection"] == (
            "close" if not stays else "keep-alive" if version == "1.0" else None
        )
        if stays:
            wire.send(f"GET /{key} HTTP/1.1\nConnection: close")
            assert wire.receive()[1] == Content(50).whole()
        assert wire.ended()


def test_old_client_gets_no_chunks(origin: RunningOrigin, key: str) -> None:
    """HTTP/1.0 knows no chunked coding: the end of the connection ends the body (RFC 9112 6.1)."""
    origin.put(key, Content(50_000), Traits(framing="chunked"))
    with Wire(origin) as wire:
        wire.send(f"GET /{key} HTTP/1.0\nConnection: keep-alive")
        response, body = wire.receive()
        assert response.headers["Transfer-Encoding"] is None
        assert body == Content(50_000).whole()


@pytest.mark.parametrize("size", [0, 5, 100_000, 2_500_000])
@pytest.mark.parametrize("expect", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
def test_upload(origin: RunningOrigin, key: str, size: int, expect: bool, chunked: bool) -> None:
    """PUT keeps the bytes sent, by length or in chunks, after a 100 when one is asked for."""
    content = Content(size, 20)
    data = content.whole()
    if chunked:
        cut = [data[i : i + 70_000] for i in range(0, size, 70_000)]
        body = b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in cut) + b"0\r\nX: y\r\n\r\n"
        framing = "Transfer-Encoding: chunked"
    else:
        body, framing = data, f"Content-Length: {size}"
    with Wire(origin) as wire:
        wire.send(f"PUT /{key} HTTP/1.1\nHost: a\n{framing}" + ("\nExpect: 100-continue" if expect else ""))
        if expect and (size or chunked):
            assert wire.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.socket.sendall(body)
        response, _ = wire.receive("PUT")
        assert response.status == 201
        wire.send(f"GET /{key} HTTP/1.1\nHost: a")
        got, body = wire.receive()
        assert body == data
        assert got.headers["ETag"] == response.headers["ETag"]
        wire.send(f"DELETE /{key} HTTP/1.1\nHost: a")
        assert wire.receive("DELETE")[0].status == 204
    assert origin.stat(key) is None


def test_upload_preconditions(origin: RunningOrigin, key: str) -> None:
    """A PUT whose condition fails changes nothing, and with Expect is refused before its body."""
    origin.put(key, Content(10), Traits())
    with Wire(origin) as wire:
        wire.send(f"PUT /{key} HTTP/1.1\nIf-None-Match: *\nContent-Length: 3", b"abc")
        assert wire.receive("PUT")[0].status == 412
        wire.send(f'PUT /{key} HTTP/1.1\nIf-Match: "x"\nContent-Length: 3\nExpect: 100-continue')
        response, _ = wire.receive("PUT")
        assert response.status == 412
        assert wire.ended()
    assert origin.read(key) == Content(10).whole()


def test_upload_that_breaks_off(origin: RunningOrigin, key: str) -> None:
    """A plain PUT whose connection ends before its last byte leaves no object, however it ends."""
    for length, body in ((10, b"012345678"), (10, b""), (None, b"5\r\n01234\r\n")):
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        with Wire(origin) as wire:
            wire.send(f"PUT /{key} HTTP/1.1\n{framing}", body)
            wire.socket.shutdown(socket.SHUT_WR)
            assert wire.ended()
    assert origin.stat(key) is None
    assert origin.made(key) == []


INTEROP = "Upload-Draft-Interop-Version: 8"
APPEND = "Content-Type: application/partial-upload\nUpload-Complete: ?0"


def head_of(wire: Wire) -> dict[str, str]:
    """The next head, interim or not, as fields; the status line is under the empty name."""
    raw = b""
    while not raw.endswith(b"\r\n\r\n"):
        raw += wire.socket.recv(1)
    line, *fields = raw.decode().strip().split("\r\n")
    return {"": line, **dict(field.split(": ", 1) for field in fields)}


@pytest.mark.parametrize("expect", [True, False])
def test_resumable_upload_on_the_wire(origin: RunningOrigin, key: str, expect: bool) -> None:
    """A 104 comes before the content is sent, a 100 after it; what arrived before a break is kept."""
    data = Content(100_000, 5).whole()
    asked = "\nExpect: 100-continue" if expect else ""
    with Wire(origin) as wire:
        wire.send(f"PUT /{key} HTTP/1.1\n{INTEROP}\nUpload-Complete: ?1\nContent-Length: {len(data)}{asked}")
        interim = head_of(wire)
        assert interim[""] == "HTTP/1.1 104 Upload Resumption Supported"
        if expect:
            assert head_of(wire) == {"": "HTTP/1.1 100 Continue"}
        wire.socket.sendall(data[:60_000])
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.ended()
    (left,) = origin.unfinished(key)
    assert (left.key, left.protocol, left.offset, left.length) == (key, "ietf", 60_000, 100_000)
    assert origin.stat(key) is None
    upload = interim["Location"]
    assert upload.endswith(left.id)
    with Wire(origin) as wire:
        wire.send(f"HEAD {upload} HTTP/1.1")
        assert head_of(wire)["Upload-Offset"] == "60000"
        wire.send(
            f"PATCH {upload} HTTP/1.1\nContent-Type: application/partial-upload\nUpload-Complete: ?1\n"
            "Upload-Offset: 60000\nContent-Length: 40000",
            data[60_000:],
        )
        response, _ = wire.receive("PATCH")
        assert (response.status, response.headers["Upload-Complete"]) == (201, "?1")
    assert origin.read(key) == data
    assert origin.unfinished(key) == []
    assert [made.by for made in origin.made(key)] == ["ietf"]


def test_an_append_yields_to_a_later_request(origin: RunningOrigin, key: str) -> None:
    """A request that still appends is ended when somebody asks for the offset, which then holds."""
    with Wire(origin) as wire, Wire(origin) as other:
        wire.send(f"PUT /{key} HTTP/1.1\nUpload-Complete: ?0\nContent-Length: 3", b"012")
        upload = head_of(wire)["Location"]
        wire.send(f"PATCH {upload} HTTP/1.1\n{APPEND}\nUpload-Offset: 3\nContent-Length: 90", b"345")
        while origin.uploads(key)[0].offset < 6:
            pass
        other.send(f"HEAD {upload} HTTP/1.1")
        assert head_of(other)["Upload-Offset"] == "6"
        assert wire.receive("PATCH")[0].status == 409
        assert wire.ended()
        other.send(f"PATCH {upload} HTTP/1.1\n{APPEND}\nUpload-Offset: 6\nContent-Length: 1", b"6")
        assert head_of(other)[""] == "HTTP/1.1 204 No Content"


class Half(asyncio.Transport):
    """A transport that keeps what is written; one that was `reset` has no direction left to end."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset, self.written, self.aborted = reset, b"", False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def write_eof(self) -> None:
        if self.reset:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize("reset", [True, False])
def test_a_later_request_is_answered_whatever_became_of_the_one_before(reset: bool) -> None:
    """The connection that has to yield may have been reset a moment ago; the later one is answered."""

    async def run() -> tuple[Half, Half]:
        application = Application(Objects(), "/_control/secret")
        earlier, later = Half(reset=reset), Half()
        first, second = Connection(application), Connection(application)
        first.connection_made(earlier)
        second.connection_made(later)
        create = "POST /k HTTP/1.1\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 9\r\nContent-Length: 0\r\n\r\n"
        second.data_received(create.encode())
        upload = re.search(r"Location: (\S+)", later.written.decode())
        assert upload
        patch = f"PATCH {upload[1]} HTTP/1.1\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
        patch += f"Content-Type: {MEDIA_TYPE}\r\nContent-Length: 9\r\n\r\n"
        first.data_received(patch.encode() + b"012")
        later.written = b""
        second.data_received(f"HEAD {upload[1]} HTTP/1.1\r\nTus-Resumable: 1.0.0\r\n\r\n".encode())
        return earlier, later

    earlier, later = asyncio.run(run())
    assert b"Upload-Offset: 3" in later.written
    assert not later.aborted
    assert earlier.written.startswith(b"HTTP/1.1 409 ")
    assert earlier.aborted is reset


def test_uploads_out_of_band(origin: RunningOrigin, key: str) -> None:
    """The harness sees every upload, may shorten one and limit those to come, and knows what was made."""
    origin.put(key, Content(10), Traits())
    origin.limit_uploads(key, max_size=8)
    with Wire(origin) as wire:
        wire.send(f"POST /{key} HTTP/1.1\nTus-Resumable: 1.0.0\nUpload-Length: 9\nContent-Length: 0")
        assert wire.receive("POST")[0].status == 413
        wire.send(
            f"POST /{key} HTTP/1.1\nTus-Resumable: 1.0.0\nUpload-Length: 8\nContent-Length: 5\n"
            "Content-Type: application/offset+octet-stream",
            b"01234",
        )
        upload = head_of(wire)["Location"]
        (info,) = origin.uploads(key)
        assert (info.protocol, info.offset, info.state) == ("tus", 5, "open")
        origin.shorten_upload(info.id, 2)
        wire.send(f"HEAD {upload} HTTP/1.1\nTus-Resumable: 1.0.0")
        assert head_of(wire)["Upload-Offset"] == "2"
        wire.send(
            f"PATCH {upload} HTTP/1.1\nTus-Resumable: 1.0.0\nUpload-Offset: 2\nContent-Length: 6\n"
            "Content-Type: application/offset+octet-stream",
            b"234567",
        )
        assert head_of(wire)["Upload-Offset"] == "8"
    assert origin.read(key) == b"01234567"
    assert [upload.state for upload in origin.uploads(key)] == ["complete"]
    assert [(made.size, made.by) for made in origin.made(key)] == [(10, "harness"), (8, "tus")]
    with pytest.raises(UsageError, match="_uploads"):
        origin.put("_uploads/x", Content(1), Traits())


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/2.0", 505),
        ("nonsense", 400),
        ("GET /a b HTTP/1.1", 400),
        ("PUT /x HTTP/1.1\nContent-Length: 1\nTransfer-Encoding: chunked", 400),
        ("PUT /x HTTP/1.1\nContent-Length: -1", 400),
        ("PUT /x HTTP/1.1\nContent-Length: 1\nContent-Length: 2", 400),
        ("PUT /x HTTP/1.1\nTransfer-Encoding: gzip", 400),
        ("GET /x HTTP/1.1\nX: " + "y" * 300_000, 431),
    ],
)
def test_bad_requests_end_the_connection(origin: RunningOrigin, head: str, status: int) -> None:
    """What cannot be read is refused, and nothing after it is believed."""
    with Wire(origin) as wire:
        wire.send(head)
        assert wire.receive()[0].status == status
        assert wire.socket.recv(10) == b""


def test_refusal_arrives_while_the_client_sends(origin: RunningOrigin, key: str) -> None:
    """A refused upload that is sent all the same still finds its answer, not a reset."""
    origin.put(key, Content(10), Traits())
    with Wire(origin) as wire:
        wire.send(
            f"PUT /{key} HTTP/1.1\nIf-None-Match: *\nContent-Length: 5000000\nExpect: 100-continue",
            bytes(5_000_000),
        )
        assert wire.receive("PUT")[0].status == 412
        assert wire.ended()


def test_other_methods(origin: RunningOrigin, key: str) -> None:
    """Methods the origin has no use for are 405, with those it has, and the connection stays."""
    with Wire(origin) as wire:
        for method in ("POST", "TRACE", "PATCH"):
            wire.send(f"{method} /{key} HTTP/1.1\nContent-Length: 2", b"{}")
            response, _ = wire.receive(method)
            assert response.status == 405
            assert "GET" in response.headers["Allow"]


def test_absolute_form_and_query(origin: RunningOrigin, key: str) -> None:
    """A target in absolute form names the same object, and a query is no part of its name."""
    origin.put(key, Content(9), Traits())
    with Wire(origin) as wire:
        wire.send(f"GET http://elsewhere/{key}?a=b HTTP/1.1\nHost: a")
        assert wire.receive()[1] == Content(9).whole()


def test_control_needs_its_secret(origin: RunningOrigin, key: str) -> None:
    """A driver cannot reach what is out of band."""
    with Wire(origin) as wire:
        for path in ("/_control/put", "/_control/", "/_control/0000/keys"):
            wire.send(f"POST {path} HTTP/1.1\nContent-Length: 2", b"{}")
            assert wire.receive()[0].status == 405
            wire.send(f"GET {path} HTTP/1.1")
            assert wire.receive()[0].status == 404
    with pytest.raises(UsageError, match="_control"):
        origin.put("_control/x", Content(1), Traits())
    assert MEMBER.operation("GET", "/_control/0000/keys", {}) == "other"


def test_generation_there_is_none_of(origin: RunningOrigin, key: str) -> None:
    """Content that cannot be made is an error at once, and the origin goes on."""
    with pytest.raises(HarnessError):
        origin.put(key, Content(10, 1, 99), Traits())
    origin.put(key, Content(10), Traits())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "file.bin").write_bytes(Content(1_500_000, 21).whole())
    (root / "empty").write_bytes(b"")
    (tmp_path / "secret").write_text("secret")
    (root / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(root / "pipe")
    return root


def test_folder(folder: Path, tmp_path: Path) -> None:
    """Files of a folder are objects; nothing outside it, no folder and no pipe is."""
    running = MEMBER.serve(tmp_path / "data", folder)
    try:
        content = Content(1_500_000, 21)
        with Wire(running) as wire:
            wire.send("GET /sub/file.bin HTTP/1.1\nHost: a")
            first, body = wire.receive()
            assert body == content.whole()
            etag = first.headers["ETag"]
            wire.send(f"GET /sub/file.bin HTTP/1.1\nRange: bytes=999999-\nIf-Match: {etag}")
            assert wire.receive()[1] == content.read(999_999, 1_500_000)
            wire.send("GET /empty HTTP/1.1")
            assert wire.receive()[1] == b""
            for bad in (
                "/../secret",
                "/%2e%2e/secret",
                "/link",
                "/sub",
                "/pipe",
                "/%00",
                "//etc/passwd",
                "/",
            ):
                wire.send(f"GET {bad} HTTP/1.1")
                assert wire.receive()[0].status == 404
            replacement = folder / "new"
            replacement.write_bytes(b"new")
            replacement.rename(folder / "sub" / "file.bin")
            wire.send(f"GET /sub/file.bin HTTP/1.1\nRange: bytes=1-\nIf-Match: {etag}")
            assert wire.receive()[0].status == 412
        assert "sub/file.bin" in running.keys()  # noqa: SIM118 - a store is no mapping
    finally:
        running.stop()
    assert folder.is_dir()


def test_file_that_shrinks(folder: Path, tmp_path: Path) -> None:
    """A response that cannot be completed is broken off, not padded."""
    file = folder / "big"
    file.write_bytes(bytes(32 * 2**20))
    running = MEMBER.serve(tmp_path / "data", folder)
    try:
        with Wire(running, receive=4096) as wire:
            wire.send("GET /big HTTP/1.1\nHost: a")
            assert wire.socket.recv(10, socket.MSG_PEEK)
            os.truncate(file, 100)
            with pytest.raises((ConnectionError, http.client.IncompleteRead)):
                wire.receive()
    finally:
        running.stop()


@given(st.binary(max_size=300), st.randoms(use_true_random=False))
def test_request_body_in_pieces(data: bytes, draw: random.Random) -> None:
    """A chunked body is the same however it is cut on the wire, and what follows it is left alone."""
    cuts = sorted(draw.choices(range(len(data) + 1), k=3))
    parts = [data[a:b] for a, b in itertools.pairwise([0, *cuts, len(data)]) if b > a]
    stream = b"".join(b"%X\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\nNEXT"
    body, buffer, done = RequestBody(None), bytearray(), False
    for byte in stream:
        buffer.append(byte)
        done = done or body.feed(buffer)
    assert done
    assert bytes(body.data) == data
    assert bytes(buffer) == b"NEXT"


def test_request_body_that_is_none() -> None:
    """A chunk size line without end is given up."""
    with pytest.raises(BadRequest):
        RequestBody(None).feed(bytearray(b"x" * 5000))
