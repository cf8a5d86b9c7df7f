"""Rewriting, edited requests and acts through the embedded injector: the bytes, the record, what goes on."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from midstream._evidence import Facts
from midstream._judge import judge
from midstream._rewriting import CHUNK
from midstream._schedule import Schedule
from midstream._verbs import Kill, Mutate
from midstream._verdict import Expectation, Outcome, Seen, Sink, Verdict
from midstream._wire import Head
from midstream.injectors import Plan, RunningInjector
from midstream.testing.injectors import Layout, Stage, layout, operation, request, stage
from midstream.testing.wire import WAIT, Peer, Received, ScriptedOrigin, Watch, origin

TARGET = "/length?size=1000"
PART = "/length?size=1000&base=5000&total=9000"
WHOLE = layout(TARGET)
NEXT = layout("/length?size=5")


def edited(raw: bytes, *changes: tuple[bytes, bytes]) -> bytes:
    """Bytes with stretches replaced, each of which is there once."""
    for old, new in changes:
        assert raw.count(old) == 1, old
        raw = raw.replace(old, new)
    return raw


def chunked(head: bytes) -> bytes:
    """The head of a Content-Length response as it is when it is chunked instead."""
    line = head[head.index(b"Content-Length") :].partition(b"\r\n")[0] + b"\r\n"
    return edited(head, (line, b""))[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"


def flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


Case = tuple[str, Callable[[Layout], bytes], int, int | None]
P = WHOLE.payload
CASES: list[Case] = [
    ("flip@5400:3", lambda s: s.head + flipped(s.payload, 400, 3), 400, 5400),
    (
        "swap@5400:64",
        lambda s: s.head + s.payload[:400] + s.payload[464:528] + s.payload[400:464] + s.payload[528:],
        400,
        5400,
    ),
    (
        "duplicate@5400:64",
        lambda s: s.head + s.payload[:464] + s.payload[400:464] + s.payload[528:],
        400,
        5400,
    ),
    (
        "drop@5400:16",
        lambda s: edited(s.head, (b": 1000\r", b": 984\r")) + s.payload[:400] + s.payload[416:],
        0,
        5000,
    ),
    ("truncate@5400:length", lambda s: edited(s.head, (b": 1000\r", b": 400\r")) + s.payload[:400], 0, 5000),
    (
        "truncate@5400:chunked",
        lambda s: chunked(s.head) + b"190\r\n" + s.payload[:400] + b"\r\n0\r\n\r\n",
        0,
        5000,
    ),
    ('header@head:ETag="y"', lambda s: edited(s.wire, (b'ETag: "x"', b'ETag: "y"')), 0, 5000),
    (
        "restyle@head:lower",
        lambda s: edited(
            s.wire,
            (b"Server", b"server"),
            (b"Content-Length", b"content-length"),
            (b"Content-Range", b"content-range"),
            (b"ETag", b"etag"),
        ),
        0,
        5000,
    ),
    (
        "content-range@head:unknown",
        lambda s: edited(s.wire, (b"bytes 5000-5999/9000", b"bytes 5000-5999/*")),
        0,
        5000,
    ),
]


@pytest.mark.parametrize(("spec", "want", "body", "offset"), CASES, ids=[c[0] for c in CASES])
def test_fired_and_delivered(
    running: RunningInjector,
    store: ScriptedOrigin,
    spec: str,
    want: Callable[[Layout], bytes],
    body: int,
    offset: int,
) -> None:
    """The client gets the bytes the fault means, the record says where, and the connection goes on."""
    wire = want(layout(PART))
    with stage(running, store, f"GET#1 {spec}") as on:
        client = on.ask(PART)
        assert client.take(len(wire)) == wire
        client.send(request("/length?size=5"))
        assert client.take(len(NEXT.wire)) == NEXT.wire
        facts = on.facts()
    (fired,) = facts.fired
    assert (fired.rule, fired.exchange, fired.body, fired.offset) == (0, 1, body, offset)
    first = facts.exchanges[0]
    assert (first.end, first.wire, first.base) == ("complete", len(wire), 5000)
    assert not facts.trouble
    assert facts.connections == 1


@pytest.mark.parametrize("form", ["gzip@head", "multipart@head"])
def test_coded(running: RunningInjector, store: ScriptedOrigin, form: str) -> None:
    """A coded payload has no object offset; unwrapped it is the object's bytes; the connection goes on."""
    with stage(running, store, f"GET#1 {form}") as on:
        client = on.ask(PART)
        head = client.head()
        assert head
        data = client.body(head)
        client.send(request("/length?size=5"))
        assert client.take(len(NEXT.wire)) == NEXT.wire
        facts = on.facts()
    (fired,) = facts.fired
    assert (fired.body, fired.offset, facts.exchanges[0].base) == (0, None, None)
    if form.startswith("gzip"):
        size, _, rest = data.partition(b"\r\n")
        assert gzip.decompress(rest[: int(size, 16)]) == layout(PART).payload
    else:
        assert data.split(b"\r\n\r\n")[1].removesuffix(b"\r\n--midstream-part--\r\n") == layout(PART).payload


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("size", [3 * CHUNK, 70_001])
def test_truncated_where_the_store_goes_on(
    running: RunningInjector, store: ScriptedOrigin, framing: str, size: int
) -> None:
    """A body that is ended early ends cleanly; what the store goes on to say reaches nobody."""
    sent = layout(f"/{framing}?size=1000000")
    before = store.accepted
    with stage(running, store, f"GET#1 truncate@{size}:chunked") as on:
        client = on.ask(f"/{framing}?size=1000000")
        head = client.head()
        assert head
        body = client.body(head)
        payload = b"".join(body.split(b"\r\n")[1::2]) if b"\r\n" not in sent.payload else b""
        assert len(body) > size
        assert body.endswith(b"\r\n0\r\n\r\n")
        assert payload == sent.payload[:size]
        client.send(request("/length?size=5"))
        assert client.take(len(NEXT.wire)) == NEXT.wire
        facts = on.facts()
    assert [e.end for e in facts.exchanges] == ["complete", "complete"]
    assert facts.exchanges[0].sent == size
    assert store.accepted == before + 2, "the next request got a connection of its own"


