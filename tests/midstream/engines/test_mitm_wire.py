"""The client's side of a connection through mitmproxy, with a stand-in for mitmproxy that just writes."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from midstream._evidence import Evidence, Facts, fold
from midstream._schedule import Schedule
from midstream._verbs import Kill, Mutate
from midstream.injectors._case import Case
from midstream.injectors._mitm_wire import Answer, Done, Failed, Gate, Line, Reader, Step
from midstream.testing.injectors import layout
from midstream.testing.wire import Peer, Received

TARGET = "/length?size=1000"
WHOLE = layout(TARGET)

Engine = Callable[["Conversation"], Awaitable[None]]


class Conversation:
    """One line between a client in the test and an engine that writes into its gate."""

    def __init__(self, line: Line, schedule: Schedule) -> None:
        self.line = line
        self.gate = Gate(line)
        self.schedule = schedule
        self.numbers = itertools.count(1)

    def answer(self, method: str = "GET", by: str = "store") -> Answer:
        """Tell the line of a request, as the hooks do."""
        number = next(self.numbers)
        operation = "get_object" if method == "GET" else "other"
        self.line.note("request", number, method=method, target="/k", operation=operation, fields=[])
        armed = self.schedule.request(method, "/k", operation)
        answer = Answer(self.line, number, method, operation, armed, by)
        self.line.answers.append(answer)
        return answer

    async def write(self, data: bytes, piece: int = 1 << 16) -> None:
        for start in range(0, len(data), piece):
            self.gate.write(data[start : start + piece])
            await self.gate.drain()


class Ground:
    """Runs conversations on a loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def begin(self, engine: Engine, *specs: str, size: int | None = None) -> Running:
        ours, theirs = socket.create_server(("127.0.0.1", 0)), socket.socket()
        theirs.connect(ours.getsockname())
        sock, _ = ours.accept()
        ours.close()
        running = Running(Peer(theirs), self, engine, Schedule.parse(specs), size)
        running.done = asyncio.run_coroutine_threadsafe(running.run(sock), self.loop)
        return running

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)
        self.loop.close()


