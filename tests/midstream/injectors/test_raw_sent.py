"""Faults in what a client says over a protocol that is not read: what the store gets, to the byte."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.midstream.injectors.test_raw import Stage, raw

from midstream._content import Content
from midstream._schedule import Schedule
from midstream._verbs import Act, Alter, Kill, Mutate
from midstream.injectors import RunningInjector
from midstream.testing.wire import WAIT, Peer, Received, ScriptedOrigin

DATA = Content(3_000_000, seed=9).whole()
TRIALS, BATCHES = 400, 8


class Counting:
    """A store that greets, keeps what it is told on each connection, and says how each ended."""

    def __init__(self) -> None:
        self.greets = True
        self.heard: dict[int, Received] = {}  # by the number of the connection
        self._numbers = iter(range(1, 10_000))
        self._ended = threading.Condition()
        self.origin = ScriptedOrigin(self._play)

    def _play(self, peer: Peer) -> None:
        number, parts, ending = next(self._numbers), [], "eof"
        try:
            if self.greets:
                peer.send(b"hello")
            while data := peer.sock.recv(1 << 16):
                parts.append(data)
        except ConnectionError:
            ending = "reset"
        with self._ended:
            self.heard[number] = Received(b"".join(parts), ending)
            self._ended.notify_all()

    def of(self, number: int) -> Received:
        """What came on that connection, once it has ended."""
        with self._ended:
            assert self._ended.wait_for(lambda: number in self.heard, WAIT)
            return self.heard[number]


@pytest.fixture
def store() -> Iterator[Counting]:
    store = Counting()
    yield store
    store.origin.stop()


def greeted(on: Stage) -> Peer:
    """A connection on which the store is known to be there."""
    client = on.connect()
    assert client.take(5) == b"hello"
    return client


def say(client: Peer, data: bytes) -> None:
    """What can be said; the other side may well not want all of it."""
    try:
        client.send(data)
    except OSError:
        pass


def finish(client: Peer) -> None:
    """Say that no more comes."""
    client.sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_exactly_the_bytes_before_the_position_reach_the_store(
    running: RunningInjector, store: Counting, ending: str, batch: int
) -> None:
    """In every trial, however the bytes come in, the store gets N, then the end that was named."""
    draw = random.Random(f"raw {ending} {batch}")
    store.greets = False  # to a reset it would say it before it reads
    for number in range(1, TRIALS // BATCHES + 1):
        size = draw.choice((1, 100, 5000, 70_000, 300_000, len(DATA)))
        at = draw.choice((0, size // 2, size - 1, draw.randrange(size)))
        pieces = sorted(draw.randrange(size + 1) for _ in range(draw.choice((0, 1, 5))))
        with raw(running, store.origin.address, f"TCP#1 cut@sent+{at}:{ending}") as on:
            client = on.connect()
            for start, end in zip([0, *pieces], [*pieces, size], strict=True):
                say(client, DATA[start:end])
            assert store.of(number) == Received(DATA[:at], "eof" if ending == "fin" else "reset"), (size, at)
            facts = on.facts()
        assert [(f.rule, f.wire, f.body) for f in facts.fired] == [(0, at, at)]
        (one,) = facts.exchanges
        assert (one.received, one.declared, one.whole, one.end) == (at, None, False, "cut")
        assert not facts.trouble


@pytest.mark.parametrize(("ending", "seen"), [("fin", "eof"), ("rst", "reset"), ("half", "eof")])
def test_the_client_sees_the_end_too(
    running: RunningInjector, store: Counting, ending: str, seen: str
) -> None:
    """The client's connection ends as named; the next one is untouched."""
    with raw(running, store.origin.address, f"TCP#1 cut@sent+7:{ending}") as on:
        client = greeted(on)
        client.send(b"0123456789")
        assert client.rest() == Received(b"", seen)
        other = greeted(on)
        other.send(b"0123456789")
        finish(other)
        assert other.rest() == Received(b"", "eof")
        assert store.of(1) == Received(b"0123456", "reset" if ending == "rst" else "eof")
        assert store.of(2) == Received(b"0123456789", "eof")
        facts = on.facts()
    assert [(e.received, e.whole, e.end) for e in facts.exchanges] == [
        (7, False, "cut"),
        (10, True, "complete"),
    ]
    assert not facts.unfired


