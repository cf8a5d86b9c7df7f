"""Resumable uploads over real connections: to the origin, through a relay that breaks them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from midstream.stores.origin import MEMBER, RunningOrigin
from reknit import Options, upload
from reknit.cli import app
from reknit.stores import _http_ietf as ietf
from reknit.stores import _http_tus as tus
from reknit.stores._lines import Got

CONTENT = bytes(range(256)) * 12_000  # 3 MB: three blocks of the source


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningOrigin]:
    running = MEMBER.start(tmp_path_factory.mktemp("origin"))
    yield running
    running.stop()


class Relay:
    """Carries connections to the origin. Each of the first ends when the client has sent so many bytes, or,
    with `hold`, stands still then until the relay is closed."""

    def __init__(self, port: int, cuts: list[int], *, hold: bool = False) -> None:
        self._to, self._cuts, self._hold = port, list(cuts), hold
        self._over = threading.Event()
        self.cut = threading.Event()  # the last of the cuts has been made
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def heal(self) -> None:
        """Cut no more."""
        self._cuts.clear()

    def close(self) -> None:
        self._over.set()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._to)) as server:
            back = threading.Thread(target=self._copy, args=(server, client, 1 << 60), daemon=True)
            back.start()
            if not self._copy(client, server, self._cuts.pop(0) if self._cuts else 1 << 60):
                if not self._cuts:
                    self.cut.set()
                if self._hold:
                    self._over.wait()
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            back.join()

    def _copy(self, source: socket.socket, target: socket.socket, limit: int) -> bool:
        """Whether the source ended by itself."""
        with contextlib.suppress(OSError):
            while limit:
                data = source.recv(min(65_536, limit))
                if not data:
                    break
                target.sendall(data)
                limit -= len(data)
        if limit or not self._hold:
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)
        return limit > 0


@pytest.fixture
def relay(origin: RunningOrigin) -> Iterator[Relay]:
    made = Relay(origin.port, [1_000_000, 700_000, 1_100_000])
    yield made
    made.close()


def options(tmp_path: Path, kind: str) -> Options:
    return Options(store={"upload": kind}, journal=tmp_path / "journal", backoff_base=0.01, idle_timeout=20)


@pytest.mark.parametrize("kind", ["ietf", "tus"])
@pytest.mark.parametrize("size", [0, 1, len(CONTENT)])
def test_undisturbed(origin: RunningOrigin, tmp_path: Path, kind: str, size: int) -> None:
    """Any size arrives and is verified by the digest that the origin shows."""
    source, key = tmp_path / "source", f"plain-{kind}-{size}"
    source.write_bytes(CONTENT[:size])
    report = upload(source, f"http://127.0.0.1:{origin.port}/{key}", options=options(tmp_path, kind))
    assert (report.bytes, report.verified) == (size, "sha256 (repr-digest)")
    assert origin.read(key) == CONTENT[:size]
    assert [made.by for made in origin.made(key)] == [kind]
    assert origin.unfinished(key) == []


@pytest.mark.parametrize("kind", ["ietf", "tus"])
def test_cut_and_resumed(origin: RunningOrigin, relay: Relay, tmp_path: Path, kind: str) -> None:
    """Connections that end in the middle of a request cost no more than what was on its way."""
    source, key = tmp_path / "source", f"cut-{kind}"
    source.write_bytes(CONTENT)
    report = upload(source, f"{relay.url}/{key}", options=options(tmp_path, kind))
    assert origin.read(key) == CONTENT
    assert [made.by for made in origin.made(key)] == [kind]
    assert len(origin.uploads(key)) == 1
    assert relay.cut.is_set()
    assert report.verified == "sha256 (repr-digest)"
    assert report.restarts == 0


@pytest.mark.parametrize("kind", ["ietf", "tus"])
def test_killed_and_run_again(origin: RunningOrigin, tmp_path: Path, kind: str) -> None:
    """`reknit put` killed in the middle is gone on for by the same command, in one upload."""
    source, key = tmp_path / "source", f"killed-{kind}"
    source.write_bytes(CONTENT)
    relay = Relay(origin.port, [1_000_000], hold=True)
    command = ["put", str(source), f"{relay.url}/{key}", "--quiet", "--store", f"upload={kind}"]
    command += ["--journal", str(tmp_path / "journal")]
    process = subprocess.Popen([sys.executable, "-m", "reknit", *command])
    try:
        assert relay.cut.wait(60)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    (left,) = origin.unfinished(key)
    done = CliRunner().invoke(app, command)
    relay.close()
    assert done.exit_code == 0, done.output
    assert origin.read(key) == CONTENT
    assert [(one.id, one.state) for one in origin.uploads(key)] == [(left.id, "complete")]


def test_an_unknown_kind(tmp_path: Path) -> None:
    """A kind of upload that nobody knows is an error of the call."""
    source = tmp_path / "source"
    source.write_bytes(b"x")
    done = CliRunner().invoke(app, ["put", str(source), "http://127.0.0.1:1/x", "--store", "upload=ftp"])
    assert done.exit_code == 2
    assert "upload is put, ietf or tus" in done.output


@pytest.mark.parametrize(
    ("content", "asks"),
    [(b"ERR_UNEXPECTED_EOF: server expected to receive more bytes\n", True), (b"no such thing", False)],
)
def test_a_400_for_a_body_that_broke_off(content: bytes, asks: bool) -> None:
    """tusd's word for a body cut on the way makes us ask for the offset; any other 400 is final."""
    for kind in (tus, ietf):
        one = kind.uploader("http://127.0.0.1:1/files/", Options())
        assert one._told(Got(400, {}, content)).spoilt is asks