class Running:
    """A conversation under way: `client` is the test's end."""

    done: object

    def __init__(
        self, client: Peer, ground: Ground, engine: Engine, schedule: Schedule, size: int | None
    ) -> None:
        self.client = client
        self.ground = ground
        self.engine = engine
        self.acted: list[Mutate | Kill] = []
        self.evidence = Evidence()
        started = time.monotonic()
        self.case = Case(
            ("", 0),
            schedule,
            lambda *_: "",
            size,
            self.evidence,
            lambda: time.monotonic() - started,
        )
        self.schedule = schedule

    async def act(self, verb: Mutate | Kill) -> None:
        self.acted.append(verb)

    async def run(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = Reader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        line = Line(self.case, 1, reader, writer, self.act)
        line.note("connection")
        serving = loop.create_task(line.serve())
        writing = loop.create_task(self._write(Conversation(line, self.schedule)))
        try:
            await asyncio.shield(serving)
        finally:
            serving.cancel()
            writing.cancel()
            await asyncio.wait({serving, writing})

    async def _write(self, conversation: Conversation) -> None:
        await self.engine(conversation)

    def facts(self) -> Facts:
        self.client.close()
        self.done.result(30)  # type: ignore[attr-defined]
        return fold(self.evidence)


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    ground = Ground()
    yield ground
    ground.stop()


def whole(target: str = TARGET, piece: int = 1 << 16) -> Engine:
    """An engine that gives one response and then closes."""

    async def engine(on: Conversation) -> None:
        on.answer()
        await on.write(layout(target).wire, piece)
        on.gate.close()

    return engine


@pytest.mark.parametrize("ending", ["fin", "rst"])
@pytest.mark.parametrize("seed", range(8))
def test_cuts_are_exact(ground: Ground, ending: str, seed: int) -> None:
    """Exactly the bytes before the position, whatever pieces mitmproxy writes, then exactly the ending."""
    draw = random.Random(seed)
    target = draw.choice(("/length?size=70000", "/chunked?size=70000", "/close?size=70000"))
    want = layout(target)
    k = draw.randrange(70_000)
    places = [(str(k), want.byte(k)), (f"body+{k}", want.byte(k)), (f"wire+{k}", k)]
    places += [("end-7", len(want.wire) - 7), ("last-header", len(want.head) - 2)]
    position, wire = draw.choice(places)
    running = ground.begin(
        whole(target, draw.choice((1000, 4096, 65_536))), f"GET cut@{position}:{ending}", size=70_000
    )
    assert running.client.rest() == Received(want.wire[:wire], "reset" if ending == "rst" else "eof")
    facts = running.facts()
    (fired,) = facts.fired
    assert (fired.wire, fired.body) == (wire, want.payload_before(wire))
    assert [(e.end, e.wire) for e in facts.exchanges] == [("cut", wire)]
    assert not facts.trouble


def test_nothing_happens_without_a_rule(ground: Ground) -> None:
    """The bytes pass as they are, and the exchange is complete."""
    running = ground.begin(whole("/close?size=3000000", 100_000))
    assert running.client.rest() == Received(layout("/close?size=3000000").wire, "eof")
    assert [(e.end, e.sent) for e in running.facts().exchanges] == [("complete", 3_000_000)]


def test_a_half_close_leaves_the_other_direction(ground: Ground) -> None:
    """After the end of the response, the client may go on to write."""
    running = ground.begin(whole(), "GET cut@100:half")
    assert running.client.rest() == Received(WHOLE.wire[: WHOLE.byte(100)], "eof")
    for _ in range(20):
        running.client.send(bytes(4096))
    running.client.sock.shutdown(socket.SHUT_WR)
    assert [e.end for e in running.facts().exchanges] == ["cut"]


def test_a_stall_ends_when_the_client_leaves(ground: Ground) -> None:
    """What is held stays held, and a client that leaves is seen."""
    running = ground.begin(whole(), "GET stall@100:forever")
    assert running.client.take(WHOLE.byte(100)) == WHOLE.wire[: WHOLE.byte(100)]
    assert running.client.quiet()
    facts = running.facts()
    assert [(e.end, e.sent) for e in facts.exchanges] == [("client-left", 100)]
    assert len(facts.fired) == 1


def test_a_change_at_its_byte(ground: Ground) -> None:
    """What is done off the wire is done between two bytes."""
    running = ground.begin(whole(), "GET replace@100:same")
    assert running.client.take(len(WHOLE.wire)) == WHOLE.wire
    assert running.acted == [Mutate("same")]
    assert running.facts().fired[0].body == 100


def test_two_responses_one_after_the_other(ground: Ground) -> None:
    """The second response is cut where it was said, the first is whole."""

    async def engine(on: Conversation) -> None:
        for _ in range(2):
            on.answer()
            await on.write(WHOLE.wire, 333)
        on.gate.close()

    running = ground.begin(engine, "GET#2 cut@10:rst")
    assert running.client.rest() == Received(WHOLE.wire + WHOLE.wire[: WHOLE.byte(10)], "reset")
    assert [e.end for e in running.facts().exchanges] == ["complete", "cut"]


def test_the_store_s_early_end(ground: Ground) -> None:
    """A response that mitmproxy could not have whole is trouble of the store, not a cut."""

    async def engine(on: Conversation) -> None:
        answer = on.answer()
        await on.write(WHOLE.wire[:500])
        on.line.push(Failed(answer, "mitmproxy: server closed connection"))
        await on.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>its own words</html>")
        on.gate.close()

    running = ground.begin(engine)
    assert running.client.rest() == Received(WHOLE.wire[:500], "eof")
    facts = running.facts()
    assert [e.end for e in facts.exchanges] == ["upstream-closed"]
    assert facts.trouble


@pytest.mark.parametrize(
    ("declared", "sent", "want"), [(10, 10, "complete"), (20, 10, "cut"), (5, 10, "complete")]
)
def test_a_rewritten_head_that_does_not_tell_the_truth(
    ground: Ground, declared: int, sent: int, want: str
) -> None:
    """Too long a length ends in a cut; what is beyond one too short follows, and then the end."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % declared

    async def engine(on: Conversation) -> None:
        answer = on.answer()
        answer.rewriter = answer.rewriter_for()
        assert answer.rewriter
        answer.rewriter.base = 0
        await on.write(head + bytes(sent))
        on.line.push(Done(answer))
        await on.gate.drain()
        on.gate.close()

    running = ground.begin(engine, "GET header@head:X=1")
    assert running.client.rest() == Received(head + bytes(sent), "eof")
    assert [e.end for e in running.facts().exchanges] == [want]


def test_steps_come_between_bytes(ground: Ground) -> None:
    """What is queued is done in order, also what is no byte."""
    seen: list[int] = []

    async def engine(on: Conversation) -> None:
        on.line.raw = True

        async def step() -> None:
            seen.append(1)

        on.gate.write(b"before")
        on.line.push(Step(step))
        on.gate.write(b"behind")
        on.gate.close()

    running = ground.begin(engine)
    assert running.client.rest() == Received(b"beforebehind", "eof")
    assert seen == [1]
    running.facts()


def test_a_reader_that_is_slow_slows_the_engine(ground: Ground) -> None:
    """With the client's buffers full, `drain` does not return: mitmproxy reads no further."""
    written: list[int] = []

    async def engine(on: Conversation) -> None:
        on.answer()
        wire = layout("/length?size=50000000").wire
        for start in range(0, len(wire), 1 << 20):
            await on.write(wire[start : start + (1 << 20)])
            written.append(start)
        on.gate.close()

    running = ground.begin(engine)
    assert running.client.take(1000)
    assert len(written) < 48
    assert len(running.client.rest().data) > 49_000_000
    assert [e.end for e in running.facts().exchanges] == ["complete"]
