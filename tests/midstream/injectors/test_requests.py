"""Faults inside a request's body: what the store gets, to the byte, and what the client is told."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import pytest

from midstream._evidence import Facts, fold
from midstream._operations import http_operation
from midstream._schedule import Schedule
from midstream._verbs import Act, Look
from midstream.injectors import Plan, RunningInjector
from midstream.testing.injectors import GENERATION, Stage
from midstream.testing.wire import Peer, Received, ScriptedOrigin, Watch

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"
TRIALS, BATCHES = 1000, 10


class Sink:
    """A store that keeps what it gets of each request's body, also when that is not whole."""

    def __init__(self) -> None:
        self.bodies: list[tuple[bytes, str]] = []
        self.answer = OK
        self.got = threading.Semaphore(0)
        self.origin = ScriptedOrigin(self._play)

    def _play(self, peer: Peer) -> None:
        while head := peer.head():
            length, data, ending = int(head.get("content-length") or 0), b"", "whole"
            chunked = head.has("transfer-encoding")
            if head.get("expect"):
                peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            try:
                data = peer.body(head) if chunked else peer.take(length)
                if not chunked and len(data) < length:
                    ending = "eof"
            except ConnectionResetError:
                data, ending = bytes(peer.buffer), "reset"
            self.bodies.append((data, ending))
            self.got.release()
            if ending != "whole":
                return
            peer.send(self.answer)

    def next(self) -> tuple[bytes, str]:
        """What the next request brought; waits for it."""
        assert self.got.acquire(timeout=30)
        return self.bodies[-1]


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.origin.stop()


class Acts:
    """What a relay had done off the wire."""

    def __init__(self) -> None:
        self.done: list[Act] = []

    def __call__(self, verb: Act) -> None:
        self.done.append(verb)


def stage(running: RunningInjector, sink: Sink, *specs: str, looks: bool = False) -> tuple[Stage, Acts]:
    watch, acts = Watch(), Acts()
    schedule = Schedule.parse(specs)
    plan = Plan(sink.origin.address, schedule, http_operation, None, on_event=watch, act=acts, looks=looks)
    return Stage(running.open(plan), watch), acts


def put(size: int, fields: str = "", target: str = "/o") -> bytes:
    return f"PUT {target} HTTP/1.1\r\nHost: store\r\nContent-Length: {size}\r\n{fields}\r\n".encode()


def upload(peer: Peer, data: bytes) -> None:
    """Send what can be sent; the other side may well not want all of it."""
    try:
        peer.send(data)
    except OSError:
        pass


def only_fired(facts: Facts) -> tuple[int, int]:
    (fired,) = facts.fired
    return fired.rule, fired.body


