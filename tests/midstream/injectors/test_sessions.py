"""Sessions of the embedded injector: what they own they give back, and what they record holds no secret."""

from __future__ import annotations

import gc
import json
import socket
import threading
import warnings
from pathlib import Path

import pytest

from midstream._errors import SetupError
from midstream._evidence import Event, fold
from midstream._schedule import Schedule
from midstream.injectors import Plan, RunningInjector
from midstream.injectors.embedded import Embedded
from midstream.testing.injectors import layout, operation, request, stage
from midstream.testing.wire import Peer, Received, ScriptedOrigin, Watch, origin

TARGET = "/length?size=1000"


def descriptors() -> set[str]:
    """What this process has open, files opened by others meanwhile aside."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(entry.readlink()))
        except OSError:
            pass
    return {name for name in found if name.startswith(("socket:", "pipe:", "anon_inode:"))}


def test_sessions_leave_nothing_open(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Fifty sessions of every kind of end, and no descriptor more than before."""
    endings = ["GET cut@500:rst", "GET cut@500:fin", "GET cut@body+1:half", "GET stall@10:forever"]
    endings += [
        "GET status@head:500",
        "CONNECTION refuse@accept:1ms",
        "CONNECTION#1 hangup@accept",
        "PUT cut@1",
    ]
    before = descriptors()
    ours = set()
    for number in range(50):
        with stage(running, store, endings[number % len(endings)]) as on:
            if "refuse" in endings[number % len(endings)]:
                on.until("window")
            client = on.ask("/length?size=2000000" if number % 3 else TARGET)
            client.take(number)
            ours |= descriptors() - before
    store.settle()
    assert ours
    assert not ours & descriptors()


def test_a_store_that_is_not_there(running: RunningInjector) -> None:
    """A refused connection to the store is trouble of ours, and the client sees an end."""
    taken = socket.create_server(("127.0.0.1", 0))
    address = taken.getsockname()
    taken.close()
    with stage(running, address) as on:
        assert on.ask(TARGET).rest() == Received(b"", "eof")
        facts = on.facts()
    assert len(facts.trouble) == 1
    assert "the store does not accept connections" in facts.trouble[0]


def test_closing_in_the_middle(running: RunningInjector, store: ScriptedOrigin) -> None:
    """A session that is closed under way ends its connections and says how far they were."""
    with stage(running, store, "GET#2 stall@body+10") as on:
        first, second = on.ask(TARGET), on.connect()
        first.take(len(layout(TARGET).wire))
        second.send(request(TARGET))
        on.until("fault")
        facts = fold(on.session.close())
        assert first.rest().data == b""
        assert second.rest().data == layout(TARGET).wire[: layout(TARGET).byte(10)]
    assert [(e.end, e.sent) for e in facts.exchanges] == [("complete", 1000), ("held", 10)]


