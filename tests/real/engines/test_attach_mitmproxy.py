"""A mitmdump that runs already with the addon, as the service of the compose stack does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.engines.conftest import engine

from midstream._parts import find
from midstream._processes import free_port
from midstream._registry import load
from midstream._schedule import Schedule
from midstream.injectors import Plan, RunningInjector
from midstream.injectors._engine import EngineProcess, ask_version
from midstream.injectors.mitmproxy import command
from midstream.testing.injectors import layout, operation, stage
from midstream.testing.wire import Received, ScriptedOrigin

TARGET = "/length?size=1000"
WHOLE = layout(TARGET)


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineProcess]:
    """The server, named by the environment from then on."""
    engine("mitmproxy")
    port = free_port()
    words = command(find("mitmproxy").require().what, tmp_path)
    env = {"MIDSTREAM_LISTEN": f"127.0.0.1:{port}"}
    server = EngineProcess("mitmproxy", tmp_path, words, api=port, env=env, ready_seconds=30)
    monkeypatch.setenv("MIDSTREAM_MITMPROXY_URL", f"http://127.0.0.1:{port}")
    yield server
    server.stop()


def cut(running: RunningInjector, store: ScriptedOrigin) -> None:
    with stage(running, store, "GET#1 cut@500:rst") as on:
        assert on.ask(TARGET).rest() == Received(WHOLE.wire[: WHOLE.byte(500)], "reset")
        assert not on.facts().trouble


def test_two_owners(theirs: EngineProcess, store: ScriptedOrigin) -> None:
    """Each has sessions of its own; the end of one is nothing to the other, nor to the server."""
    member = load("injectors", "mitmproxy")
    assert member.available().how == f"attach {os.environ['MIDSTREAM_MITMPROXY_URL']}"
    one, two = member.start(), member.start()
    try:
        cut(one, store)
        cut(two, store)
        kept = two.open(Plan(store.address, Schedule([]), operation))
        bundle = kept.bundle.read_text()
        assert bundle.startswith("-----BEGIN CERTIFICATE-----")
        one.stop()
        socket.create_connection(("127.0.0.1", int(kept.url.rpartition(":")[2])), 5).close()
        kept.close()
        cut(two, store)
    finally:
        one.stop()
        two.stop()
    assert theirs.alive()
    port = int(os.environ["MIDSTREAM_MITMPROXY_URL"].rpartition(":")[2])
    assert ask_version("127.0.0.1", port) == theirs.ready["version"]


CRASH = """
import os, signal, sys
from midstream._parts import find
from midstream._schedule import Schedule
from midstream.injectors import Plan
from midstream.injectors.mitmproxy import RunningMitmproxy
store = ("127.0.0.1", int(sys.argv[1]))
session = RunningMitmproxy(find("mitmproxy")).open(Plan(store, Schedule([]), lambda *_: ""))
print(session.url, flush=True)
sys.stdin.read()
"""


def test_an_owner_that_crashes(theirs: EngineProcess, store: ScriptedOrigin) -> None:
    """Its sessions end with it."""
    words = [sys.executable, "-c", CRASH, str(store.address[1])]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        port = int(owner.stdout.readline().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            owner.send_signal(signal.SIGKILL)
            owner.wait()
            client.settimeout(30)
            try:
                assert client.recv(1) == b""
            except ConnectionResetError:
                pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    running = load("injectors", "mitmproxy").start()
    cut(running, store)
    running.stop()


def test_a_server_that_ends(theirs: EngineProcess, store: ScriptedOrigin) -> None:
    """The injector that used it says so, and cannot begin again."""
    running = load("injectors", "mitmproxy").start()
    try:
        with stage(running, store, "GET#1 stall@500") as on:
            client = on.ask(TARGET)
            assert client.take(WHOLE.byte(500)) == WHOLE.wire[: WHOLE.byte(500)]
            theirs.stop()
            assert any("mitmproxy has ended" in text for text in on.facts().trouble)
    finally:
        running.stop()