# --- lengths that lie


@pytest.fixture(params=[False, True], ids=["at once", "head first"])
def delivery(request: pytest.FixtureRequest) -> Iterator[tuple[ScriptedOrigin, threading.Event]]:
    """A store that sends head and body together, or the body only when the client has the head."""
    go = threading.Event()

    def script(peer: Peer) -> None:
        while head := peer.head():
            answer = layout(head.request[1])
            if request.param:
                peer.send(answer.head)
                assert go.wait(WAIT)
                peer.send(answer.wire[len(answer.head) :])
            else:
                peer.send(answer.wire)

    with origin(script) as upstream:
        yield upstream, go
        go.set()


@pytest.mark.parametrize("length", ["5", "0", "999"])
def test_a_content_length_too_low(
    running: RunningInjector, delivery: tuple[ScriptedOrigin, threading.Event], length: str
) -> None:
    """The bytes that the head does not promise come behind the message, and then the end."""
    upstream, go = delivery
    want = edited(WHOLE.head, (b": 1000\r", f": {length}\r".encode()))
    with stage(running, upstream, f"GET#1 header@head:Content-Length={length}") as on:
        client = on.ask(TARGET)
        assert client.take(len(want)) == want
        go.set()
        assert client.rest() == Received(WHOLE.payload, "eof")
        facts = on.facts()
    assert (facts.exchanges[0].end, facts.exchanges[0].sent) == ("complete", int(length))
    assert not facts.trouble


