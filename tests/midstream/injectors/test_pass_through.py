"""What the embedded injector lets through: every byte of both directions, and both ends."""

from __future__ import annotations

import os
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from midstream.injectors import RunningInjector, _sockets
from midstream.testing.injectors import Stage, layout, request, stage
from midstream.testing.wire import Peer, Received, Script, ScriptedOrigin, origin

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPLOAD = random.Random(5).randbytes((1 << 20) + 4321)


def answers(*raw: bytes) -> Script:
    """Reads one request, body and all, for each answer, and stays until the client has gone."""

    def script(peer: Peer) -> None:
        for one in raw:
            head = peer.head()
            if head is None:
                return
            peer.body(head)
            peer.send(one)
        peer.more()

    return script


def chunked(data: bytes, size: int) -> bytes:
    parts = [data[i : i + size] for i in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_keep_alive(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Exchanges follow one another on one connection to the store."""
    before = store.accepted
    with stage(running, store) as on:
        client = on.connect()
        for size in (5, 0, 300_000, 2_000_000, 1):
            for framing in ("length", "chunked"):
                client.send(request(f"/{framing}?size={size}"))
                want = layout(f"/{framing}?size={size}").wire
                assert client.take(len(want)) == want
        facts = on.facts()
    assert store.accepted == before + 1
    assert facts.connections == 1
    assert [e.end for e in facts.exchanges] == ["complete"] * 10
    assert not facts.trouble


def test_pipelined_requests(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Several requests in one segment are answered in order, bodies in between included."""
    targets = [f"/length?size={n}" for n in (10, 0, 70_000)]
    stream = b"".join(request(t) for t in targets)
    stream += request(targets[0], "PUT", "Content-Length: 5\r\n") + b"hello" + request(targets[1])
    with stage(running, store) as on:
        client = on.connect()
        client.send(stream)
        for target in [*targets, targets[0], targets[1]]:
            want = layout(target).wire
            assert client.take(len(want)) == want
        facts = on.facts()
    assert [e.method for e in facts.exchanges] == ["GET", "GET", "GET", "PUT", "GET"]


@pytest.mark.parametrize("pieces", [1, 3])
def test_requests_in_pieces(running: RunningInjector, store: ScriptedOrigin, pieces: int) -> None:
    """A request may come byte by byte."""
    with stage(running, store) as on:
        client = on.connect()
        raw = request("/length?size=9")
        for i in range(0, len(raw), pieces):
            client.send(raw[i : i + pieces])
        assert client.take(len(layout("/length?size=9").wire)) == layout("/length?size=9").wire


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: "a"\r\n\r\n'),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK),
        ("GET", b"HTTP/1.1 200 OK\nX-Odd:  a\n b\ncontent-LENGTH: 2\n\nok"),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nT: 1\r\n\r\n"),
    ],
)
def test_odd_messages(running: RunningInjector, method: str, raw: bytes) -> None:
    """Messages without a body, interim ones and odd spelling pass unchanged, and the next one is found."""
    with origin(answers(raw, OK)) as store, stage(running, store) as on:
        client = on.connect()
        client.send(request("/a", method))
        assert client.take(len(raw)) == raw
        client.send(request("/b"))
        assert client.take(len(OK)) == OK
        facts = on.facts()
    assert [(e.end, e.wire) for e in facts.exchanges] == [("complete", len(raw)), ("complete", len(OK))]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("expect", [False, True])