def test_the_first_connection_that_gets_there(running: RunningInjector, store: Counting) -> None:
    """A rule without an ordinal waits for the connection that brings its byte, and fires once."""
    with raw(running, store.origin.address, "TCP cut@sent+10:rst") as on:
        quiet, busy = greeted(on), greeted(on)
        quiet.send(b"hello")
        busy.send(b"hello, store")
        assert busy.rest() == Received(b"", "reset")
        quiet.send(b", store, and goodbye")
        finish(quiet)
        assert quiet.rest() == Received(b"", "eof")
        assert sorted(len(store.of(number).data) for number in (1, 2)) == [10, 25]
        facts = on.facts()
    assert len(facts.fired) == 1
    assert not facts.unfired


def test_each_connection(running: RunningInjector, store: Counting) -> None:
    """`#*` fires in each, `#2-3` in those two, each at its own byte."""
    with raw(running, store.origin.address, "TCP#* cut@sent+2000:rst", "TCP#2-3 cut@sent+1000:rst") as on:
        for number in range(1, 5):
            say(greeted(on), DATA[:5000])
            assert len(store.of(number).data) == (1000 if number in (2, 3) else 2000)


def test_a_rule_that_waits_in_vain(running: RunningInjector, store: Counting) -> None:
    """A connection that ends before the byte, in good order, leaves the rule to another."""
    with raw(running, store.origin.address, "TCP cut@sent+100:rst") as on:
        client = greeted(on)
        client.send(b"few")
        finish(client)
        assert client.rest() == Received(b"", "eof")
        assert store.of(1) == Received(b"few", "eof")
        facts = on.facts()
    assert not facts.fired
    assert facts.unfired == {0: ["elsewhere"]}


def test_stall(running: RunningInjector, store: Counting) -> None:
    """Bytes before the position arrive; then nothing, until the client has had enough."""
    with raw(running, store.origin.address, "TCP stall@sent+700:forever") as on:
        client = greeted(on)
        client.send(DATA[:1000])
        on.watch.until("fault")
        assert client.quiet()
        client.close()
        on.watch.until("client-left")
        assert store.of(1).data == DATA[:700]
        facts = on.facts()
    assert [(e.received, e.end, e.held) for e in facts.exchanges] == [(700, "client-left", True)]


def test_pauses_change_no_byte(running: RunningInjector, store: Counting) -> None:
    """Pauses that heal, two of them at one byte, in both directions, and a slow stretch."""
    faults = (
        "TCP delay@sent+10:1ms",
        "TCP delay@sent+10:2ms",
        "TCP delay@sent+2999999:1ms",
        "TCP delay@wire+2:1ms",
        "TCP throttle@wire+1:1KiB",
    )
    with raw(running, store.origin.address, *faults) as on:
        client = on.connect()
        client.send(DATA)
        on.watch.until("fault", 5)
        assert client.take(5) == b"hello"
        finish(client)
        assert client.rest() == Received(b"", "eof")
        assert store.of(1) == Received(DATA, "eof")
        facts = on.facts()
    assert len(facts.fired) == 5
    assert [(e.received, e.whole, e.end) for e in facts.exchanges] == [(len(DATA), True, "complete")]


def test_a_client_that_listens_only_when_it_has_spoken(running: RunningInjector) -> None:
    """The byte is reached although the store's own words find no room at the client."""
    heard: list[bytes] = []

    def script(peer: Peer) -> None:
        """Says more than any buffer holds; hears all the while."""
        writer = threading.Thread(target=say, args=(peer, DATA * 10))
        writer.start()
        try:
            while data := peer.sock.recv(1 << 16):
                heard.append(data)
        except OSError:
            pass
        writer.join(WAIT)

    store = ScriptedOrigin(script)
    try:
        with raw(running, store.address, "TCP cut@sent+2500000:rst") as on:
            client = on.connect()
            say(client, DATA)
            on.watch.until("fault")
            client.rest()
        store.settle()
    finally:
        store.stop()
    assert b"".join(heard) == DATA[:2_500_000]


