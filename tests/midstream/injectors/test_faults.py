"""Faults in combination, on the embedded injector: which request, which byte, which order."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from midstream._evidence import fold
from midstream.injectors import RunningInjector, _response
from midstream.testing.injectors import Stage, layout, request, stage
from midstream.testing.wire import Peer, Received, ScriptedOrigin, origin

TARGET = "/length?size=1000"
WHOLE = layout(TARGET)


def outcomes(on: Stage, count: int) -> list[str]:
    """Ask so often, each time on a new connection: how each response ends."""
    seen = []
    for _ in range(count):
        client = on.ask(TARGET)
        data = client.take(len(WHOLE.wire))
        seen.append("whole" if data == WHOLE.wire else str(len(data)))
        client.close()
    return seen


@pytest.mark.parametrize(
    ("ordinal", "want"),
    [
        ("#1", [100, 0, 0, 0]),
        ("#2-3", [0, 100, 100, 0]),
        ("#3+", [0, 0, 100, 100]),
        ("#*", [100, 100, 100, 100]),
        ("", [100, 0, 0, 0]),
    ],
)
def test_healing(running: RunningInjector, store: ScriptedOrigin, ordinal: str, want: list[int]) -> None:
    """The requests the ordinal names are cut, the others are whole; without one, only the first."""
    with stage(running, store, f"get_object{ordinal} cut@wire+100") as on:
        assert outcomes(on, 4) == [str(n) if n else "whole" for n in want]
        assert [f.exchange for f in on.facts().fired] == [i + 1 for i, n in enumerate(want) if n]


def test_an_unnumbered_rule_waits_for_its_byte(running: RunningInjector, store: ScriptedOrigin) -> None:
    """A cut at an object byte fires in whichever response carries it, and then never again."""
    parts = [f"/length?size=100&base={base}&total=300" for base in (0, 100, 200, 100)]
    with stage(running, store, "get_object cut@150:rst") as on:
        got = [len(on.ask(part).rest().data) if i == 1 else 0 for i, part in enumerate(parts[:2])]
        assert got[1] == layout(parts[1]).byte(50)
        for part in parts[2:]:
            client = on.ask(part)
            assert client.take(len(layout(part).wire)) == layout(part).wire
        (fired,) = on.facts().fired
    assert (fired.body, fired.offset) == (50, 150)


def test_rules_on_different_requests(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Each rule counts its own requests."""
    rules = ("HEAD#1 status@head:500", "GET#1 cut@10:rst", "GET#2 cut@20:fin", "GET/other#1 cut@1")
    with stage(running, store, *rules) as on:
        head = on.ask(TARGET, "HEAD").head()
        assert head
        assert head.status == 500
        assert on.ask(TARGET).rest() == Received(WHOLE.wire[: WHOLE.byte(10)], "reset")
        assert on.ask(TARGET).rest() == Received(WHOLE.wire[: WHOLE.byte(20)], "eof")
        facts = on.facts()
    assert sorted(f.rule for f in facts.fired) == [0, 1, 2]


def test_two_rules_in_one_response(running: RunningInjector, store: ScriptedOrigin) -> None:
    """A throttle, then a pause, then a cut: each at its byte, in order."""
    rules = ("GET#1 cut@900:rst", "GET#1 throttle@100:20000", "GET#1 delay@500:10ms")
    with stage(running, store, *rules) as on:
        assert on.ask(TARGET).rest() == Received(WHOLE.wire[: WHOLE.byte(900)], "reset")
        facts = on.facts()
    assert [(f.rule, f.offset) for f in facts.fired] == [(1, 100), (2, 500), (0, 900)]
    times = [e.at for e in on.watch.events if e.kind == "fault"]
    assert times[1] - times[0] >= 400 / 20_000 * 0.9
    assert times[2] - times[1] >= 0.01


def test_rules_at_the_same_byte_fire_in_order(running: RunningInjector, store: ScriptedOrigin) -> None:
    """At one byte the schedule's order decides."""
    with stage(running, store, "GET#1 delay@500:1ms", "GET#1 cut@500:fin", "GET#1 cut@500:rst") as on:
        assert on.ask(TARGET).rest().ending == "eof"
        assert [f.rule for f in on.facts().fired] == [0, 1]