def test_request_bodies(running: RunningInjector, framing: str, expect: bool) -> None:
    """An upload arrives byte for byte, with or without waiting for a 100."""
    body = UPLOAD if framing == "length" else chunked(UPLOAD, 10_007)
    field = f"Content-Length: {len(UPLOAD)}\r\n" if framing == "length" else "Transfer-Encoding: chunked\r\n"
    field += "Expect: 100-continue\r\n" if expect else ""
    got: list[bytes] = []

    def script(peer: Peer) -> None:
        for _ in range(2):
            head = peer.head()
            assert head
            if expect:
                assert not peer.buffer
                peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            got.append(head.raw + peer.body(head))
            peer.send(OK)
        peer.more()

    with origin(script) as store, stage(running, store) as on:
        client = on.connect()
        for _ in range(2):
            client.send(request("/k", "PUT", field))
            if expect:
                assert client.take(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(body)
            assert client.take(len(OK)) == OK
        facts = on.facts()
    assert got == [request("/k", "PUT", field) + body] * 2
    assert [e.end for e in facts.exchanges] == ["complete"] * 2


def test_an_expectation_that_is_refused(running: RunningInjector) -> None:
    """Told no instead of to continue, a client does not send the body and goes on with its next request."""
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"

    def script(peer: Peer) -> None:
        assert peer.head()
        peer.send(refusal)
        head = peer.head()
        assert head
        assert head.request == ("GET", "/next")
        peer.send(OK)
        peer.more()

    with origin(script) as store, stage(running, store) as on:
        client = on.connect()
        client.send(request("/k", "PUT", "Content-Length: 100000\r\nExpect: 100-continue\r\n"))
        assert client.take(len(refusal)) == refusal
        client.send(request("/next"))
        assert client.take(len(OK)) == OK
        facts = on.facts()
    assert [e.status for e in facts.exchanges] == [403, 200]


def test_an_early_answer_on_a_connection_that_lives(running: RunningInjector) -> None:
    """A final response that comes before the upload is through: the rest of the upload still arrives."""
    got: list[bytes] = []

    def script(peer: Peer) -> None:
        head = peer.head()
        assert head
        peer.send(OK)
        got.append(peer.body(head))
        assert peer.head()
        peer.send(OK)
        peer.more()

    with origin(script) as store, stage(running, store) as on:
        client = on.connect()
        client.send(request("/k", "PUT", f"Content-Length: {len(UPLOAD)}\r\n") + UPLOAD[:1000])
        assert client.take(len(OK)) == OK
        client.send(UPLOAD[1000:])
        client.send(request("/next"))
        assert client.take(len(OK)) == OK
        facts = on.facts()
    assert got == [UPLOAD]
    assert [e.end for e in facts.exchanges] == ["complete"] * 2


def test_an_early_answer_and_an_end(running: RunningInjector) -> None:
    """A store that answers early and ends: the client has both at once, and its upload is still read."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    got: list[bytes] = []

    def script(peer: Peer) -> None:
        head = peer.head()
        assert head
        peer.send(refusal)
        peer.sock.shutdown(socket.SHUT_WR)
        got.append(peer.body(head))

    with origin(script) as store, stage(running, store) as on:
        client = on.connect()
        client.send(request("/k", "PUT", f"Content-Length: {len(UPLOAD)}\r\n") + UPLOAD[:1000])
        assert client.rest() == Received(refusal, "eof")
        client.send(UPLOAD[1000:])
        client.sock.shutdown(socket.SHUT_WR)
        store.settle()
        facts = on.facts()
    assert got == [UPLOAD]
    assert [(e.status, e.end) for e in facts.exchanges] == [(413, "complete")]


def test_an_early_answer_and_a_reset(running: RunningInjector) -> None:
    """A store that answers early and goes: the answer arrives whole, then the client's upload is refused."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    def script(peer: Peer) -> None:
        assert peer.head()
        peer.send(refusal)

    with origin(script) as store, stage(running, store) as on:
        client = on.connect()
        client.send(request("/k", "PUT", "Content-Length: 1000000000\r\n"))
        assert client.take(len(refusal)) == refusal
        with pytest.raises(ConnectionError):
            client.send(bytes(1 << 28))  # far more than buffers hold
        assert [e.end for e in on.facts().exchanges] == ["complete"]


@pytest.mark.parametrize("header", [b"Connection: close\r\n", b""])
def test_a_store_that_closes_after_each_response(running: RunningInjector, header: bytes) -> None:
    """The client sees the end after each response and comes again."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + header + b"\r\nok"

    def script(peer: Peer) -> None:
        if peer.head():
            peer.send(answer)

    with origin(script) as store, stage(running, store) as on:
        for _ in range(3):
            assert on.ask("/k").rest() == Received(answer, "eof")
        facts = on.facts()
    assert [e.end for e in facts.exchanges] == ["complete"] * 3
    assert not facts.trouble


def test_a_pipelined_request_after_the_store_has_closed(running: RunningInjector) -> None:
    """Nobody answers a second request when the store ends after the first; that is no trouble of ours."""
    ended = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(OK[:-2])
        peer.sock.shutdown(socket.SHUT_WR)
        ended.set()
        peer.more()

    with origin(script) as store, stage(running, store) as on:
        client = on.connect()
        client.send(request("/a", "HEAD") + request("/b"))
        assert ended.wait(30)
        assert client.rest() == Received(OK[:-2], "eof")
        facts = on.facts()
    assert not [t for t in facts.trouble if "request 1" in t]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [3000, 2_000_000])
@pytest.mark.parametrize("reset", [False, True])
def test_a_store_that_dies_in_a_response(
    running: RunningInjector, framing: str, size: int, reset: bool
) -> None:
    """The client gets the same bytes and the same ending as the store gave, and the evidence says so."""
    want = layout(f"/{framing}?size={size}").wire[: size * 2 // 3]
    sent = threading.Event()

    def script(peer: Peer) -> None:
        assert peer.head()
        peer.send(want)
        assert sent.wait(30)
        if reset:
            peer.reset()

    with origin(script) as store, stage(running, store) as on:
        client = on.ask(f"/{framing}?size={size}")
        assert client.take(len(want)) == want
        sent.set()
        assert client.rest() == Received(b"", "reset" if reset else "eof")
        facts = on.facts()
    (exchange,) = facts.exchanges
    assert exchange.wire == len(want)
    if framing == "close" and not reset:
        assert (exchange.end, facts.trouble) == ("complete", [])
    else:
        assert exchange.end == "upstream-closed"
        assert facts.trouble == ["the store ended the response to request 1 early"]


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_a_store_that_dies_before_a_head(running: RunningInjector, part: bytes) -> None:
    """A head that never completes passes as far as it came, and is trouble."""

    def script(peer: Peer) -> None:
        assert peer.head()
        peer.send(part)

    with origin(script) as store, stage(running, store) as on:
        assert on.ask("/k").rest() == Received(part, "eof")
        facts = on.facts()
    assert len(facts.trouble) == 1
    assert "note" in [e.kind for e in on.watch.events]


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize(
    "head", [b"Content-Length: 64000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3d09000\r\n"]
)
def test_a_client_that_leaves_in_a_response(running: RunningInjector, head: bytes, silent: bool) -> None:
    """The store sees the end of its connection, also while it says nothing, the evidence how far it was."""
    ended: list[str] = []

    def script(peer: Peer) -> None:
        assert peer.head()
        try:
            peer.send(b"HTTP/1.1 200 OK\r\n" + head + bytes(500_000 if silent else 64_000_000))
            peer.more()
        finally:
            ended.append("ended")

    with origin(script) as store, stage(running, store) as on:
        client = on.ask("/k")
        client.take(1000)
        client.reset()
        on.until("client-left")
        assert on.until("sent").data["end"] == "client-left"
        store.settle()
    assert ended == ["ended"]


def test_a_client_that_leaves_before_an_answer(running: RunningInjector) -> None:
    """A store that drops the request of a client that has gone is not accused of ending early."""
    there, gone = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        head = peer.head()
        assert head
        peer.body(head)
        there.set()
        assert gone.wait(30)

    with origin(script) as store, stage(running, store) as on:
        client = on.connect()
        client.send(request("/k", "PUT", "Content-Length: 10\r\n") + b"x" * 10)
        assert there.wait(30)
        client.close()
        gone.set()
        assert on.until("sent").data["end"] == "client-left"
        store.settle()
    assert not on.facts().trouble


def test_a_client_that_leaves_in_its_upload(running: RunningInjector) -> None:
    """A reset in the middle of an upload reaches the store, which would wait for the rest for ever."""
    seen: list[int] = []
    ended = threading.Event()

    def script(peer: Peer) -> None:
        head = peer.head()
        assert head
        try:
            seen.append(len(peer.body(head)))
        finally:
            ended.set()

    with origin(script) as store, stage(running, store) as on:
        client = on.connect()
        client.send(request("/k", "PUT", "Content-Length: 1000\r\n") + b"x" * 10)
        on.until("request")
        client.reset()
        assert ended.wait(30)
        assert on.until("sent").data["end"] == "client-left"
    assert seen in ([10], [])


@pytest.mark.parametrize("size", [100, 2_000_000])
def test_a_client_that_half_closes(running: RunningInjector, store: ScriptedOrigin, size: int) -> None:
    """A client that has no more to say still gets its response, whole."""
    with stage(running, store) as on:
        client = on.connect()
        client.send(request(f"/length?size={size}"))
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == Received(layout(f"/length?size={size}").wire, "eof")
        facts = on.facts()
    assert [e.end for e in facts.exchanges] == ["complete"]


def test_a_client_that_half_closes_its_upload(running: RunningInjector) -> None:
    """An upload that ends early ends early for the store, whose answer still arrives."""

    def script(peer: Peer) -> None:
        head = peer.head()
        assert head
        assert peer.body(head) == b"x" * 10
        peer.send(b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")

    with origin(script) as store, stage(running, store) as on:
        client = on.connect()
        client.send(request("/k", "PUT", "Content-Length: 1000\r\n") + b"x" * 10)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == Received(b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n", "eof")


def test_parallel_connections(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Eight clients at once each get their own bytes."""

    def work(on: Stage, number: int) -> None:
        client = on.connect()
        for turn in range(5):
            framing = ("length", "chunked")[(number + turn) % 2]
            target = f"/{framing}?size={[10, 70_000, 1_500_000][(number * turn) % 3]}"
            client.send(request(target))
            want = layout(target).wire
            assert client.take(len(want)) == want

    with stage(running, store) as on, ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, on, number) for number in range(8)]:
            done.result()
        facts = on.facts()
    assert facts.connections == 8
    assert [e.end for e in facts.exchanges] == ["complete"] * 40


