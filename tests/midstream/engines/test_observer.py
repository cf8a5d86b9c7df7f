"""The relay in front of toxiproxy, with an engine that does what it likes: every lie is found out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import select
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from midstream._errors import HarnessError
from midstream._evidence import Facts, fold
from midstream._schedule import Schedule
from midstream._verbs import Kill, Mutate
from midstream.injectors import Plan
from midstream.injectors._toxics import LETS_GO, Toxic
from midstream.injectors.embedded import RunningEmbedded
from midstream.injectors.toxiproxy import Engine, ToxiproxySession
from midstream.testing.injectors import Stage, layout, objects, operation
from midstream.testing.wire import Received, ScriptedOrigin, Watch

TARGET = "/length?size=1000"
WHOLE = layout(TARGET)


def end(sock: socket.socket, *, by_reset: bool) -> None:
    if by_reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@dataclass
class Proxy:
    """A proxy of the stand-in: forwards, and ends after `limit` bytes if that is set."""

    upstream: tuple[str, int]
    lie: str
    limit: int | None = None
    stays: bool = False
    resets: bool = False
    mute: str = ""  # "" or ends, holds: nothing passes at all
    go: threading.Event = field(default_factory=threading.Event)
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client: socket.socket) -> None:
        if self.mute == "ends" and self.lie != "stays":
            end(client, by_reset=self.resets != (self.lie == "other"))
            return
        if self.mute:
            self.go.wait(30)
            return
        try:
            store = socket.create_connection(self.upstream)
        except OSError:
            client.close()
            return
        limit = self.limit
        if limit is not None:
            limit += {"early": -1, "late": 1}.get(self.lie, 0)
        try:
            self.forward(client, store, limit)
            if self.stays and self.lie != "ends":
                self.go.wait(30)
            if self.lie == "more":
                client.sendall(b"more")
        except OSError:
            pass
        store.close()
        end(client, by_reset=self.resets != (self.lie == "other"))

    @staticmethod
    def forward(client: socket.socket, store: socket.socket, limit: int | None) -> None:
        """Both ways in one thread: another that reads would keep a close from being sent."""
        passed = 0
        while limit is None or passed < limit:
            for sock in select.select([client, store], [], [])[0]:
                room = 65536 if sock is client or limit is None else limit - passed
                data = sock.recv(room)
                if not data:
                    return
                (store if sock is client else client).sendall(data)
                passed += len(data) if sock is store else 0


class StandIn(Engine):
    """What the relay needs of toxiproxy, done in this process, as truly as `lie` says."""

    version = "0"

    def __init__(self, lie: str = "") -> None:
        self.lie = lie
        self.api = self  # type: ignore[assignment]
        self.proxies: dict[str, Proxy] = {}
        self.made = 0
        self._numbers = itertools.count(1)
        self._process = self._folder = None

    def alive(self) -> bool:
        return self.lie != "dies"

    def create(self, name: str, upstream: tuple[str, int], chain: Sequence[Toxic] = ()) -> tuple[str, int]:
        if self.lie == "refuses" and chain:
            raise HarnessError("toxiproxy: POST /proxies gave 500: out of order")
        kinds = {t.type: dict(t.attributes) for t in chain}
        proxy = Proxy(upstream, self.lie if chain else "")
        proxy.limit = kinds.get("limit_data", {}).get("bytes")
        proxy.stays = LETS_GO in {t.name for t in chain}
        proxy.resets = "reset_peer" in kinds
        if "timeout" in kinds:
            proxy.mute = "ends" if kinds["timeout"]["timeout"] else "holds"
        self.proxies[name] = proxy
        self.made += 1
        threading.Thread(target=proxy.serve, daemon=True).start()
        return proxy.listener.getsockname()[:2]

    def let_go(self, name: str) -> None:
        self.proxies[name].go.set()

    def enable(self, name: str, on: bool, listen: tuple[str, int]) -> None:
        proxy = self.proxies[name]
        if self.lie == "stays":
            return
        if on:
            proxy.listener = socket.create_server(listen)
            threading.Thread(target=proxy.serve, daemon=True).start()
        else:
            proxy.listener.shutdown(socket.SHUT_RDWR)
            proxy.listener.close()

    def remove(self, name: str) -> None:
        if proxy := self.proxies.pop(name, None):
            proxy.go.set()
            with contextlib.suppress(OSError):
                proxy.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            proxy.listener.close()


@pytest.fixture(scope="module")
def loop() -> Iterator[RunningEmbedded]:
    running = RunningEmbedded()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def store() -> Iterator[ScriptedOrigin]:
    store = ScriptedOrigin(objects)
    yield store
    store.stop()


class Ground:
    """Opens sessions in front of a stand-in."""

    def __init__(self, loop: RunningEmbedded, store: ScriptedOrigin) -> None:
        self.loop = loop
        self.store = store
        self.engine = StandIn()
        self.acted: list[Mutate | Kill] = []
        self.open: list[Stage] = []

    def stage(self, *specs: str, lie: str = "") -> Stage:
        engine = self.engine = StandIn(lie)
        address = engine.create("clean", self.store.address)
        watch = Watch()
        plan = Plan(
            self.store.address,
            Schedule.parse(specs),
            operation,
            None,
            on_event=watch,
            act=self.acted.append,
        )
        inner: asyncio.AbstractEventLoop = self.loop._loop
        made = self.loop.begin(lambda: ToxiproxySession(inner, plan, engine, "clean", address))
        self.open.append(Stage(made, watch))
        return self.open[-1]


@pytest.fixture
def ground(loop: RunningEmbedded, store: ScriptedOrigin) -> Iterator[Ground]:
    ground = Ground(loop, store)
    yield ground
    for on in ground.open:
        on.facts()


def ends(facts: Facts) -> list[str]:
    return [e.end for e in facts.exchanges]


@pytest.mark.parametrize("ending", ["fin", "rst"])
@pytest.mark.parametrize("position", ["0", "500", "100%", "status-line", "headers", "wire+20", "end-3"])
def test_a_true_engine(ground: Ground, ending: str, position: str) -> None:
    """Exactly the bytes and the ending asked for: the fault has fired, and the client saw the same."""
    on = ground.stage(f"GET#1 cut@{position}:{ending}")
    got = on.ask(TARGET).rest()
    facts = on.facts()
    assert not facts.trouble
    (fired,) = facts.fired
    assert len(got.data) == fired.wire
    assert got == Received(WHOLE.wire[: fired.wire], "eof" if ending == "fin" else "reset")
    assert ends(facts) == ["cut"]


@pytest.mark.parametrize(
    ("ending", "lie", "word"),
    [
        ("fin", "early", "ended the response after"),
        ("fin", "late", "went on"),
        ("rst", "late", "went on"),
        ("fin", "other", "ended by a reset"),
        ("rst", "other", "ended by a FIN"),
    ],
)
def test_a_lying_engine(ground: Ground, lie: str, word: str, ending: str) -> None:
    """A byte too few, a byte too many, the other ending: trouble of ours, and nothing has fired."""
    on = ground.stage(f"GET#1 cut@500:{ending}", lie=lie)
    on.ask(TARGET).rest()
    facts = on.facts()
    assert not facts.fired
    assert any(word in text for text in facts.trouble), facts.trouble


def test_an_engine_that_stops_short(ground: Ground) -> None:
    """Bytes that never come are the engine's, also when the driver waits for them until the case ends."""
    on = ground.stage("GET#1 cut@500:rst", lie="early")
    client = on.ask(TARGET)
    assert client.take(WHOLE.byte(499)) == WHOLE.wire[: WHOLE.byte(499)]
    facts = fold(on.session.close())
    assert facts.trouble == [
        f"toxiproxy had sent {WHOLE.byte(499)} of {WHOLE.byte(500)} bytes when the case ended"
    ]