def test_a_content_length_too_high(
    running: RunningInjector, delivery: tuple[ScriptedOrigin, threading.Event]
) -> None:
    """All that there is comes, and then the end, before the promise is kept: a fault, no trouble of ours."""
    upstream, go = delivery
    want = edited(WHOLE.head, (b": 1000\r", b": 1001\r"))
    with stage(running, upstream, "GET#1 header@head:Content-Length=1001") as on:
        client = on.ask(TARGET)
        assert client.take(len(want)) == want
        go.set()
        assert client.rest() == Received(WHOLE.payload, "eof")
        facts = on.facts()
    assert (facts.exchanges[0].end, facts.exchanges[0].sent) == ("cut", 1000)
    assert not facts.trouble


@pytest.mark.parametrize("spec", ["header@head::status=204", "header@head::status=304", "drop@0:5000"])
def test_no_body_left(
    running: RunningInjector, delivery: tuple[ScriptedOrigin, threading.Event], spec: str
) -> None:
    """A response that has lost its body ends with its head, and the next one is whole."""
    upstream, go = delivery
    with stage(running, upstream, f"GET#1 {spec}") as on:
        client = on.ask(TARGET)
        head = client.head()
        assert head
        assert head.status == int(spec[-3:]) if "status" in spec else head.get("content-length") == "0"
        go.set()
        client.send(request("/length?size=5"))
        assert client.take(len(NEXT.wire)) == NEXT.wire
        facts = on.facts()
    assert [(e.end, e.sent) for e in facts.exchanges] == [("complete", 0), ("complete", 5)]


# --- rewrites and cuts


@pytest.mark.parametrize(
    ("specs", "want"),
    [
        (("flip@100", "cut@500:rst"), WHOLE.head + flipped(P, 100)[:500]),
        (("cut@500:rst", "flip@499"), WHOLE.head + flipped(P, 499)[:500]),
        (("truncate@500:chunked", "cut@300:rst"), chunked(WHOLE.head) + b"1f4\r\n" + P[:300]),
        (("drop@100:16", "cut@50:rst"), edited(WHOLE.head, (b": 1000\r", b": 984\r")) + P[:50]),
        (("header@head:X=1", "cut@last-header:rst"), WHOLE.head[:-2] + b"X: 1\r\n"),
        (("swap@10:20", "cut@end-1:rst"), WHOLE.head + P[:10] + P[30:50] + P[10:30] + P[50:-1]),
        (
            ("truncate@500:chunked", "cut@trailer:rst"),
            chunked(WHOLE.head) + b"1f4\r\n" + P[:500] + b"\r\n0\r\n",
        ),
        (("header@head:X=1", "cut@wire+0:rst"), b""),
    ],
)
def test_rewritten_and_cut(
    running: RunningInjector, store: ScriptedOrigin, specs: tuple[str, ...], want: bytes
) -> None:
    """A cut counts the bytes that the client gets, and is exact in them."""
    with stage(running, store, *(f"GET#1 {spec}" for spec in specs)) as on:
        assert on.ask(TARGET).rest() == Received(want, "reset")
        facts = on.facts()
    assert {f.rule for f in facts.fired} == {0, 1}
    assert facts.exchanges[0].wire == len(want)


def test_a_rewrite_that_a_cut_forestalls(running: RunningInjector, store: ScriptedOrigin) -> None:
    """A flip behind a cut has not happened; without an ordinal it waits for the response with its byte."""
    with stage(running, store, "GET#1 cut@500:fin", "GET flip@900") as on:
        assert on.ask(TARGET).rest().data == WHOLE.head + P[:500]
        rest = layout("/length?size=500&base=500&total=1000")
        client = on.ask("/length?size=500&base=500&total=1000")
        assert client.take(len(rest.wire)) == rest.head + flipped(rest.payload, 400)
        client = on.ask("/length?size=500&base=500&total=1000")
        assert client.take(len(rest.wire)) == rest.wire, "healed"
        facts = on.facts()
    assert [(f.rule, f.exchange, f.body, f.offset) for f in facts.fired] == [
        (0, 1, 500, 500),
        (1, 2, 400, 900),
    ]
    unfired = [e.data["why"] for e in on.watch.events if e.kind == "unfired"]
    assert unfired == ["ended"]