@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_exactly_the_bytes_before_the_position_reach_the_store(
    running: RunningInjector, sink: Sink, ending: str, batch: int
) -> None:
    """In every trial, however the body comes in, the store gets N bytes, then the end that was named."""
    draw = random.Random(f"requests {ending} {batch}")
    for _ in range(TRIALS // BATCHES):
        size = draw.choice((1, 100, 5000, 70_000, 300_000))
        at = draw.choice((0, size // 2, size - 1, draw.randrange(size)))
        body = GENERATION.read(0, size)
        on, _ = stage(running, sink, f"PUT#1 cut@sent+{at}:{ending}")
        client = on.connect()
        first = draw.choice((0, 1, size))
        upload(client, put(size) + body[:first])
        upload(client, body[first:])
        got, how = sink.next()
        assert (got, how) == (body[:at], "eof" if ending == "fin" else "reset"), (size, at, first)
        facts = on.facts()
        (one,) = facts.exchanges
        assert only_fired(facts) == (0, at)
        assert (one.received, one.declared, one.whole, one.end) == (at, size, False, "cut")


def test_each_byte_of_a_small_body(running: RunningInjector, sink: Sink) -> None:
    """Positions 0 to the whole of a body; behind the last byte the store has all of it."""
    body = GENERATION.read(0, 12)
    for at in range(13):
        on, _ = stage(running, sink, f"PUT cut@sent+{at}")
        upload(on.connect(), put(12) + body)
        assert sink.next()[0] == body[:at]
        assert only_fired(on.facts()) == (0, at)


@pytest.mark.parametrize(("position", "at"), [("sent+0%", 0), ("sent+50%", 500), ("sent+100%-1", 999)])
def test_a_share_of_the_body(running: RunningInjector, sink: Sink, position: str, at: int) -> None:
    """A percentage is of the request's own Content-Length."""
    on, _ = stage(running, sink, f"put_object cut@{position}:rst")
    upload(on.connect(), put(1000) + GENERATION.read(0, 1000))
    assert len(sink.next()[0]) == at
    assert only_fired(on.facts()) == (0, at)


def test_a_chunked_body(running: RunningInjector, sink: Sink) -> None:
    """Payload is counted, framing is not."""
    on, _ = stage(running, sink, "PUT cut@sent+150:rst")
    head = b"PUT /o HTTP/1.1\r\nHost: store\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = GENERATION.read(0, 100)
    upload(on.connect(), head + (b"64\r\n" + chunk + b"\r\n") * 3 + b"0\r\n\r\n")
    assert sink.next() == (chunk[:50], "reset")  # the helper has taken the first chunk out
    assert only_fired(on.facts()) == (0, 150)


def test_a_rule_waits_for_a_body_that_long(running: RunningInjector, sink: Sink) -> None:
    """Without an ordinal the fault fires in the first request that has the byte, and is healed then."""
    on, _ = stage(running, sink, "PUT cut@sent+500")
    client = on.connect()
    for size in (100, 499):
        client.send(put(size) + GENERATION.read(0, size))
        assert sink.next() == (GENERATION.read(0, size), "whole")
        assert client.take(len(OK)) == OK
    upload(client, put(501) + GENERATION.read(0, 501))
    assert sink.next() == (GENERATION.read(0, 500), "eof")
    client = on.connect()
    client.send(put(501) + GENERATION.read(0, 501))
    assert client.take(len(OK)) == OK
    assert sink.next()[1] == "whole"
    facts = on.facts()
    assert [e.received for e in facts.exchanges] == [100, 499, 500, 501]
    assert not facts.unfired


def test_a_stall_reads_nothing(running: RunningInjector, sink: Sink) -> None:
    """While it is held the store gets nothing more; afterwards all of it, and the answer passes."""
    on, _ = stage(running, sink, "PUT#1 stall@sent+10:100ms")
    client = on.connect()
    client.send(put(1000) + GENERATION.read(0, 1000))
    assert client.take(len(OK)) == OK
    assert sink.next() == (GENERATION.read(0, 1000), "whole")
    assert only_fired(on.facts()) == (0, 10)


def test_a_client_that_leaves_a_stall(running: RunningInjector, sink: Sink) -> None:
    """One that goes away while it is held has sent no more than what reached the store."""
    on, _ = stage(running, sink, "PUT#1 stall@sent+10:forever")
    client = on.connect()
    client.send(put(1000) + GENERATION.read(0, 500))
    on.until("fault")
    client.close()
    on.until("client-left")
    facts = on.facts()
    assert [(e.received, e.whole, e.end) for e in facts.exchanges] == [(10, False, "client-left")]


def test_an_early_answer(running: RunningInjector, sink: Sink) -> None:
    """The client is answered in the middle of its body; the store is left with a part of it."""
    on, _ = stage(running, sink, "PUT#1 early-answer@sent+10:503,Retry-After=0,body=busy")
    client = on.connect()
    client.send(put(1000) + GENERATION.read(0, 400))
    head = client.head()
    assert head
    assert (head.status, head.get("retry-after"), head.get("connection")) == (503, "0", "close")
    assert client.take(4) == b"busy"
    assert sink.next() == (GENERATION.read(0, 10), "eof")
    facts = on.facts()
    assert [(e.status, e.answered_by, e.received) for e in facts.exchanges] == [(503, "injector", 10)]


def test_a_status_in_the_stores_place(running: RunningInjector, sink: Sink) -> None:
    """After the whole body, and the store has never seen the request."""
    on, _ = stage(running, sink, "put_object#1 status@head:500")
    client = on.connect()
    client.send(put(1000) + GENERATION.read(0, 1000))
    head = client.head()
    assert head
    assert head.status == 500
    facts = on.facts()
    assert sink.bodies == []
    assert [(e.received, e.declared, e.whole) for e in facts.exchanges] == [(0, 1000, True)]


@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_a_lost_answer(running: RunningInjector, sink: Sink, ending: str) -> None:
    """The store has the whole request and has answered; the client gets not a byte of that."""
    on, _ = stage(running, sink, f"PUT#1 lost-answer@head:{ending}")
    client = on.connect()
    client.send(put(1000) + GENERATION.read(0, 1000))
    assert client.rest() == Received(b"", "eof" if ending == "fin" else "reset")
    assert sink.next()[1] == "whole"
    (one,) = on.facts().exchanges
    assert (one.status, one.received, one.sent, one.end) == (200, 1000, 0, "cut")


def test_a_look_comes_before_the_answer(running: RunningInjector, sink: Sink) -> None:
    """What the store has published is looked at before the driver hears of it, lost answers included."""
    on, acts = stage(running, sink, "PUT#2 lost-answer@head:fin", looks=True)
    client = on.connect()
    for _ in range(2):
        upload(client, put(10) + GENERATION.read(0, 10))
        sink.next()
        client.take(len(OK))
    on.facts()
    assert acts.done == [Look(), Look()]


def test_no_look_at_a_refusal(running: RunningInjector, sink: Sink) -> None:
    """A store that refuses has published nothing."""
    sink.answer = b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"
    on, acts = stage(running, sink, looks=True)
    client = on.connect()
    client.send(put(10) + GENERATION.read(0, 10))
    assert client.head()
    on.facts()
    assert acts.done == []


def test_the_source_is_altered_while_the_body_waits(running: RunningInjector, sink: Sink) -> None:
    """What is done off the wire is done before another byte reaches the store, which then gets the rest."""
    on, acts = stage(running, sink, "PUT#1 source@sent+10:truncate")
    client = on.connect()
    client.send(put(1000) + GENERATION.read(0, 1000))
    assert client.take(len(OK)) == OK
    assert [type(verb).__name__ for verb in acts.done] == ["Alter"]
    assert only_fired(on.facts()) == (0, 10)


def test_expect_continue(running: RunningInjector, sink: Sink) -> None:
    """A client that waits for its 100 is cut at the byte like any other."""
    on, _ = stage(running, sink, "PUT#1 cut@sent+7:rst")
    client = on.connect()
    client.send(put(20, "Expect: 100-continue\r\n"))
    assert client.head()
    upload(client, GENERATION.read(0, 20))
    assert sink.next() == (GENERATION.read(0, 7), "reset")
    assert only_fired(on.facts()) == (0, 7)


def test_lists_of_parts_are_kept(running: RunningInjector, sink: Sink) -> None:
    """The body of a request that completes an upload is in the evidence, other bodies are not."""
    watch, text = Watch(), b"<CompleteMultipartUpload/>"
    plan = Plan(sink.origin.address, Schedule([]), lambda *_: "complete_upload", None, on_event=watch)
    on = Stage(running.open(plan), watch)
    client = on.connect()
    client.send(put(len(text)) + text)
    assert client.take(len(OK)) == OK
    assert on.facts().exchanges[0].document == text.decode()
    plain, _ = stage(running, sink)
    client = plain.connect()
    client.send(put(len(text)) + text)
    assert client.take(len(OK)) == OK
    assert plain.facts().exchanges[0].document == ""


def test_requests_without_a_body_have_no_event(running: RunningInjector, sink: Sink) -> None:
    """A download's evidence is as it was: nothing is said of bodies that are none."""
    on, _ = stage(running, sink)
    client = on.connect()
    client.send(b"GET /o HTTP/1.1\r\nHost: store\r\n\r\n")
    assert client.take(len(OK)) == OK
    for peer in on.clients:
        peer.close()
    evidence = on.session.close()
    assert "received" not in {event.kind for event in evidence.events}
    assert fold(evidence).exchanges[0].whole


def test_a_random_schedule_of_cuts_never_harms_the_harness(running: RunningInjector, sink: Sink) -> None:
    """Many clients at once, each cut somewhere: every store side is exact, nothing is trouble."""
    draw = random.Random(5)
    for _ in range(20):
        at = draw.randrange(200_000)
        on, _ = stage(running, sink, f"*#* cut@sent+{at}:{draw.choice(('fin', 'rst'))}")
        clients = [on.connect() for _ in range(4)]
        threads = [threading.Thread(target=upload, args=(c, put(200_000) + bytes(200_000))) for c in clients]
        for thread in threads:
            thread.start()
        for _ in clients:
            sink.next()
        for thread in threads:
            thread.join()
        facts = on.facts()
        assert not facts.trouble
        assert [e.received for e in facts.exchanges] == [at] * 4
        assert [len(data) for data, _ in sink.bodies[-4:]] == [at] * 4
