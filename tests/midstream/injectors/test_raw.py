"""Connections that are not HTTP: bytes by their number, both ways at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from midstream._content import Content
from midstream._errors import UsageError
from midstream._evidence import Facts, fold
from midstream._proxy import check_faults, resolve_upstream
from midstream._schedule import Schedule
from midstream._verbs import Kill, Mutate
from midstream.injectors import Plan, RunningInjector, Session
from midstream.testing.wire import WAIT, Peer, Received, ScriptedOrigin, Watch, origin

DATA = Content(3_000_000, seed=8).whole()


def speaks_first(peer: Peer) -> None:
    """Sends all it has without being asked, then ends."""
    peer.send(DATA)


def echoes(peer: Peer) -> None:
    """Gives back what it gets, in capitals; ends when the client does."""
    while peer.more():
        peer.send(peer.take(len(peer.buffer)).upper())


class Stage:
    def __init__(self, session: Session, watch: Watch) -> None:
        self.session, self.watch = session, watch
        self.peers: list[Peer] = []

    def connect(self) -> Peer:
        port = int(self.session.url.rpartition(":")[2])
        peer = Peer(socket.create_connection(("127.0.0.1", port)))
        self.peers.append(peer)
        return peer

    def facts(self) -> Facts:
        for peer in self.peers:
            peer.close()
        return fold(self.session.close())


@contextmanager
def raw(
    running: RunningInjector, upstream: tuple[str, int] | str, *faults: str, **more: object
) -> Iterator[Stage]:
    watch = Watch()
    upstream, path = (("127.0.0.1", 0), upstream) if isinstance(upstream, str) else (upstream, "")
    plan = Plan(
        upstream,
        Schedule.parse(faults),
        lambda *_: "other",
        on_event=watch,
        raw=True,
        path=path,
        **more,  # type: ignore[arg-type]
    )
    on = Stage(running.open(plan), watch)
    try:
        yield on
    finally:
        on.facts()


@pytest.fixture
def store() -> Iterator[ScriptedOrigin]:
    with origin(speaks_first) as running:
        yield running


def test_passes_through(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Without faults every byte passes, and the store's end is passed on."""
    with raw(running, store.address) as on:
        assert on.session.url.startswith("tcp://127.0.0.1:")
        assert on.connect().rest() == Received(DATA, "eof")
        facts = on.facts()
    (one,) = facts.exchanges
    assert (one.method, one.operation, one.wire, one.end) == ("TCP", "other", len(DATA), "complete")
    assert not facts.trouble


@pytest.mark.parametrize(("ending", "seen"), [("fin", "eof"), ("rst", "reset"), ("half", "eof")])
@pytest.mark.parametrize("at", [0, 1, 2, 1000, 65_536, 262_144, 1_234_567, 2_999_999])
def test_cut(running: RunningInjector, store: ScriptedOrigin, at: int, ending: str, seen: str) -> None:
    """Exactly the bytes before the position, then the end that was asked for."""
    with raw(running, store.address, f"TCP#1 cut@wire+{at}:{ending}") as on:
        assert on.connect().rest() == Received(DATA[:at], seen)
        assert on.connect().rest() == Received(DATA, "eof")
        facts = on.facts()
    assert [(f.spec, f.wire) for f in facts.fired] == [(f"TCP#1 cut@wire+{at}:{ending}", at)]
    assert [e.end for e in facts.exchanges] == ["cut", "complete"]


def test_half_close_leaves_the_other_direction(running: RunningInjector) -> None:
    """After a half-close the client may still write; nothing comes back, and nothing is reset."""
    with origin(echoes) as store, raw(running, store.address, "TCP cut@wire+5:half") as on:
        client = on.connect()
        client.send(b"hello")
        assert client.rest() == Received(b"HELLO", "eof")
        for _ in range(20):
            client.send(b"more")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == Received(b"", "eof")


def test_both_ways(running: RunningInjector) -> None:
    """A dialogue passes in both directions at once, and the client's end reaches the store."""
    with origin(echoes) as store, raw(running, store.address) as on:
        client = on.connect()
        client.send(b"one ")
        assert client.take(4) == b"ONE "
        big = b"x" * 2_000_000
        writer = threading.Thread(target=client.send, args=(big,))
        writer.start()
        assert client.take(len(big)) == big.upper()
        writer.join(WAIT)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == Received(b"", "eof")
        facts = on.facts()
    assert [(e.wire, e.end) for e in facts.exchanges] == [(4 + len(big), "complete")]


def test_the_first_connection_that_gets_there(running: RunningInjector) -> None:
    """A rule without an ordinal waits for the connection that delivers its byte, and fires once."""
    with origin(echoes) as store, raw(running, store.address, "TCP cut@wire+10:rst") as on:
        quiet, busy = on.connect(), on.connect()
        for client in (quiet, busy):
            client.send(b"hello")
            assert client.take(5) == b"HELLO"
        busy.send(b"0123456789")
        assert busy.rest() == Received(b"01234", "reset")
        quiet.send(b"0123456789")
        assert quiet.take(10) == b"0123456789"
        facts = on.facts()
    assert len(facts.fired) == 1
    assert not facts.unfired


def test_each_connection(running: RunningInjector, store: ScriptedOrigin) -> None:
    """`#*` fires in each, `#2-3` in those two."""
    with raw(running, store.address, "TCP#* cut@wire+2000:rst", "TCP#2-3 cut@wire+1000:fin") as on:
        got = [len(on.connect().rest().data) for _ in range(4)]
    assert got == [2000, 1000, 1000, 2000]