def test_declined(running: RunningInjector, store: ScriptedOrigin) -> None:
    """What a response does not hold leaves it untouched, and the rule in wait."""
    rules = ("GET multipart@head", "GET flip@5500", "GET content-range@head:missing")
    with stage(running, store, *rules) as on:
        client = on.ask(TARGET)
        assert client.take(len(WHOLE.wire)) == WHOLE.wire
        facts = on.facts()
    assert not facts.fired
    assert facts.unfired == {0: ["elsewhere"], 1: ["elsewhere"], 2: ["elsewhere"]}


# --- requests that are edited


@contextmanager
def echo(running: RunningInjector, *specs: str) -> Iterator[tuple[Stage, list[bytes]]]:
    """An origin that keeps what it is asked."""
    seen: list[bytes] = []

    def script(peer: Peer) -> None:
        while head := peer.head():
            seen.append(head.raw + peer.body(head))
            peer.send(NEXT.wire)

    with origin(script) as upstream, stage(running, upstream, *specs) as on:
        yield on, seen


def asked(on: Stage, raw: bytes) -> None:
    client = on.connect()
    client.send(raw)
    assert client.take(len(NEXT.wire)) == NEXT.wire


RANGED = b'GET /a%20b?x=1 HTTP/1.1\r\nHost: h\r\nRANGE: bytes=100-\r\nif-range: "x"\r\nX-Odd:  y\r\n\r\n'


@pytest.mark.parametrize(
    ("spec", "old", "new"),
    [
        ("ignore-range", b'RANGE: bytes=100-\r\nif-range: "x"\r\n', b""),
        ("shift-range:-30", b"RANGE: bytes=100-", b"RANGE: bytes=70-"),
        ("shift-range:-300", b"RANGE: bytes=100-", b"RANGE: bytes=0-"),
        ("shift-range:+30", b"RANGE: bytes=100-", b"RANGE: bytes=130-"),
        ("shift-range:=0", b"RANGE: bytes=100-", b"RANGE: bytes=0-"),
        ("shorten-range:50", b"RANGE: bytes=100-", b"RANGE: bytes=100-149"),
        ("replica", b"/a%20b?x=1", b"/a%20b.replica?x=1"),
    ],
)
def test_edited_requests(running: RunningInjector, spec: str, old: bytes, new: bytes) -> None:
    """The store sees the edited request, once; everything else in it stays, and the record says so."""
    name, _, value = spec.partition(":")
    line = f"GET#1 {name}@request{':' if value else ''}{value}"
    with echo(running, line) as (on, seen):
        asked(on, RANGED)
        asked(on, RANGED)
        facts = on.facts()
    assert seen == [edited(RANGED, (old, new)).replace(b"X-Odd:  y", b"X-Odd: y"), RANGED]
    (fired,) = facts.fired
    assert (fired.rule, fired.exchange, fired.wire, fired.body, fired.offset) == (0, 1, 0, 0, None)
    assert facts.exchanges[0].field("range") == "bytes=100-", "the record shows what the client asked"


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ("ignore-range", b""),
        ("shift-range:+5", b""),
        ("shift-range:=7", b"Range: bytes=7-\r\n"),
        ("shift-range:+5", b"Range: bytes=-7\r\n"),
        ("shift-range:+5", b"Range: bytes=0-1,5-6\r\n"),
        ("shorten-range:10", b"Range: bytes=0-9\r\n"),
        ("shorten-range:10", b"Range: lines=0-\r\n"),
    ],
)
def test_nothing_to_edit(running: RunningInjector, spec: str, fields: bytes) -> None:
    """A request that does not ask for such a range passes, and the rule waits for one that does."""
    name, _, value = spec.partition(":")
    plain = b"GET /k HTTP/1.1\r\nHost: h\r\n" + fields + b"\r\n"
    with echo(running, f"GET {name}@request{':' if value else ''}{value}") as (on, seen):
        asked(on, plain)
        asked(on, RANGED)
        facts = on.facts()
    assert seen[0] == plain
    assert seen[1] != RANGED
    assert [f.exchange for f in facts.fired] == [2]
    assert [e.data["why"] for e in on.watch.events if e.kind == "unfired"] == ["elsewhere"]


