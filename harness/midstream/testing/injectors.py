"""The contract every injector keeps: what it says it carries, it carries out to the byte.

    from midstream.testing.injectors import InjectorContract

    class TestMyInjector(InjectorContract):
        injector = "my-injector"  # a member of the injectors family

Tests of verbs that the injector does not carry are skipped. The origin behind it is scripted, the client in
front of it reads raw sockets, and what either end must see is computed from the layout of the message, not
with the code under test.
"""

from __future__ import annotations

import bisect
import random
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from midstream._content import Content
from midstream._evidence import Event, Exchange, Facts, fold
from midstream._registry import load
from midstream._schedule import Schedule
from midstream._verbs import Close, Hold, Pace, Refuse, Respond
from midstream.injectors import Injector, Plan, RunningInjector, Session
from midstream.testing.wire import Peer, Received, ScriptedOrigin, Watch

GENERATION = Content(1 << 30, 11)


@dataclass(frozen=True)
class Layout:
    """A response as the scripted origin sends it, and where its payload lies."""

    head: bytes
    payload: bytes
    chunk: int = 0  # 0: not chunked
    trailer: bytes = b""
    wire: bytes = field(init=False)
    _starts: list[int] = field(init=False)  # wire byte of the first payload byte of each chunk

    def __post_init__(self) -> None:
        starts, parts, at = [], [self.head], len(self.head)
        for start in range(0, len(self.payload), self.chunk or len(self.payload)) if self.payload else ():
            data = self.payload[start : start + (self.chunk or len(self.payload))]
            line = b"%x\r\n" % len(data) if self.chunk else b""
            starts.append(at + len(line))
            parts += [line, data, b"\r\n" if self.chunk else b""]
            at += len(line) + len(data) + (2 if self.chunk else 0)
        if self.chunk:
            parts.append(b"0\r\n" + self.trailer + b"\r\n")
        object.__setattr__(self, "wire", b"".join(parts))
        object.__setattr__(self, "_starts", starts)

    def byte(self, k: int) -> int:
        """The wire byte of payload byte `k`."""
        size = self.chunk or max(1, len(self.payload))
        return self._starts[k // size] + k % size

    def payload_before(self, wire: int) -> int:
        """How many of the first `wire` bytes are payload."""
        size = self.chunk or len(self.payload)
        chunks = bisect.bisect_right(self._starts, wire)
        if not chunks:
            return 0
        return min(len(self.payload), (chunks - 1) * size + min(size, wire - self._starts[chunks - 1]))

    @property
    def last_chunk(self) -> int:
        return len(self.wire) - len(self.trailer) - 5


def layout(target: str) -> Layout:
    """The response to `/FRAMING?size=N[&base=B&total=T][&chunk=C]`, FRAMING length, chunked or close."""
    parts = urlsplit(target)
    query = {name: int(values[0]) for name, values in parse_qs(parts.query).items()}
    framing, size, base = parts.path.strip("/"), query["size"], query.get("base", 0)
    fields = {
        "length": b"Content-Length: %d\r\n" % size,
        "chunked": b"Transfer-Encoding: chunked\r\n",
        "close": b"Connection: close\r\n",
    }[framing]
    status = b"200 OK"
    if "total" in query:
        status = b"206 Partial Content"
        fields += b"Content-Range: bytes %d-%d/%d\r\n" % (base, base + size - 1, query["total"])
    head = b"HTTP/1.1 " + status + b"\r\nServer: scripted\r\n" + fields + b'ETag: "x"\r\n\r\n'
    return Layout(head, GENERATION.read(base, size), query.get("chunk", 4096) if framing == "chunked" else 0)


def objects(peer: Peer) -> None:
    """A script that answers every request with its layout, HEAD with the head alone."""
    while head := peer.head():
        method, target = head.request
        peer.body(head)
        answer = layout(target)
        peer.send(answer.head if method == "HEAD" else answer.wire)
        if target.startswith("/close"):
            return


def operation(method: str, target: str, headers: object) -> str:
    return {"GET": "get_object", "HEAD": "head_object"}.get(method, "other")


class Stage:
    """One session of the injector under test, with a scripted origin behind it."""

    def __init__(self, session: Session, watch: Watch) -> None:
        self.session = session
        self.watch = watch
        self.port = int(session.url.rsplit(":", 1)[1])
        self.clients: list[Peer] = []

    def connect(self, receive_buffer: int | None = None) -> Peer:
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            sock.connect(("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        peer = Peer(sock)
        self.clients.append(peer)
        return peer

    def ask(self, target: str, method: str = "GET", **options: Any) -> Peer:
        """Connect and send a request."""
        peer = self.connect(**options)
        peer.send(request(target, method))
        return peer

    def until(self, kind: str, count: int = 1) -> Event:
        return self.watch.until(kind, count)

    def facts(self) -> Facts:
        """Close the clients, end the session, fold its evidence."""
        for peer in self.clients:
            peer.close()
        return fold(self.session.close())


def request(target: str, method: str = "GET", fields: str = "") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: store\r\n{fields}\r\n".encode()


@contextmanager
def stage(
    running: RunningInjector, upstream: ScriptedOrigin | tuple[str, int], *specs: str, size: int | None = None
) -> Iterator[Stage]:
    """Open a session with the fault lines `specs`."""
    address = upstream if isinstance(upstream, tuple) else upstream.address
    watch = Watch()
    plan = Plan(address, Schedule.parse(specs), operation, size, on_event=watch)
    opened = Stage(running.open(plan), watch)
    try:
        yield opened
    finally:
        opened.facts()


Reader = Callable[[Stage, Peer], Received]


def fast(_: Stage, peer: Peer) -> Received:
    return peer.rest()


def slow(_: Stage, peer: Peer) -> Received:
    """Reads 4 KiB at a time."""
    return peer.rest(4096)


def late(on: Stage, peer: Peer) -> Received:
    """Reads nothing until the fault has fired; only for what fits into the kernel's buffers."""
    on.until("fault")
    return peer.rest()


def only(events: Sequence[Exchange]) -> Exchange:
    assert len(events) == 1
    return events[0]


@dataclass(frozen=True)
class Cut:
    """One cut: a position and the wire byte it must mean."""

    target: str
    position: str
    wire: int
    size: int | None = None
    reader: Reader = fast
    receive_buffer: int | None = None

    @classmethod
    def draw(cls, draw: random.Random) -> Cut:
        """Any framing, size, position and reader."""
        sizes = (0, 1, 2, 100, 4096, 65_536, 100_001, 1 << 20, 4 << 20)
        size = draw.choices(sizes, (4, 4, 4, 8, 8, 8, 8, 4, 1))[0]
        framing = draw.choice(("length", "chunked", "close"))
        target = f"/{framing}?size={size}"
        if framing == "chunked":
            chunks = (1, 7, 4096, 65_536, 1 << 20) if size < 1000 else (4096, 65_537)
            target += f"&chunk={draw.choice(chunks)}"
        base, total = 0, size
        if framing == "length" and size and draw.random() < 0.25:
            base = draw.randrange(1, 1 << 20)
            total = base + size + draw.choice((0, 1, 1000))
            target += f"&base={base}&total={total}"
        shape = layout(target)
        end = len(shape.wire)
        k = draw.choice((0, 1, size - 1, draw.randrange(size))) if size else 0
        k = min(max(k, 0), max(size - 1, 0))
        options = [
            (f"wire+{(w := draw.randrange(end + 1))}", w),
            ("end", end),
            (f"end-{(n := draw.randrange(min(end, 1 << 16)))}", end - n),
            ("status-line", shape.wire.index(b"\n") // 2 + (shape.wire.index(b"\n") % 2)),
            ("headers", shape.wire.index(b"\n", shape.wire.index(b"\n") + 1) + 1),
            ("last-header", len(shape.head) - 2),
            (f"last-header+{(m := draw.randrange(3))}", len(shape.head) - 2 + m),
            (f"body+{size}", shape.last_chunk if shape.chunk else end),
            (f"head+{(h := draw.randrange(len(shape.head)))}", h),
        ]
        if size:
            at = shape.byte(k)
            options += [(str(base + k), at), (f"body+{k}", at)] * 4
            if k:
                options += [(f"{base + k - 1}+1", at), (f"body+{k - 1}+1", at)]
            options += [(f"{base + k + 1}-1", at)]
            if not base:
                percent = draw.randrange(100)
                options += [(f"{percent}%", shape.byte(size * percent // 100))]
            if shape.chunk:
                first = min(shape.chunk, size)
                boundary = shape.byte(0) + first + 2
                options += [("chunk-boundary", boundary), ("chunk-boundary-1", boundary - 1)]
                options += [("chunk-header", boundary + 1), ("last-chunk", shape.last_chunk)]
                options += [("trailer", shape.last_chunk + 3), ("trailer-2", shape.last_chunk + 1)]
        if base + size == total:
            options += [(str(total), end), ("100%", end)]
        position, wire = draw.choice(options)
        reader, buffer = draw.choice(((fast, None), (slow, None), (fast, 4096), (late, None)))
        if buffer and wire > 1 << 18:
            buffer = None  # minutes of tiny windows prove no more
        if reader is late and wire > 1 << 15:
            reader = slow
        return cls(target, position, wire, None if base else size, reader, buffer)


class InjectorContract:
    """Subclass it and name the injector."""

    injector: ClassVar[str]
    trials: ClassVar[int] = 100  # of each ending
    batches: ClassVar[int] = 1  # test items the trials are spread over

    @pytest.fixture(scope="class")
    @classmethod
    def kind(cls) -> Injector:
        kind: Injector = load("injectors", cls.injector)
        here = kind.available()
        if not here.available:
            pytest.skip(f"{here.reason}; {here.hint}")
        return kind

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, kind: Injector) -> Iterator[RunningInjector]:
        running = kind.start()
        yield running
        running.stop()

    @pytest.fixture(scope="class")
    @classmethod
    def store(cls) -> Iterator[ScriptedOrigin]:
        store = ScriptedOrigin(objects)
        yield store
        store.stop()

    @pytest.fixture
    def carries(self, kind: Injector) -> Callable[..., None]:
        def check(*verbs: type) -> None:
            if missing := [v.__name__ for v in verbs if v not in kind.verbs]:
                pytest.skip(f"{kind.id} does not carry {', '.join(missing)}")

        return check

    def test_describes_itself(self, kind: Injector) -> None:
        """The id is the file name, the summary one line, and it says which schedules it cannot carry."""
        assert kind.id == self.injector
        assert kind.summary.strip() == kind.summary != ""
        assert "\n" not in kind.summary
        assert kind.carries(Schedule([])) is None

    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    @pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_001])
    def test_passes_through(
        self, running: RunningInjector, store: ScriptedOrigin, framing: str, size: int
    ) -> None:
        """Without a rule, the client gets the origin's bytes and nothing else happens."""
        target = f"/{framing}?size={size}"
        with stage(running, store) as on:
            client = on.ask(target)
            want = layout(target).wire
            assert client.take(len(want)) == want
            assert framing != "close" or client.rest() == Received(b"", "eof")
            facts = on.facts()
        exchange = only(facts.exchanges)
        assert (exchange.sent, exchange.wire, exchange.end) == (size, len(want), "complete")
        assert not facts.fired
        assert not facts.trouble

    @pytest.mark.parametrize("ending", ["fin", "rst", "half"])
    def test_cuts_are_exact(
        self,
        running: RunningInjector,
        store: ScriptedOrigin,
        carries: Callable[..., None],
        ending: str,
        batch: int,
    ) -> None:
        """Exactly the bytes before the position, then exactly the ending, in every one of the trials."""
        carries(Close)
        draw = random.Random(f"{ending} {batch}")
        for _ in range(self.trials // self.batches):
            cut = Cut.draw(draw)
            want = layout(cut.target)
            spec = f"GET#1 cut@{cut.position}:{ending}"
            where = f"{spec} of {cut.target} by {cut.reader.__name__} {cut.receive_buffer}"
            with stage(running, store, spec, size=cut.size) as on:
                got = cut.reader(on, on.ask(cut.target, receive_buffer=cut.receive_buffer))
                facts = on.facts()
            assert len(got.data) == cut.wire, where
            assert got.data == want.wire[: cut.wire], where
            assert got.ending == ("reset" if ending == "rst" else "eof"), where
            (fired,) = facts.fired
            body = want.payload_before(cut.wire)
            assert (fired.rule, fired.wire, fired.body) == (0, cut.wire, body), where
            exchange = only(facts.exchanges)
            assert (exchange.sent, exchange.wire, exchange.end) == (body, cut.wire, "cut"), where
            if exchange.base is not None:
                assert fired.offset == exchange.base + body, where
            assert not facts.trouble, where

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "batch" in metafunc.fixturenames:
            metafunc.parametrize("batch", range(self.batches))

    def test_a_half_close_leaves_the_other_direction(
        self, running: RunningInjector, store: ScriptedOrigin, carries: Callable[..., None]
    ) -> None:
        """After a half-close the client may go on to write as much as it likes."""
        carries(Close)
        with stage(running, store, "GET cut@100:half") as on:
            client = on.ask("/length?size=1000")
            assert client.rest().ending == "eof"
            for _ in range(64):
                client.send(bytes(65_536))
            client.sock.shutdown(socket.SHUT_WR)
            assert client.rest() == Received(b"", "eof")

    def test_after_an_end_the_peer_is_gone(
        self, running: RunningInjector, store: ScriptedOrigin, carries: Callable[..., None]
    ) -> None:
        """After a FIN the client has its end; a request sent then meets a closed peer: a reset."""
        carries(Close)
        with stage(running, store, "GET cut@100:fin") as on:
            client = on.ask("/length?size=1000")
            want = layout("/length?size=1000")
            assert client.rest() == Received(want.wire[: want.byte(100)], "eof")
            client.send(request("/length?size=1000"))
            poll = select.poll()
            poll.register(client.sock, 0)  # only an error or a hang-up of both directions
            assert poll.poll(30_000), "no reset came"
            with pytest.raises(ConnectionError):
                client.send(b"more")

    @pytest.mark.parametrize("position", ["head", "body+0", "body+1000", "end-1", "end"])
    def test_a_stall_for_ever(
        self, running: RunningInjector, store: ScriptedOrigin, carries: Callable[..., None], position: str
    ) -> None:
        """The bytes before the position come, then none, and the connection stays open until the end."""
        carries(Hold)
        want = layout("/length?size=2000")
        wire = {"head": 0, "end-1": len(want.wire) - 1, "end": len(want.wire)}.get(position)
        wire = want.byte(int(position[5:])) if wire is None else wire
        with stage(running, store, f"GET stall@{position}:forever") as on:
            client = on.ask("/length?size=2000")
            assert client.take(wire) == want.wire[:wire]
            on.until("fault")
            assert client.quiet()
            facts = fold(on.session.close())
            assert client.rest().data == b""
        (fired,) = facts.fired
        assert fired.wire == wire
        exchange = only(facts.exchanges)
        assert (exchange.wire, exchange.end) == (wire, "held")

    def test_a_stall_ends_when_the_client_leaves(
        self, running: RunningInjector, store: ScriptedOrigin, carries: Callable[..., None]
    ) -> None:
        """A client that gives up is seen at once, not when the case ends."""
        carries(Hold)
        with stage(running, store, "GET stall@body+10:forever") as on:
            client = on.ask("/length?size=2000")
            client.take(layout("/length?size=2000").byte(10))
            client.close()
            assert on.until("sent").data["end"] == "client-left"

    @pytest.mark.parametrize("fault", ["stall@body+1000:80ms", "delay@head:80ms"])
    def test_a_pause_ends_by_itself(
        self, running: RunningInjector, store: ScriptedOrigin, carries: Callable[..., None], fault: str
    ) -> None:
        """After its time the response goes on, and the next exchange is as if nothing had been."""
        carries(Hold)
        want = layout("/length?size=2000").wire
        with stage(running, store, f"GET#1 {fault}") as on:
            client = on.ask("/length?size=2000")
            assert client.take(len(want)) == want
            client.send(request("/length?size=5"))
            assert client.take(len(layout("/length?size=5").wire)) == layout("/length?size=5").wire
            facts = on.facts()
        sent = [e for e in on.watch.events if e.kind == "sent"]
        fired = next(e for e in on.watch.events if e.kind == "fault")
        assert sent[0].at - fired.at >= 0.08
        assert [e.end for e in facts.exchanges] == ["complete", "complete"]

    def test_a_throttle_takes_its_time(
        self, running: RunningInjector, store: ScriptedOrigin, carries: Callable[..., None]
    ) -> None:
        """The bytes behind the position need at least size over rate seconds; the next response does not."""
        carries(Pace)
        want = layout("/length?size=30000").wire
        with stage(running, store, "GET#1 throttle@body+10000:100000") as on:
            client = on.ask("/length?size=30000")
            assert client.take(len(want)) == want
            client.send(request("/length?size=1000000"))
            more = layout("/length?size=1000000").wire
            assert client.take(len(more)) == more
            on.until("sent", 2)
            facts = on.facts()
        fired = next(e for e in on.watch.events if e.kind == "fault")
        first, second = (e for e in on.watch.events if e.kind == "sent")
        assert first.at - fired.at >= 0.2 - 0.05
        assert second.at - first.at < 5, "at the first one's pace it takes 10 seconds"
        assert [e.end for e in facts.exchanges] == ["complete", "complete"]

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
    def test_an_answer_in_the_store_s_place(
        self, running: RunningInjector, store: ScriptedOrigin, carries: Callable[..., None], method: str
    ) -> None:
        """Status, fields and body are the ones asked for; the store never sees the request; then it heals."""
        carries(Respond)
        with stage(running, store, f"{method}#1 status@head:503,Retry-After=7,body=busy") as on:
            client = on.connect()
            upload = b"x" * 100_000 if method == "PUT" else b""
            client.send(request("/length?size=5", method, f"Content-Length: {len(upload)}\r\n") + upload)
            head = client.head()
            assert head
            assert (head.status, head.get("retry-after"), head.get("content-length")) == (503, "7", "4")
            assert method == "HEAD" or client.take(4) == b"busy"
            assert store.accepted == 0 or not [e for e in on.watch.events if e.kind == "response"][1:]
            client.send(request("/length?size=5", method))
            want = layout("/length?size=5")
            want_bytes = want.head if method == "HEAD" else want.wire
            assert client.take(len(want_bytes)) == want_bytes
            facts = on.facts()
        assert [(e.status, e.answered_by) for e in facts.exchanges] == [(503, "injector"), (200, "store")]
        assert facts.exchanges[0].sent == (0 if method == "HEAD" else 4)

    def test_refusing_connections(
        self, running: RunningInjector, store: ScriptedOrigin, carries: Callable[..., None]
    ) -> None:
        """During the window connections are refused, the port stays ours, and afterwards all is well."""
        carries(Refuse)
        with stage(running, store, "CONNECTION#2 refuse@accept:150ms") as on:
            client = on.ask("/length?size=5")
            client.take(len(layout("/length?size=5").wire))
            client.close()
            on.until("fault")
            with pytest.raises(ConnectionRefusedError):
                on.connect()
            on.until("window")
            client = on.ask("/length?size=5")
            want = layout("/length?size=5").wire
            assert client.take(len(want)) == want
            facts = on.facts()
        assert len(facts.fired) == 1
        assert facts.connections == 2

    @pytest.mark.parametrize("ending", ["fin", "rst"])
    def test_hanging_up(
        self, running: RunningInjector, store: ScriptedOrigin, carries: Callable[..., None], ending: str
    ) -> None:
        """A connection is accepted and ended without a byte; the next one works."""
        carries(Close)
        with stage(running, store, f"CONNECTION#1 hangup@accept:{ending}") as on:
            assert on.connect().rest() == Received(b"", "reset" if ending == "rst" else "eof")
            client = on.ask("/length?size=5")
            want = layout("/length?size=5").wire
            assert client.take(len(want)) == want
            facts = on.facts()
        assert len(facts.fired) == 1
        assert len(facts.exchanges) == 1

    def test_closing_twice(self, running: RunningInjector, store: ScriptedOrigin) -> None:
        """A closed session gives the same evidence again, and its port is free."""
        with stage(running, store) as on:
            client = on.ask("/length?size=5")
            client.take(len(layout("/length?size=5").wire))
            first = on.session.close()
            assert on.session.close() is first
            client.close()
            with pytest.raises(ConnectionRefusedError):
                on.connect()
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", on.port))
            listener.close()