def test_stall(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Bytes before the position arrive; then nothing, until the client has had enough."""
    with raw(running, store.address, "TCP stall@wire+700:forever") as on:
        client = on.connect()
        assert client.take(700) == DATA[:700]
        on.watch.until("fault")
        assert client.quiet()
        client.close()
        on.watch.until("client-left")
        facts = on.facts()
    assert [(e.wire, e.end, e.held) for e in facts.exchanges] == [(700, "client-left", True)]


def test_delay_and_throttle(running: RunningInjector, store: ScriptedOrigin) -> None:
    """A pause and a slow stretch change no byte."""
    with raw(running, store.address, "TCP delay@wire+10:1ms", "TCP throttle@wire+2990000:1MiB") as on:
        assert on.connect().rest() == Received(DATA, "eof")
        assert len(on.facts().fired) == 2


def test_acts_off_the_wire(running: RunningInjector, store: ScriptedOrigin) -> None:
    """What is done to the store or the driver is done when exactly the bytes before it are delivered."""
    done: list[Kill | Mutate] = []
    acting, go = threading.Event(), threading.Event()

    def act(verb: Kill | Mutate) -> None:
        done.append(verb)
        acting.set()
        assert go.wait(WAIT)

    with raw(running, store.address, "TCP replace@wire+5000:same", act=act) as on:
        client = on.connect()
        assert client.take(5000) == DATA[:5000]
        assert acting.wait(WAIT)
        assert client.quiet()
        go.set()
        assert client.rest() == Received(DATA[5000:], "eof")
    assert done == [Mutate("same")]


def test_kill(running: RunningInjector, store: ScriptedOrigin) -> None:
    """A driver that is killed at a byte has had exactly the bytes before it."""
    killed: list[Kill | Mutate] = []
    with raw(running, store.address, "TCP kill@wire+5000:KILL", act=killed.append) as on:
        client = on.connect()
        assert client.take(5000) == DATA[:5000]
        client.reset()
        on.watch.until("client-left")
        facts = on.facts()
    assert killed == [Kill("KILL")]
    assert [(e.wire, e.held) for e in facts.exchanges] == [(5000, True)]


def test_refused_and_hung_up(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Faults of the connection itself are as they are for HTTP."""
    faults = ("CONNECTION#1 hangup@accept:rst", "CONNECTION#2 refuse@accept:1ms")
    with raw(running, store.address, *faults) as on:
        assert on.connect().rest() == Received(b"", "reset")
        on.watch.until("window")
        assert on.connect().rest() == Received(DATA, "eof")
        assert len(on.facts().fired) == 2


def test_a_store_that_is_not_there(running: RunningInjector) -> None:
    """A refused connection to the store is trouble of ours."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with raw(running, probe.getsockname()) as on:
            assert on.connect().rest().data == b""
            assert "does not accept connections" in on.facts().trouble[0]


def test_a_store_that_resets(running: RunningInjector) -> None:
    """A reset of the store's is passed on as one."""

    def script(peer: Peer) -> None:
        peer.send(b"abc")
        peer.take(1)
        peer.reset()

    with origin(script) as store, raw(running, store.address) as on:
        client = on.connect()
        assert client.take(3) == b"abc"
        client.send(b"!")
        assert client.rest() == Received(b"", "reset")


def test_a_socket_with_a_path(running: RunningInjector, tmp_path: Path) -> None:
    """The store may listen at a path."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(DATA[:200_000])  # what a kernel holds, for nobody reads it all

        thread = threading.Thread(target=serve)
        thread.start()
        with raw(running, path, "TCP cut@wire+100000:rst") as on:
            assert on.connect().rest() == Received(DATA[:100_000], "reset")
        thread.join(WAIT)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("get_object cut@wire+5", "get_object is a request of HTTP"),
        ("GET#1 cut@wire+5", "GET is a request of HTTP"),
        ("TCP cut@50%", "50% is found by reading HTTP"),
        ("TCP cut@end", "end is found by reading HTTP"),
        ("TCP cut@wire+5:notify", "has no TLS here"),
        ("TCP status@head:503", "status needs HTTP to respond"),
        ("TCP flip@body+7", "flip needs HTTP to rewrite"),
    ],
)
def test_what_needs_http(fault: str, why: str) -> None:
    """What cannot be told from bytes alone is refused with the reason."""
    reason = Schedule.parse([fault]).needs_http()
    assert reason
    assert why in reason
    with pytest.raises(UsageError, match="tcp://"):
        check_faults(Schedule.parse([fault]), raw=True)


@pytest.mark.parametrize(
    "fault",
    [
        "TCP cut@wire+5:half",
        "* cut@wire+5",
        "TCP#2+ stall@wire+0:forever",
        "TCP throttle@wire+9:1KiB",
        "TCP kill@wire+9",
        "TCP replace@wire+9",
        "CONNECTION#2 refuse@accept:1s",
        "CONNECTION hangup@accept",
    ],
)
def test_what_does_not(fault: str) -> None:
    """Bytes and connections are enough for these."""
    assert Schedule.parse([fault]).needs_http() is None


def test_proxy_of_another_protocol() -> None:
    """`midstream proxy` takes tcp://HOST:PORT, with its port."""
    assert resolve_upstream("tcp://127.0.0.1:27017", []) == ("127.0.0.1", 27017)
    for url in ("tcp://127.0.0.1", "udp://127.0.0.1:1"):
        with pytest.raises(UsageError, match="tcp://HOST:PORT"):
            resolve_upstream(url, [])