@pytest.mark.parametrize("fault", [(), ("GET cut@2500000:rst",), ("GET cut@100:rst",)])
@pytest.mark.parametrize("framing", ["length", "close"])
def test_far_from_a_fault_nothing_is_copied(
    running: RunningInjector,
    store: ScriptedOrigin,
    monkeypatch: pytest.MonkeyPatch,
    fault: tuple[str, ...],
    framing: str,
) -> None:
    """Large bodies go through a kernel pipe up to the fault, and the bytes are the same."""
    moved = 0
    real = os.splice

    def counting(source: int, sink: int, count: int, flags: int = 0) -> int:
        nonlocal moved
        n = real(source, sink, count, flags=flags)
        moved += n
        return n

    monkeypatch.setattr(_sockets.os, "splice", counting)
    want = layout(f"/{framing}?size=3000000")
    end = want.byte(int(fault[0].split("@")[1].split(":")[0])) if fault else len(want.wire)
    with stage(running, store, *fault, size=3_000_000) as on:
        client = on.ask(f"/{framing}?size=3000000")
        assert client.take(end) == want.wire[:end]
        facts = on.facts()
    assert facts.exchanges[0].wire == end
    # Twice: into the pipe and out of it. The first read, and what is near the fault, is copied.
    assert (moved > 2 * 1_500_000) is (end > 1_000_000)
