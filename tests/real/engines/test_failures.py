"""Engines that die, hang on to things or are in the way: one clear message each, and the next case works."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.engines.conftest import ENGINES, engine

from midstream._errors import HarnessError, SetupError
from midstream._evidence import fold
from midstream._parts import Found, find
from midstream._schedule import Schedule
from midstream.injectors import Plan, RunningInjector
from midstream.injectors._toxics import Toxic
from midstream.injectors.toxiproxy import Engine, RunningToxiproxy, measure_reset
from midstream.testing.injectors import layout, operation, request, stage
from midstream.testing.wire import Received, ScriptedOrigin

TARGET = "/length?size=1000"
WHOLE = layout(TARGET)


@pytest.fixture(params=ENGINES)
def running(request: pytest.FixtureRequest) -> Iterator[RunningInjector]:
    """An engine of the test's own, for it will be harmed."""
    running = engine(request.param).start()
    yield running
    running.stop()


def gone(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(30_000))


def kill(running: RunningInjector) -> None:
    """SIGKILL the engine and wait until it is gone."""
    pid = running.engine.pid  # type: ignore[attr-defined]
    fd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert gone(fd)
    os.close(fd)


def test_killed_during_a_case(running: RunningInjector, store: ScriptedOrigin) -> None:
    """The case is spoilt with a reason that names the engine, and the next one runs on a new engine."""
    with stage(running, store, "GET#1 stall@500") as on:
        client = on.ask(TARGET)
        assert client.take(WHOLE.byte(500)) == WHOLE.wire[: WHOLE.byte(500)]
        kill(running)
        facts = fold(on.session.close())
    assert any(re.search("(toxiproxy|mitmproxy).* ended", text) for text in facts.trouble), facts.trouble
    with stage(running, store, "GET#1 cut@500:rst") as on:
        assert on.ask(TARGET).rest() == Received(WHOLE.wire[: WHOLE.byte(500)], "reset")
        assert not on.facts().trouble


def test_killed_between_cases(running: RunningInjector, store: ScriptedOrigin) -> None:
    """Nobody notices: the next case starts a new engine."""
    kill(running)
    with stage(running, store) as on:
        assert on.ask(TARGET).take(len(WHOLE.wire)) == WHOLE.wire
        assert not on.facts().trouble


def test_a_port_that_is_taken(running: RunningInjector, store: ScriptedOrigin) -> None:
    """The message names the port, and the injector goes on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        plan = Plan(store.address, Schedule([]), operation, listen_port=port)
        with pytest.raises(SetupError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            running.open(plan)
    with stage(running, store) as on:
        assert on.ask(TARGET).take(len(WHOLE.wire)) == WHOLE.wire


def test_a_store_that_is_not_there(running: RunningInjector) -> None:
    """No answer is made up in its place: the case is trouble."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with stage(running, nobody.getsockname()) as on:
            assert on.ask(TARGET).rest().data == b""
            assert on.facts().trouble


@pytest.mark.parametrize("name", ENGINES)
def test_stopping_leaves_nothing(
    name: str,
    store: ScriptedOrigin,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With sessions open and connections held, the end of the injector is the end of all of it."""
    place = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(place))
    running = engine(name).start()
    fd = os.pidfd_open(running.engine.pid)  # type: ignore[attr-defined]
    session = running.open(Plan(store.address, Schedule.parse(["GET stall@10"]), operation))
    port = int(session.url.rpartition(":")[2])
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(request(TARGET))
    assert client.recv(10)
    running.stop()
    session.close()
    assert gone(fd)
    os.close(fd)
    client.close()
    assert not list(place.iterdir())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with pytest.raises((SetupError, HarnessError)):
        running.open(Plan(store.address, Schedule([]), operation))


CRASH = """
import os, signal, sys
from midstream._parts import Found
from midstream._schedule import Schedule
from midstream.injectors import Plan
from midstream.injectors._toxics import Toxic
from midstream.injectors.toxiproxy import RunningToxiproxy
running = RunningToxiproxy(Found("toxiproxy", "attach", sys.argv[1]))
running.open(Plan(("127.0.0.1", 9), Schedule([]), lambda *_: ""))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_proxies_that_a_crash_has_left(store: ScriptedOrigin) -> None:
    """In a server that outlives its user, the next one removes what is stale, and nothing else."""
    engine("toxiproxy")
    server = Engine(find("toxiproxy"))
    try:
        url = f"http://127.0.0.1:{server.api.port}"
        server.api.create("somebody-elses", store.address)
        subprocess.run([sys.executable, "-c", CRASH, url], check=False)
        assert len(server.api.proxies()) == 2
        running = RunningToxiproxy(Found("toxiproxy", "attach", url))
        assert server.api.proxies() == ["somebody-elses"]
        with stage(running, store, "GET#1 cut@10:rst") as on:
            assert on.ask(TARGET).rest() == Received(WHOLE.wire[: WHOLE.byte(10)], "reset")
            assert not on.facts().trouble
        running.stop()
        assert server.api.proxies() == ["somebody-elses"]
        assert server.alive(), "a server that is not ours is left running"
    finally:
        server.stop()


def test_resets_are_tried_before_they_are_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version whose resets do not come out exact is not used for them, and the reason has the figures."""
    kind = engine("toxiproxy")
    server = Engine(find("toxiproxy"))
    try:
        assert measure_reset(server) is None
        nothing = Toxic("latency", (("latency", 0),))
        monkeypatch.setattr("midstream.injectors.toxiproxy.by_reset", lambda: nothing)
        reason = measure_reset(server)
    finally:
        server.stop()
    assert reason
    assert re.fullmatch(r"toxiproxy 2\.\S+ gave 1 of 1 bytes and no reset when tried", reason)
    fresh = type(kind)()
    assert "no reset" in (fresh.carries(Schedule.parse(["GET cut@5:rst"])) or "")
    assert fresh.carries(Schedule.parse(["GET cut@5:fin"])) is None


def test_the_addon_s_errors_are_told(mitmproxy: RunningInjector, store: ScriptedOrigin) -> None:
    """What goes wrong in mitmproxy's process comes back as an error with its text."""
    engine_ = mitmproxy.engine  # type: ignore[attr-defined]
    with pytest.raises(HarnessError, match="BadSpec"):
        engine_._request(
            "open", 999, upstream=["127.0.0.1", 1], rules=["nonsense"], object_size=1, listen_port=0
        )
    assert Path(engine_.folder).is_dir()
