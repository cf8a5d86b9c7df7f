"""Starting an engine that is missing, too old, deaf or dead: one clear message each, and nothing left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from midstream import _parts
from midstream._errors import HarnessError, SetupError
from midstream._parts import Found
from midstream._processes import ServerProcess, free_port
from midstream._registry import load
from midstream._schedule import Schedule
from midstream.injectors import mitmproxy, toxiproxy
from midstream.injectors._engine import ask_version, listens
from midstream.testing.wire import Peer, ScriptedOrigin

ENGINE = "midstream.injectors._engine"


def program(folder: Path, body: str) -> Path:
    """A command that does what `body` says; its arguments are in `argv`."""
    path = folder / "engine"
    text = textwrap.dedent(body)
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\nargv = sys.argv\n{text}")
    path.chmod(0o755)
    return path


API = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"version": "%s"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
HTTPServer(("127.0.0.1", int(argv[argv.index("-port") + 1])), Handler).serve_forever()
"""


def binary(path: Path) -> Found:
    return Found("toxiproxy", "binary", str(path), "2.12.0")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where engines make their folders, so that what is left can be seen."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


def test_an_engine_of_the_right_kind(tmp_path: Path, folders: Path) -> None:
    """It starts, tells its version, and leaves neither process nor folder."""
    engine = toxiproxy.Engine(binary(program(tmp_path, API % "2.9.0")))
    assert engine.version == "2.9.0"
    assert engine.alive()
    pid = engine.pid
    assert pid
    engine.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not list(folders.iterdir())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (API % "1.2.1", r"is version 1.2.1; 2.5 or later, below 3, is needed"),
        ("sys.exit('cannot do that')", r"ended before it was ready.*cannot do that"),
        ("time.sleep(100)", r"not ready in time"),
    ],
)
def test_an_engine_that_is_none(
    tmp_path: Path, folders: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    """Too old, dead at once, or never answering: the message says so, and nothing is left."""
    monkeypatch.setattr(toxiproxy, "START_SECONDS", 2.0)
    with pytest.raises(SetupError, match=message):
        toxiproxy.Engine(binary(program(tmp_path, body)))
    assert not list(folders.iterdir())


def test_a_port_that_is_taken_meanwhile(
    tmp_path: Path, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another port is tried, and after a few the engine's own message is shown."""
    tries = tmp_path / "tries"
    body = f"""
    open({str(tries)!r}, "a").write("x")
    if len(open({str(tries)!r}).read()) < 3:
        sys.exit("listen tcp: bind: address already in use")
    """
    engine = toxiproxy.Engine(binary(program(tmp_path, textwrap.dedent(body) + API % "2.12.0")))
    engine.stop()
    assert tries.read_text() == "xxx"
    with pytest.raises(SetupError, match="address already in use"):
        toxiproxy.Engine(binary(program(tmp_path, "sys.exit('bind: address already in use')")))


def test_a_command_that_cannot_be_run(tmp_path: Path, folders: Path) -> None:
    """A file that is no program is named."""
    (tmp_path / "engine").write_text("")
    with pytest.raises(SetupError, match="Permission denied"):
        toxiproxy.Engine(binary(tmp_path / "engine"))
    assert not list(folders.iterdir())


@pytest.fixture
def attached(request: pytest.FixtureRequest) -> Iterator[Found]:
    """A server that somebody else runs and that says what the test wants."""

    def script(peer: Peer) -> None:
        while peer.head():
            text = request.param
            peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())

    origin = ScriptedOrigin(script)
    yield Found("toxiproxy", "attach", "http://{}:{}".format(*origin.address))
    origin.stop()


@pytest.mark.parametrize("attached", ['{"version": "1.2.1"}'], indirect=True)
def test_attached_to_one_too_old(attached: Found) -> None:
    """The address and what is needed are told."""
    with pytest.raises(SetupError, match=rf"{attached.what} is version 1.2.1; 2.5 or later"):
        toxiproxy.Engine(attached)


@pytest.mark.parametrize("attached", ["[]"], indirect=True)
def test_attached_to_something_else(attached: Found) -> None:
    """A server that is no toxiproxy is not taken for one."""
    with pytest.raises(SetupError, match="nothing answers as one at"):
        toxiproxy.Engine(attached)


def test_whose_port_it_is() -> None:
    """A port belongs to the process that listens on it, and to no other."""
    with socket.create_server(("127.0.0.1", 0)) as here:
        port = here.getsockname()[1]
        assert listens(os.getpid(), port)
        assert not listens(os.getppid(), port)
    assert not listens(os.getpid(), port)


def test_a_port_that_somebody_else_has(
    tmp_path: Path, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another server that answers at the engine's port is not taken for the engine."""

    def script(peer: Peer) -> None:
        while peer.head():
            peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"version": "2.9.9"}')

    origin = ScriptedOrigin(script)
    monkeypatch.setattr(toxiproxy, "START_SECONDS", 2.0)
    monkeypatch.setattr(toxiproxy, "free_port", lambda: origin.address[1])
    try:
        with pytest.raises(SetupError, match="not ready in time"):
            toxiproxy.Engine(binary(program(tmp_path, "time.sleep(100)")))
    finally:
        origin.stop()


def test_nobody_answers() -> None:
    """No server, no version."""
    assert ask_version("127.0.0.1", free_port()) is None


def nothing_here(name: str, machine: object = None) -> Found:
    return Found(name, reason="neither on PATH nor installed", hint=f"midstream install {name}")


@pytest.mark.parametrize(("name", "module"), [("toxiproxy", toxiproxy), ("mitmproxy", mitmproxy)])
def test_an_engine_that_is_missing(name: str, module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said to be missing, with the way to get it, wherever it is asked for."""
    monkeypatch.setattr(module, "find", nothing_here)
    kind = load("injectors", name)
    here = kind.available()
    assert (here.available, here.hint) == (False, f"midstream install {name}")
    with pytest.raises(SetupError, match=f"{name}: neither on PATH nor installed; midstream install"):
        kind.start()
    assert kind.carries(Schedule.parse(["GET cut@5:rst"])) is None


@pytest.mark.parametrize("attached", ["nothing"], indirect=True)
def test_attached_to_a_mitmproxy_without_the_addon(attached: Found, folders: Path) -> None:
    """What answers there but knows no owner is not taken for the engine."""
    found = Found("mitmproxy", "attach", attached.what)
    with pytest.raises(SetupError, match=rf"mitmproxy: what answers at {found.what} has no addon of ours"):
        mitmproxy.Engine(found)
    assert not list(folders.iterdir())


def test_attached_to_nobody(folders: Path) -> None:
    """The address is told; and one on another machine would be of no use."""
    with pytest.raises(SetupError, match=r"mitmproxy: nobody answers at http://127\.0\.0\.1:1: "):
        mitmproxy.Engine(Found("mitmproxy", "attach", "http://127.0.0.1:1"))
    with pytest.raises(SetupError, match="is not on this machine"):
        mitmproxy.Engine(Found("mitmproxy", "attach", "http://store.example:1"))
    assert not list(folders.iterdir())


def test_proxies_of_other_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a process of this namespace can be known to have ended; numbers of others mean something else."""
    mine = f"midstream-{toxiproxy.namespace()}"
    assert toxiproxy.is_stale(f"{mine}-{2**22 + 1}-1-1")
    assert toxiproxy.is_stale(f"{mine}-{os.getpid()}-1-1"), "a number that was used again"
    assert not toxiproxy.is_stale(f"{mine}-{os.getpid()}-{toxiproxy.begun(os.getpid())}-1")
    assert not toxiproxy.is_stale(f"midstream-{toxiproxy.namespace() + 1}-{2**22 + 1}-1-1")
    assert not toxiproxy.is_stale("somebody-elses")


@pytest.mark.parametrize(
    ("body", "message"),
    [("sys.exit('no such option')", "no such option"), ("time.sleep(100)", "not ready within")],
)
def test_a_mitmproxy_that_does_not_start(
    tmp_path: Path, folders: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    """What it wrote is in the message, and nothing is left."""
    monkeypatch.setattr(mitmproxy, "START_SECONDS", 2.0)
    with pytest.raises(SetupError, match=message):
        mitmproxy.Engine(Found("mitmproxy", "binary", str(program(tmp_path, body))))
    assert not list(folders.iterdir())


ATTACHED = """
import sys
from midstream._parts import Found
from midstream.injectors.mitmproxy import Engine
engine = Engine(Found("mitmproxy", "attach", sys.argv[1]))
print(engine.bundle.read_text(), flush=True)
sys.stdin.read()
"""


def test_an_owner_of_an_attached_mitmproxy_is_killed(tmp_path: Path) -> None:
    """Killed without a word, it leaves nothing of the folder that drivers find the certificate in."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = [sys.executable, "-c", ATTACHED, f"http://127.0.0.1:{server.getsockname()[1]}"]
        env = {**os.environ, "TMPDIR": str(tmp_path)}
        pipe = subprocess.PIPE
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=env) as owner:
            line, _ = server.accept()
            with line:
                line.sendall(json.dumps({"kind": "ready", "version": "1", "bundle": "cert"}).encode() + b"\n")
                assert owner.stdout
                assert owner.stdout.readline() == "cert\n"
                assert [path.name for path in tmp_path.glob("*/*")] == ["mitmproxy-ca-cert.pem"]
                helpers = psutil.Process(owner.pid).children()
                owner.kill()
    psutil.wait_procs(helpers, timeout=30)
    assert not list(tmp_path.iterdir())


def test_faults_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """mitmproxy's process has only what this package brings, so another's fault is not for it."""
    schedule = Schedule.parse(["GET cut@5"])
    fault = type(schedule.rules[0].fault)
    assert load("injectors", "mitmproxy").carries(schedule) is None
    monkeypatch.setattr(fault, "__module__", "somebody.else")
    assert "does not have the package of the fault cut" in load("injectors", "mitmproxy").carries(schedule)


def test_what_cannot_be_carried_is_not_opened() -> None:
    """A session for such a schedule is refused, not approximated."""
    running = toxiproxy.RunningToxiproxy.__new__(toxiproxy.RunningToxiproxy)
    plan = toxiproxy.Plan(("127.0.0.1", 1), Schedule.parse(["GET cut@5:half"]), lambda *_: "")
    with pytest.raises(HarnessError, match="half-close"):
        running.open(plan)


def test_the_engine_ends_with_its_owner(tmp_path: Path) -> None:
    """Killed without a word, the owner leaves no engine."""
    path = program(tmp_path, "time.sleep(1000)")
    owner = (
        "import json, os, sys\n"
        "from pathlib import Path\n"
        "from midstream._processes import ServerProcess\n"
        f"words = ['-m', {ENGINE!r}, '--owned', {str(tmp_path / 'own')!r}, '--', {str(path)!r}]\n"
        f"p = ServerProcess('x', words, Path({str(tmp_path / 'log')!r}))\n"
        "print(json.dumps([p.ready['pid'], p.pid]), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", owner], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        pids = json.loads(process.stdout.readline())
        watched = [os.pidfd_open(pid) for pid in pids]
        process.send_signal(signal.SIGKILL)
        for fd in watched:
            assert waits(fd), "the engine outlived its owner"
            os.close(fd)


def waits(fd: int) -> bool:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(30_000))


def test_an_engine_that_dies_is_seen(tmp_path: Path) -> None:
    """The process that holds it ends too, so that its owner knows."""
    path = program(tmp_path, "time.sleep(1000)")
    process = ServerProcess("x", ["-m", ENGINE, "--", str(path)], tmp_path / "log")
    fd = os.pidfd_open(process.pid)
    os.kill(process.ready["pid"], signal.SIGKILL)
    assert waits(fd)
    os.close(fd)
    assert not process.alive()
    process.stop()
    assert "ended with status -9" in (tmp_path / "log").read_text()


assert _parts.PARTS["toxiproxy"].least == (2, 5), "the messages above name it"