def test_closing_from_many_threads(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Closers that come together all wait until it is done, and get the same evidence."""
    with stage(running, store) as on:
        found: list[object] = []
        threads = [threading.Thread(target=lambda: found.append(on.session.close())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len({id(one) for one in found}) == 1
        assert len(found) == 4


def test_a_port_that_is_taken(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Asked for a port that somebody listens on, `open` says so and keeps nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken, warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        before = descriptors()
        plan = Plan(store.address, Schedule([]), operation, listen_port=taken.getsockname()[1])
        with pytest.raises(SetupError, match=r"cannot listen on 127\.0\.0\.1:\d+: Address already in use"):
            running.open(plan)
        gc.collect()
        assert not descriptors() - before


def test_a_port_of_ones_own(running: RunningInjector, store: ScriptedOrigin) -> None:
    """A fixed port can be had again and again."""
    with stage(running, store) as on:
        port = on.port
    for _ in range(3):
        session = running.open(Plan(store.address, Schedule([]), operation, listen_port=port))
        assert session.url == f"http://127.0.0.1:{port}"
        client = Peer(socket.create_connection(("127.0.0.1", port)))
        client.send(request(TARGET))
        assert client.take(5) == b"HTTP/"
        session.close()
        client.close()


def test_stop() -> None:
    """Stopping ends the sessions and the thread; later closings are harmless and opening is refused."""
    threads = {t.ident for t in threading.enumerate()}
    before = descriptors()
    running = Embedded().start()
    with origin(lambda peer: None) as store:
        watch = Watch()
        session = running.open(Plan(store.address, Schedule([]), operation, on_event=watch))
        client = socket.create_connection(("127.0.0.1", int(session.url.rsplit(":", 1)[1])))
        watch.until("connection")
        running.stop()
        running.stop()
        assert client.recv(1) == b""
        client.close()
        assert session.close() is session.close()
        with pytest.raises(SetupError, match="stopped"):
            running.open(Plan(store.address, Schedule([]), operation))
    assert not {t.name for t in threading.enumerate() if t.ident not in threads} & {"midstream-injector"}
    assert not descriptors() - before


def test_events_are_told_as_they_happen(running: RunningInjector, store: ScriptedOrigin) -> None:
    """The listener gets every event of the evidence, in order."""
    with stage(running, store, "GET cut@10") as on:
        on.ask(TARGET).rest()
        on.until("fault")
        evidence = on.session.close()
    assert evidence.events == on.watch.events
    assert [e.kind for e in evidence.events] == ["connection", "request", "response", "fault", "sent"]
    times = [e.at for e in evidence.events]
    assert times == sorted(times)


def test_a_listener_that_fails(running: RunningInjector, store: ScriptedOrigin) -> None:
    """The wire goes on, and the failure is trouble of ours."""

    def listener(event: Event) -> None:
        raise RuntimeError(f"cannot take {event.kind}")

    session = running.open(Plan(store.address, Schedule([]), operation, on_event=listener))
    client = Peer(socket.create_connection(("127.0.0.1", int(session.url.rsplit(":", 1)[1]))))
    client.send(request(TARGET))
    assert client.take(len(layout(TARGET).wire)) == layout(TARGET).wire
    client.close()
    facts = fold(session.close())
    assert facts.trouble == ["the listener for events failed: RuntimeError: cannot take connection"]
    assert len(facts.exchanges) == 1


def test_an_operation_that_fails(running: RunningInjector, store: ScriptedOrigin) -> None:
    """An error of ours is trouble, never an end that would be taken for the driver's."""

    def broken(method: str, target: str, headers: object) -> str:
        raise LookupError("no such operation")

    session = running.open(Plan(store.address, Schedule([]), broken))
    client = Peer(socket.create_connection(("127.0.0.1", int(session.url.rsplit(":", 1)[1]))))
    client.send(request(TARGET))
    client.rest()
    client.close()
    assert fold(session.close()).trouble == ["the injector failed: LookupError: no such operation"]


def test_secrets_are_not_recorded(running: RunningInjector) -> None:
    """Credentials and presigned parameters pass on the wire and are in no event."""
    secret = "hunter2-hunter2"
    target = f"/b/k?X-Amz-Signature={secret}&X-Amz-Credential={secret}&temp_url_sig={secret}&partNumber=3"
    fields = f"Authorization: AWS4-HMAC-SHA256 {secret}\r\nX-Auth-Token: {secret}\r\ncookie: {secret}\r\n"
    answer = (
        f"HTTP/1.1 302 Found\r\nLocation: http://h/k?Signature={secret}\r\nSet-Cookie: {secret}\r\n"
        f"X-Auth-Token: {secret}\r\nX-Storage-Token: {secret}\r\nContent-Length: 0\r\n\r\n"
    ).encode()
    seen: list[bytes] = []

    def script(peer: Peer) -> None:
        head = peer.head()
        assert head
        seen.append(head.raw)
        peer.send(answer)
        peer.more()

    with origin(script) as store, stage(running, store) as on:
        client = on.connect()
        client.send(request(target, "GET", fields))
        assert client.take(len(answer)) == answer
        evidence = on.session.close()
    assert seen == [request(target, "GET", fields)]
    text = json.dumps(evidence.as_json())
    assert secret not in text
    assert "partNumber=3" in text
    assert text.count("[redacted]") == 10