def test_an_edited_upload(running: RunningInjector) -> None:
    """A body behind an edited head arrives whole."""
    raw = b"PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000)
    with echo(running, "PUT#1 replica@request") as (on, seen):
        asked(on, raw)
    assert seen == [raw.replace(b"/k", b"/k.replica")]


# --- acts while the response waits


@contextmanager
def acting(
    running: RunningInjector, store: ScriptedOrigin, act: Callable[[Mutate | Kill], None] | None, *specs: str
) -> Iterator[Stage]:
    watch = Watch()
    plan = Plan(store.address, Schedule.parse(specs), operation, None, on_event=watch, act=act)
    opened = Stage(running.open(plan), watch)
    try:
        yield opened
    finally:
        opened.facts()


class Blocking:
    """An act that waits to be let go."""

    def __init__(self) -> None:
        self.verbs: list[Mutate | Kill] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, verb: Mutate | Kill) -> None:
        self.verbs.append(verb)
        self.begun.set()
        assert self.go.wait(WAIT)


ACTS: list[tuple[str, Mutate | Kill, int]] = [
    (f"{fault}@{at}{value}", verb, size)
    for fault, value, verb in (("replace", ":longer", Mutate("longer")), ("delete", "", Mutate("delete")))
    for at in ("head", "0", "700", "end")
    for size in (1000, 3_000_000)
]


@pytest.mark.parametrize(("fault", "verb", "size"), [*ACTS, ("kill@700:TERM", Kill("TERM"), 1000)])
def test_an_act_happens_between_two_bytes(
    running: RunningInjector, store: ScriptedOrigin, fault: str, verb: Mutate | Kill, size: int
) -> None:
    """The client has the bytes before and not one after it while the act goes on; then the rest comes."""
    want = layout(f"/length?size={size}")
    at = fault.partition("@")[2].partition(":")[0]
    wire = {"head": 0, "end": len(want.wire)}.get(at)
    wire = want.byte(int(at)) if wire is None else wire
    act = Blocking()
    with acting(running, store, act, f"GET#1 {fault}") as on:
        client = on.ask(f"/length?size={size}")
        got = client.take(wire)
        assert act.begun.wait(WAIT)
        assert got == want.wire[:wire]
        assert client.quiet()
        act.go.set()
        assert client.take(len(want.wire) - wire) == want.wire[wire:]
        facts = on.facts()
    assert act.verbs == [verb]
    assert facts.fired[0].wire == wire
    assert not facts.trouble


def test_an_act_waits_for_a_slow_client(running: RunningInjector, store: ScriptedOrigin) -> None:
    """What is in our kernel is not in the client's: with a small window the act waits for the reader."""
    act = Blocking()
    act.go.set()
    with acting(running, store, act, "GET#1 delete@2000000") as on:
        client = on.ask("/length?size=3000000", receive_buffer=4096)
        want = layout("/length?size=3000000")
        client.sock.recv(1, socket.MSG_PEEK)
        assert not act.begun.is_set(), "a window of 4 KiB cannot hold two million bytes"
        assert client.take(len(want.wire)) == want.wire
        assert act.begun.is_set()


def test_an_act_at_the_request(running: RunningInjector, store: ScriptedOrigin) -> None:
    """An act at the request is over before the store sees it."""
    act = Blocking()
    before = store.accepted
    with acting(running, store, act, "GET#1 replace@request:same") as on:
        client = on.ask(TARGET)
        assert act.begun.wait(WAIT)
        assert store.accepted == before
        act.go.set()
        assert client.take(len(WHOLE.wire)) == WHOLE.wire