@pytest.mark.parametrize(("lie", "word"), [("ends", "ended by"), ("more", "went on")])
def test_a_stall_that_is_none(ground: Ground, lie: str, word: str) -> None:
    """An engine that does not keep still is found out, however late."""
    on = ground.stage("GET#1 stall@500", lie=lie)
    client = on.ask(TARGET)
    client.take(WHOLE.byte(500))
    for proxy in list(ground.engine.proxies.values()):
        proxy.go.set()
    client.rest()
    facts = on.facts()
    assert any(word in text for text in facts.trouble), facts.trouble


def test_an_engine_that_does_not_arm(ground: Ground) -> None:
    """A refusal of the API ends the case as trouble."""
    on = ground.stage("GET#1 cut@500", lie="refuses")
    on.ask(TARGET).rest()
    assert any("out of order" in text for text in on.facts().trouble)


def test_an_engine_that_dies(ground: Ground) -> None:
    """An engine that is gone at the end of a case spoils it, whatever happened in it."""
    on = ground.stage(lie="dies")
    on.ask(TARGET).take(len(WHOLE.wire))
    assert on.facts().trouble == ["the injector failed: HarnessError: toxiproxy ended during the case"]


@pytest.mark.parametrize("ending", ["fin", "rst"])
@pytest.mark.parametrize("spec", ["CONNECTION#1 hangup@accept:{}", "GET#1 cut@request:{}"])
def test_ends_before_a_byte(ground: Ground, spec: str, ending: str) -> None:
    """A connection, or a request, ends without an answer and without the store; the next is well."""
    before = ground.store.accepted
    on = ground.stage(spec.format(ending))
    assert on.ask(TARGET).rest() == Received(b"", "eof" if ending == "fin" else "reset")
    assert ground.store.accepted == before
    assert on.ask(TARGET).take(len(WHOLE.wire)) == WHOLE.wire
    facts = on.facts()
    assert len(facts.fired) == 1
    assert not facts.trouble


