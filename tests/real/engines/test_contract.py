"""The engines keep the contract that ships, in what they carry."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from tests.real.engines.conftest import engine

from midstream._registry import load
from midstream._schedule import Schedule
from midstream._verbs import Close, Respond
from midstream._wire import Tracker
from midstream.injectors import Injector, RunningInjector
from midstream.testing.injectors import Cut, InjectorContract, layout, only, request, stage
from midstream.testing.wire import Received, ScriptedOrigin


class RealEngine(InjectorContract):
    """The contract, with more trials."""

    trials = 100
    batches = 2

    @pytest.fixture(scope="class")
    @classmethod
    def kind(cls) -> Injector:
        return engine(cls.injector)

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, kind: Injector) -> Iterator[RunningInjector]:
        running = kind.start()
        yield running
        running.stop()


class TestToxiproxy(RealEngine):
    """What it does not carry has its reason tested in place of the contract's test."""

    injector = "toxiproxy"

    @pytest.mark.parametrize("ending", ["fin", "rst"])
    def test_cuts_are_exact(
        self,
        running: RunningInjector,
        store: ScriptedOrigin,
        carries: Callable[..., None],
        ending: str,
        batch: int,
    ) -> None:
        """Exactly the bytes before the position, then exactly the ending, in every one of the trials."""
        super().test_cuts_are_exact(running, store, carries, ending, batch)

    def test_a_half_close_leaves_the_other_direction(self, kind: Injector) -> None:
        """There is no half-close."""
        refused(kind, "GET cut@100:half", "both directions at once")

    @pytest.mark.parametrize("fault", ["delay@head:80ms"])
    def test_a_pause_ends_by_itself(
        self, running: RunningInjector, store: ScriptedOrigin, carries: Callable[..., None], fault: str
    ) -> None:
        """Before the head a pause ends by itself; in the middle there is none."""
        refused(load("injectors", "toxiproxy"), "GET stall@body+1000:80ms", "pause in the middle")
        super().test_a_pause_ends_by_itself(running, store, carries, fault)

    def test_a_throttle_takes_its_time(
        self, running: RunningInjector, store: ScriptedOrigin, carries: Callable[..., None]
    ) -> None:
        """A response takes at least size over rate seconds; the next one does not."""
        refused(load("injectors", "toxiproxy"), "GET throttle@body+10000:100000", "from the first byte")
        want = layout("/length?size=30000").wire
        with stage(running, store, "GET#1 throttle@head:100000") as on:
            client = on.ask("/length?size=30000")
            assert client.take(len(want)) == want
            client.send(request("/length?size=1000000"))
            more = layout("/length?size=1000000").wire
            assert client.take(len(more)) == more
            on.until("sent", 2)
            assert not on.facts().trouble
        fired = next(e for e in on.watch.events if e.kind == "fault")
        first, second = (e for e in on.watch.events if e.kind == "sent")
        assert first.at - fired.at >= 0.3 - 0.05
        assert second.at - first.at < 5, "at the first one's pace it takes 10 seconds"

    def test_an_answer_in_the_store_s_place(self, kind: Injector) -> None:
        """HTTP is not for it."""
        assert Respond not in kind.verbs
        refused(kind, "GET status@head:503", "knows no HTTP")


def refused(kind: Injector, line: str, word: str) -> None:
    assert word in (kind.carries(Schedule.parse([line])) or "")


class TestMitmproxy(RealEngine):
    injector = "mitmproxy"

    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    @pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_001])
    def test_passes_through(
        self, running: RunningInjector, store: ScriptedOrigin, framing: str, size: int
    ) -> None:
        """Without a rule, the client gets the origin's bytes, in chunks that are mitmproxy's own."""
        if framing != "chunked":
            super().test_passes_through(running, store, framing, size)
            return
        target = f"/chunked?size={size}"
        with stage(running, store) as on:
            client = on.ask(target)
            head = client.head()
            assert head
            wire = client.body(head)
            facts = on.facts()
        assert head.raw == layout(target).head
        assert payload(head.raw + wire) == layout(target).payload
        exchange = only(facts.exchanges)
        assert (exchange.sent, exchange.wire, exchange.end) == (size, len(head.raw + wire), "complete")
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
        """The contract's own trials, but that a chunked body is compared payload byte by payload byte."""
        carries(Close)
        draw = random.Random(f"{ending} {batch}")
        for _ in range(self.trials // self.batches):
            cut = Cut.draw(draw)
            want = layout(cut.target)
            spec = f"GET#1 cut@{cut.position}:{ending}"
            where = f"{spec} of {cut.target}"
            with stage(running, store, spec, size=cut.size) as on:
                got = cut.reader(on, on.ask(cut.target, receive_buffer=cut.receive_buffer))
                facts = on.facts()
            assert got.ending == ("reset" if ending == "rst" else "eof"), where
            assert not facts.trouble, where
            (fired,) = facts.fired
            exchange = only(facts.exchanges)
            assert (exchange.sent, exchange.wire, exchange.end) == (fired.body, fired.wire, "cut"), where
            assert fired.wire == len(got.data), where
            if "/chunked" not in cut.target:
                assert got == Received(want.wire[: cut.wire], got.ending), where
                assert fired.body == want.payload_before(cut.wire), where
                continue
            body = payload(got.data)
            assert body == want.payload[: fired.body], where
            if cut.position.startswith("body+") or cut.position[0].isdigit():
                assert len(body) == want.payload_before(cut.wire), where


def payload(wire: bytes) -> bytes:
    """The payload among the bytes of a response, whole or not."""
    found = bytearray()
    tracker = Tracker("GET")
    for i in range(len(wire)):  # byte by byte: what has a name has come
        before = tracker.body
        tracker.feed(wire[i : i + 1])
        if tracker.body > before:
            found += wire[i : i + 1]
    return bytes(found)