def verdict_of(facts: Facts) -> Verdict:
    return judge(Seen(Expectation(), Outcome("failed", "broken"), Sink(False), facts, 1000)).verdict


@pytest.mark.parametrize("act", [None, lambda _: 1 / 0])
def test_an_act_that_fails(
    running: RunningInjector, store: ScriptedOrigin, act: Callable[[Mutate | Kill], None] | None
) -> None:
    """What cannot be done is trouble of the harness, never a finding about the driver."""
    with acting(running, store, act, "GET#1 delete@500") as on:
        client = on.ask(TARGET)
        assert client.rest().data == WHOLE.wire[: WHOLE.byte(500)]
        facts = on.facts()
    (trouble,) = facts.trouble
    assert ("nobody here can mutate" if act is None else "ZeroDivisionError") in trouble
    assert verdict_of(facts) is Verdict.HARNESS_ERROR


def test_notify_without_tls(running: RunningInjector, store: ScriptedOrigin) -> None:
    """A close_notify where there is no TLS is a mistake of the scenario, never a finding about the driver."""
    with stage(running, store, "GET#1 cut@500:notify") as on:
        on.ask(TARGET).rest()
        facts = on.facts()
    assert "cut:notify needs a TLS connection" in facts.trouble[0]
    assert verdict_of(facts) is Verdict.HARNESS_ERROR


# --- redirects and interim responses


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect(running: RunningInjector, store: ScriptedOrigin, status: int) -> None:
    """Location is the same target under another host name, where the store answers too."""
    with stage(running, store, f"GET#1 redirect@head:{status}") as on:
        head = on.ask(TARGET).head()
        assert head
        assert (head.status, head.get("location")) == (status, f"http://localhost:{on.port}{TARGET}")
        with socket.create_connection(("localhost", on.port)) as sock:
            client = Peer(sock)
            client.send(request(TARGET))
            assert client.take(len(WHOLE.wire)) == WHOLE.wire
        facts = on.facts()
    assert [e.answered_by for e in facts.exchanges] == ["injector", "store"]


@pytest.mark.parametrize("status", [100, 102, 103])
def test_interim(running: RunningInjector, store: ScriptedOrigin, status: int) -> None:
    """The interim response comes first, whole, and the response behind it; both are counted."""
    with stage(running, store, f"GET#1 interim@head:{status}") as on:
        client = on.ask(TARGET)
        first = client.head()
        assert first
        assert first.status == status
        assert client.take(len(WHOLE.wire)) == WHOLE.wire
        facts = on.facts()
    assert facts.exchanges[0].wire == len(first.raw) + len(WHOLE.wire)
    assert (facts.exchanges[0].status, facts.exchanges[0].sent) == (200, 1000)


@pytest.mark.parametrize("status", [100, 102, 103])
def test_cut_inside_an_interim(running: RunningInjector, store: ScriptedOrigin, status: int) -> None:
    """Half of the interim response comes, and then the end."""
    with stage(running, store, f"GET#1 interim@head:{status}") as on:
        whole = on.ask(TARGET).head()
        assert whole
    with stage(running, store, f"GET#1 interim@head:{status},cut") as on:
        assert on.ask(TARGET).rest() == Received(whole.raw[: len(whole.raw) // 2], "eof")
        facts = on.facts()
    assert (facts.exchanges[0].end, facts.exchanges[0].wire) == ("cut", len(whole.raw) // 2)


def test_a_head_is_a_value() -> None:
    """Editing a head gives a new one; the one that came stays as it was."""
    head = Head("GET / HTTP/1.1", [("A", "1")], b"raw")
    head.with_field("A", "2").with_line("x").without("A")
    assert (head.line, head.fields, head.raw) == ("GET / HTTP/1.1", [("A", "1")], b"raw")