@pytest.mark.parametrize(
    ("fault", "verb"),
    [("replace@sent+5000:same", Mutate("same")), ("source@sent+5000:truncate", Alter("truncate"))],
)
def test_acts_off_the_wire(running: RunningInjector, store: Counting, fault: str, verb: Act) -> None:
    """What is done to the store or the source is done when exactly the bytes before it are there."""
    done: list[Act] = []
    acting, go = threading.Event(), threading.Event()

    def act(asked: Act) -> None:
        done.append(asked)
        acting.set()
        assert go.wait(WAIT)

    with raw(running, store.origin.address, f"TCP {fault}", act=act) as on:
        client = greeted(on)
        client.send(DATA[:9000])
        assert acting.wait(WAIT)
        assert not store.heard
        go.set()
        finish(client)
        assert client.rest() == Received(b"", "eof")
        assert store.of(1) == Received(DATA[:9000], "eof")
        facts = on.facts()
    assert done == [verb]
    assert [f.wire for f in facts.fired] == [5000]


def test_kill(running: RunningInjector, store: Counting) -> None:
    """Of a driver that is killed at a byte the store has exactly what lies before it."""
    killed: list[Act] = []
    with raw(running, store.origin.address, "TCP kill@sent+5000:KILL", act=killed.append) as on:
        client = greeted(on)
        client.send(DATA[:9000])
        on.watch.until("fault")
        client.reset()
        on.watch.until("client-left")
        assert store.of(1).data == DATA[:5000]
        facts = on.facts()
    assert killed == [Kill("KILL")]
    assert [(e.received, e.whole, e.end) for e in facts.exchanges] == [(5000, False, "client-left")]


def test_a_pause_of_the_answer_keeps_what_is_said_meanwhile(
    running: RunningInjector, store: Counting
) -> None:
    """A byte that is reached while the other direction is held fires after it; nothing said then is lost."""
    with raw(running, store.origin.address, "TCP delay@wire+3:150ms", "TCP delay@sent+4000:1ms") as on:
        client = on.connect()
        for start in range(0, 9000, 500):
            client.send(DATA[start : start + 500])
        on.watch.until("fault", 2)
        assert client.take(5) == b"hello"
        finish(client)
        assert client.rest() == Received(b"", "eof")
        assert store.of(1) == Received(DATA[:9000], "eof")
        assert len(on.facts().fired) == 2


@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_a_socket_with_a_path(running: RunningInjector, tmp_path: Path, ending: str) -> None:
    """The store may listen at a path, where every end is one and the same; it gets as many bytes."""
    path, heard = str(tmp_path / "socket"), []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                while data := sock.recv(1000):
                    heard.append(data)

        thread = threading.Thread(target=serve)
        thread.start()
        with raw(running, path, f"TCP cut@sent+100000:{ending}") as on:
            client = on.connect()
            say(client, DATA)
            assert client.rest().data == b""
            thread.join(WAIT)
            assert on.facts().exchanges[0].received == 100_000
    assert b"".join(heard) == DATA[:100_000]


@pytest.mark.parametrize(
    "fault",
    ["TCP cut@sent+5:half", "* cut@sent+0", "TCP#2 stall@sent+9:forever", "TCP source@sent+9:grow"],
)
def test_what_does_not_need_http(fault: str) -> None:
    """Counting is enough for these."""
    assert Schedule.parse([fault]).needs_http() is None


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("TCP cut@sent+50%", "on their way to the store sent+N"),
        ("TCP early-answer@sent+5:503", "early-answer needs HTTP to respond"),
        ("CONNECTION#1 cut@sent+5", ""),
    ],
)
def test_what_needs_http(fault: str, why: str) -> None:
    """What has to be read is refused with the reason, and so is what no connection has."""
    try:
        reason = Schedule.parse([fault]).needs_http()
    except Exception as error:
        reason = str(error)
    assert reason
    assert why in reason