@pytest.mark.parametrize("ending", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_cut_in_the_second_response(
    running: RunningInjector, store: ScriptedOrigin, ending: str, framing: str
) -> None:
    """On a connection that lives, the second response is cut where it was said."""
    target = f"/{framing}?size=200000"
    want = layout(target)
    with stage(running, store, f"GET#2 cut@123456:{ending}") as on:
        client = on.connect()
        client.send(request(target) + request(target))
        got = client.rest()
        facts = on.facts()
    assert got.data == want.wire + want.wire[: want.byte(123_456)]
    assert got.ending == ("eof" if ending == "fin" else "reset")
    assert [(e.end, e.sent) for e in facts.exchanges] == [("complete", 200_000), ("cut", 123_456)]


@pytest.mark.parametrize("extra", [-1, 0, 1, 500, len(WHOLE.wire) * 2])
def test_wire_bytes_over_several_responses(
    running: RunningInjector, store: ScriptedOrigin, extra: int
) -> None:
    """`wire+N` counts from the first response byte of the connection, across its responses."""
    position = 2 * len(WHOLE.wire) + extra
    with stage(running, store, f"GET cut@wire+{position}:rst") as on:
        client = on.connect()
        client.send(request(TARGET) * 5)
        assert client.rest() == Received((WHOLE.wire * 5)[:position], "reset")


@pytest.mark.parametrize("at", [0, 10, 25, 26, 60, 68])
def test_wire_bytes_with_interim_responses(running: RunningInjector, at: int) -> None:
    """Interim responses count on the wire like any other byte."""
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

    def script(peer: Peer) -> None:
        assert peer.head()
        peer.send(raw)
        peer.more()

    assert len(raw) == 68
    with origin(script) as store, stage(running, store, f"GET cut@wire+{at}:rst") as on:
        assert on.ask("/k").rest() == Received(raw[:at], "reset")
        facts = on.facts()
    assert [(f.wire, e.wire) for f, e in zip(facts.fired, facts.exchanges, strict=True)] == [(at, at)]


def test_named_places_are_those_of_the_final_response(running: RunningInjector) -> None:
    """`head` is before the final head: interim responses pass."""
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

    def script(peer: Peer) -> None:
        assert peer.head()
        peer.send(interim + WHOLE.wire)
        peer.more()

    with origin(script) as store, stage(running, store, "GET cut@head+9:rst") as on:
        assert on.ask("/k").rest() == Received(interim + WHOLE.wire[:9], "reset")


def test_an_empty_object_has_an_offset(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Offset 0 of an empty object is behind the head, also where nobody told the size."""
    want = layout("/length?size=0").wire
    with stage(running, store, "get_object cut@0:rst") as on:
        assert on.ask("/length?size=0").rest() == Received(want, "reset")
        assert on.facts().exchanges[0].length == 0


@pytest.mark.parametrize("back", [1, 2, 7, 5000])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_bytes_are_held_back_until_the_end_is_known(
    running: RunningInjector, store: ScriptedOrigin, back: int, framing: str
) -> None:
    """`end-n` cuts n bytes before the end, whatever tells the end; without such a place nothing is lost."""
    target = f"/{framing}?size=400000"
    want = layout(target).wire
    with stage(running, store, f"GET#1 cut@end-{back}:fin", "GET#2 cut@chunk-boundary-3:fin") as on:
        assert on.ask(target).rest() == Received(want[:-back], "eof")
        client = on.ask(target)
        if framing != "chunked":
            assert client.take(len(want)) == want


# --- answers in the store's place


def test_a_status_instead_of_a_continue(running: RunningInjector, store: ScriptedOrigin) -> None:
    """A client that waits for a 100 gets the status at once, is not asked for the body, and is ended."""
    before = store.accepted
    with stage(running, store, "PUT#1 status@head:503,body=no") as on:
        client = on.connect()
        client.send(request(TARGET, "PUT", "Content-Length: 100000\r\nExpect: 100-continue\r\n"))
        head = client.head()
        assert head
        assert (head.status, head.get("connection")) == (503, "close")
        assert client.rest() == Received(b"no", "eof")
        client.send(bytes(100_000))  # one that sends its body all the same is not reset
        facts = on.facts()
    assert store.accepted == before
    assert [(e.status, e.end) for e in facts.exchanges] == [(503, "complete")]


@pytest.mark.parametrize("fields", ["Connection: close\r\n", "connection: Foo, CLOSE\r\n"])
def test_an_answer_honours_connection_close(
    running: RunningInjector, store: ScriptedOrigin, fields: str
) -> None:
    """A client that asked for the end gets it after the answer, as from the store."""
    with stage(running, store, "GET#1 status@head:404") as on:
        client = on.connect()
        client.send(request(TARGET, "GET", fields))
        got = client.rest()
    assert got.ending == "eof"
    assert b"Connection: close" in got.data


def test_a_client_that_leaves_its_upload_to_an_answer(
    running: RunningInjector, store: ScriptedOrigin
) -> None:
    """The rule counts as fired and the exchange as left, also when nobody was there to hear the answer."""
    with stage(running, store, "PUT status@head:503") as on:
        client = on.connect()
        client.send(request(TARGET, "PUT", "Content-Length: 1000\r\n") + b"x")
        on.until("fault")
        client.reset()
        assert on.until("sent").data["end"] == "client-left"
        assert len(on.facts().fired) == 1


def test_an_answer_may_be_cut_and_delayed(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Other rules for the same request apply to the answer."""
    rules = ("GET#1 status@head:500,body=0123456789", "GET#1 cut@body+4:rst", "GET#1 delay@head:1ms")
    with stage(running, store, *rules) as on:
        got = on.ask(TARGET).rest()
        facts = on.facts()
    assert got.data.endswith(b"\r\n\r\n0123")
    assert got.ending == "reset"
    assert [f.rule for f in facts.fired] == [0, 2, 1]


def test_an_answer_shorter_than_it_says(running: RunningInjector, store: ScriptedOrigin) -> None:
    """A Content-Length of one's own that is too long is a cut, not trouble of the store."""
    with stage(running, store, "GET#1 status@head:200,Content-Length=100,body=abc") as on:
        got = on.ask(TARGET).rest()
        facts = on.facts()
    assert got.data.endswith(b"\r\n\r\nabc")
    assert facts.exchanges[0].end == "cut"
    assert not facts.trouble


# --- endings under difficulties


@pytest.mark.parametrize("ending", ["fin", "rst", "half"])
@pytest.mark.parametrize("turn", range(3))
def test_a_cut_while_the_client_uploads(running: RunningInjector, ending: str, turn: int) -> None:
    """A response that is cut in the middle of an upload: exact all the same, and later connections work."""
    sent = threading.Event()

    def script(peer: Peer) -> None:
        head = peer.head()
        assert head
        peer.send(WHOLE.wire)
        if head.request[0] == "PUT":
            sent.set()
            while peer.more():  # reads on until the injector has gone
                pass
        else:
            peer.more()

    with origin(script) as store, stage(running, store, f"PUT#1 cut@body+500:{ending}") as on:
        client = on.connect()
        client.send(request("/k", "PUT", "Content-Length: 1000000000\r\n"))
        stop = threading.Event()

        refused: list[OSError] = []

        def upload() -> None:
            try:
                while not stop.is_set():
                    client.send(bytes(65_536))
            except OSError as error:
                refused.append(error)

        writer = threading.Thread(target=upload)
        writer.start()
        got = client.rest()
        on.until("fault")
        stop.set()
        if ending == "half":
            client.sock.shutdown(socket.SHUT_RDWR)  # the writer would go on for ever
        writer.join(30)
        assert not writer.is_alive()
        assert got.data == WHOLE.wire[: WHOLE.byte(500)]
        if ending == "rst":  # the kernel tells of a reset once: the reader or the writer
            assert got.ending == "reset" or any(isinstance(e, ConnectionResetError) for e in refused)
        else:
            assert got.ending == "eof"
        for _ in range(3):
            other = on.ask("/k")
            assert other.take(len(WHOLE.wire)) == WHOLE.wire
            other.close()


@pytest.mark.parametrize("ending", ["fin", "half"])
def test_a_cut_while_the_upload_pauses(running: RunningInjector, ending: str) -> None:
    """After the cut only the ending waits for the client: its end is seen, and descriptors are reused."""

    def script(peer: Peer) -> None:
        head = peer.head()
        assert head
        peer.send(WHOLE.wire)
        peer.more()

    with origin(script) as store, stage(running, store, f"PUT#* cut@body+500:{ending}") as on:
        for turn in range(3):
            client = on.connect()
            client.send(request("/k", "PUT", "Content-Length: 1000\r\n"))
            assert client.rest() == Received(WHOLE.wire[: WHOLE.byte(500)], "eof")
            client.sock.shutdown(socket.SHUT_WR)
            assert on.until("sent", turn * 3 + 1).data["end"] == "cut"
            assert outcomes(on, 2) == ["whole", "whole"]
        assert not on.facts().trouble


def test_waiting_costs_nothing(
    running: RunningInjector, store: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipelined request, or the end of a client that reads on, is looked at once, not over and over."""
    looks = 0
    real = _response.silent

    def counting(sock: socket.socket) -> bool:
        nonlocal looks
        looks += 1
        return real(sock)

    monkeypatch.setattr(_response, "silent", counting)
    answer = threading.Event()

    def slow(peer: Peer) -> None:
        while peer.head():
            assert answer.wait(30)
            peer.send(WHOLE.wire)

    with origin(slow) as late, stage(running, late) as on, stage(running, store) as other:
        client = on.connect()
        client.send(request("/a") + request("/b"))
        client.sock.shutdown(socket.SHUT_WR)
        on.until("request")
        assert outcomes(other, 20) == ["whole"] * 20
        answer.set()
        assert client.rest() == Received(WHOLE.wire * 2, "eof")
    assert looks < 100


@pytest.mark.parametrize("ending", ["fin", "rst", "half"])
@pytest.mark.parametrize("size", [100_000, 8_000_000])
def test_a_client_that_never_reads_does_not_keep_the_case(
    running: RunningInjector, store: ScriptedOrigin, ending: str, size: int
) -> None:
    """With the client's buffers full the ending waits, and the end of the session does not wait for it."""
    with stage(running, store, f"GET cut@body+{size - 1}:{ending}") as on:
        client = on.ask(f"/length?size={size}", receive_buffer=4096)
        on.until("response")
        started = time.monotonic()
        facts = fold(on.session.close())
        assert time.monotonic() - started < 10
        client.close()
    assert facts.exchanges[0].wire <= size + 200


def test_a_client_that_writes_while_it_is_reset(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Data that comes in while the reset waits for delivery does not make it come early."""
    with stage(running, store, "GET cut@body+60000:rst") as on:
        client = on.ask("/length?size=100000", receive_buffer=4096)
        on.until("fault")
        client.sock.setblocking(False)
        try:
            for _ in range(200):
                client.sock.send(bytes(10_000))
        except BlockingIOError:
            pass
        client.sock.settimeout(30)
        want = layout("/length?size=100000")
        assert client.rest(1000) == Received(want.wire[: want.byte(60_000)], "reset")


def test_a_stall_while_the_client_uploads(running: RunningInjector) -> None:
    """The upload goes on behind a stalled response, and a client that leaves after it is seen."""
    got: list[int] = []

    def script(peer: Peer) -> None:
        head = peer.head()
        assert head
        peer.send(WHOLE.wire)
        got.append(len(peer.body(head)))
        peer.more()

    with origin(script) as store, stage(running, store, "PUT stall@body+10:forever") as on:
        client = on.connect()
        client.send(request("/k", "PUT", "Content-Length: 3000000\r\n"))
        on.until("fault")
        client.send(bytes(3_000_000))
        assert client.take(WHOLE.byte(10)) == WHOLE.wire[: WHOLE.byte(10)]
        client.close()
        assert on.until("sent").data["end"] == "client-left"
        store.settle()
    assert got == [3_000_000]


def test_a_throttled_client_may_half_close(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Slow is not gone: a client that has ended its own direction gets the whole response."""
    with stage(running, store, "GET throttle@head:200000") as on:
        client = on.ask("/length?size=20000")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == Received(layout("/length?size=20000").wire, "eof")


# --- connections


def test_refusing_the_first_connection(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Nobody listens before the first connection, then somebody does."""
    with stage(running, store, "CONNECTION#1 refuse@accept:60ms") as on:
        with pytest.raises(ConnectionRefusedError):
            on.connect()
        on.until("window")
        assert outcomes(on, 2) == ["whole", "whole"]


def test_refusing_for_ever(running: RunningInjector, store: ScriptedOrigin) -> None:
    """The port never comes back, and the session still ends."""
    with stage(running, store, "CONNECTION#2 refuse@accept") as on:
        assert outcomes(on, 1) == ["whole"]
        on.until("fault")
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                on.connect()
        assert on.facts().connections == 1


def test_refusing_while_an_earlier_connection_lives(running: RunningInjector, store: ScriptedOrigin) -> None:
    """The second connection is refused at once, not left waiting for the first one to end."""
    with stage(running, store, "CONNECTION#2 refuse@accept:20ms") as on:
        first = on.ask(TARGET)
        assert first.take(len(WHOLE.wire)) == WHOLE.wire
        with pytest.raises(ConnectionRefusedError):
            on.connect()
        first.send(request(TARGET))
        assert first.take(len(WHOLE.wire)) == WHOLE.wire
        first.close()
        on.until("window")
        assert outcomes(on, 1) == ["whole"]


def test_a_hangup_of_a_later_connection(running: RunningInjector, store: ScriptedOrigin) -> None:
    """The second connection is ended with its request unread, the others work."""
    with stage(running, store, "CONNECTION#2 hangup@accept:rst") as on:
        assert outcomes(on, 1) == ["whole"]
        client = on.connect()
        assert client.rest() == Received(b"", "reset")
        assert outcomes(on, 1) == ["whole"]
        assert len(on.facts().exchanges) == 2


# --- at the request, before the store sees it


@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_a_cut_at_the_request(running: RunningInjector, store: ScriptedOrigin, ending: str) -> None:
    """The connection ends with the request unanswered, the store has not seen it, the exchange says cut."""
    before = store.accepted
    with stage(running, store, f"GET#1 cut@request:{ending}") as on:
        assert on.ask(TARGET).rest() == Received(b"", "reset" if ending == "rst" else "eof")
        assert store.accepted == before
        assert outcomes(on, 1) == ["whole"]
        facts = on.facts()
    assert [(e.end, e.wire) for e in facts.exchanges] == [("cut", 0), ("complete", len(WHOLE.wire))]


def test_a_stall_at_the_request(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Held at the request: the client hears nothing, and leaving or the end of the case is recorded."""
    with stage(running, store, "GET#1-2 stall@request:forever") as on:
        client = on.ask(TARGET)
        on.until("fault")
        assert client.quiet()
        client.close()
        assert on.until("sent").data["end"] == "client-left"
        client = on.ask(TARGET)
        on.until("fault", 2)
        facts = fold(on.session.close())
    assert [e.end for e in facts.exchanges] == ["client-left", "held"]


@pytest.mark.parametrize(
    "rules", [("PUT delay@request:30ms",), ("PUT delay@request:30ms", "PUT status@head:500")]
)
def test_an_upload_that_is_held_at_the_request(running: RunningInjector, rules: tuple[str, ...]) -> None:
    """What the client sends of its body meanwhile is not lost."""
    body = bytes(range(256)) * 300
    got: list[bytes] = []

    def script(peer: Peer) -> None:
        while head := peer.head():
            got.append(peer.body(head))
            peer.send(WHOLE.wire)

    with origin(script) as store, stage(running, store, *rules) as on:
        client = on.connect()
        client.send(request("/k", "PUT", f"Content-Length: {len(body)}\r\n"))
        on.until("fault")
        client.send(body)
        head = client.head()
        assert head
        client.body(head, "PUT")
        client.send(request("/next"))
        assert client.take(len(WHOLE.wire)) == WHOLE.wire
        facts = on.facts()
    assert got == ([body, b""] if len(rules) == 1 else [b""])
    assert [e.end for e in facts.exchanges] == ["complete", "complete"]