def test_a_request_that_is_never_let_through(ground: Ground) -> None:
    """The client waits, the store hears nothing, and leaving ends it."""
    before = ground.store.accepted
    on = ground.stage("GET#1 stall@request:forever")
    client = on.ask(TARGET)
    on.until("fault")
    assert client.quiet()
    client.close()
    assert on.until("sent").data["end"] == "client-left"
    assert ground.store.accepted == before


def test_only_the_request_meant_is_armed(ground: Ground) -> None:
    """On one connection, the second response is cut and the others come through clean proxies."""
    on = ground.stage("GET#2 cut@10:rst")
    client = on.ask(TARGET)
    assert client.take(len(WHOLE.wire)) == WHOLE.wire
    client.send(b"GET " + TARGET.encode() + b" HTTP/1.1\r\n\r\n")
    assert client.rest() == Received(WHOLE.wire[: WHOLE.byte(10)], "reset")
    assert on.ask(TARGET).take(len(WHOLE.wire)) == WHOLE.wire
    facts = on.facts()
    assert ends(facts) == ["complete", "cut", "complete"]
    assert ground.engine.made == 2
    assert not ground.engine.proxies, "none is left"


def test_a_response_without_the_byte_is_left_alone(ground: Ground) -> None:
    """An unnumbered rule arms no proxy for a response that does not have its byte."""
    part = "/length?size=100&base=0&total=300"
    on = ground.stage("get_object cut@150")
    assert on.ask(part).take(len(layout(part).wire)) == layout(part).wire
    other = "/length?size=100&base=100&total=300"
    assert on.ask(other).rest().data == layout(other).wire[: layout(other).byte(50)]
    facts = on.facts()
    assert [f.offset for f in facts.fired] == [150]
    assert not facts.trouble


def test_two_rules_one_after_the_other(ground: Ground) -> None:
    """A rule whose byte lay behind the cut is in force for the next request at once."""
    on = ground.stage("get_object cut@100", "get_object cut@200")
    assert on.ask(TARGET).rest().data == WHOLE.wire[: WHOLE.byte(100)]
    assert on.ask(TARGET).rest().data == WHOLE.wire[: WHOLE.byte(200)]
    assert [f.rule for f in on.facts().fired] == [0, 1]


def test_a_change_at_its_byte(ground: Ground) -> None:
    """What is not the wire's is done once exactly the bytes before it have been sent."""
    on = ground.stage("GET#1 replace@500:same")
    client = on.ask(TARGET)
    assert client.take(len(WHOLE.wire)) == WHOLE.wire
    facts = on.facts()
    assert ground.acted == [Mutate("same")]
    assert [f.body for f in facts.fired] == [500]


def test_another_head_than_rehearsed(loop: RunningEmbedded) -> None:
    """A store whose head differs between two answers is trouble: the cut was not where it should be."""
    turns = itertools.count()

    def script(peer: object) -> None:
        while peer.head():  # type: ignore[attr-defined]
            extra = b"X-Turn: %s\r\n" % (b"x" * (next(turns) % 2))
            peer.send(  # type: ignore[attr-defined]
                b"HTTP/1.1 200 OK\r\n" + extra + b"Content-Length: 100\r\n\r\n" + bytes(100)
            )

    store = ScriptedOrigin(script)
    try:
        on = Ground(loop, store).stage("GET#1 cut@50")
        on.ask("/k").rest()
        facts = on.facts()
    finally:
        store.stop()
    assert not [f for f in facts.fired if f.body == 50]
    assert any("asked for before" in text for text in facts.trouble)


def test_what_cannot_be_asked_for_twice(ground: Ground) -> None:
    """A request with a body is not sent a second time to learn where its response is to be cut."""
    on = ground.stage("* cut@body+5")
    client = on.connect()
    client.send(b"PUT " + TARGET.encode() + b" HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
    client.take(len(WHOLE.wire))
    assert any("asked for twice" in text for text in on.facts().trouble)


def test_refusing_is_toxiproxy_s_doing(ground: Ground) -> None:
    """While the proxy is down the port is closed; one that stays up is trouble."""
    on = ground.stage("CONNECTION#1 refuse@accept:1ms")
    on.until("window")
    assert on.ask(TARGET).take(len(WHOLE.wire)) == WHOLE.wire
    assert not on.facts().trouble
    on = ground.stage("CONNECTION#1 refuse@accept:1ms", lie="stays")
    on.until("window")
    assert any("still accepts" in text for text in on.facts().trouble)
