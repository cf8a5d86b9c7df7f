"""Servers that are no Python end with whoever wanted them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from midstream._errors import SetupError
from midstream._parts import Found
from midstream.stores._daemon import answers
from midstream.stores._hosted import launch

SERVER = """
import http.server, sys
at = "127.0.0.1", int(sys.argv[1])
http.server.HTTPServer(at, http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def start(folder: Path, arguments: Sequence[str] = ("-c", SERVER, "{port}"), fill: Path | None = None):  # type: ignore[no-untyped-def]
    return launch(Found("thing", "binary", sys.executable), folder, arguments, {}, "/", fill)


def gone(pid: int) -> bool:
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def child(pid: int) -> int:
    (found,) = psutil.Process(pid).children()
    return int(found.pid)


def test_stop(tmp_path: Path) -> None:
    """Stopping ends the server and what it has started."""
    server = start(tmp_path)
    pid = child(server.pid)
    assert answers(server.ready["port"], "/")
    server.stop()
    assert gone(pid)
    assert not answers(server.ready["port"], "/")


def test_keeper_killed(tmp_path: Path) -> None:
    """Linux ends the server when its keeper is killed."""
    server = start(tmp_path)
    pid = child(server.pid)
    os.kill(server.pid, signal.SIGKILL)
    assert gone(pid)
    assert not server.alive()
    server.stop()


def test_server_ends(tmp_path: Path) -> None:
    """A server that ends by itself takes its keeper along."""
    server = start(tmp_path)
    os.kill(child(server.pid), signal.SIGKILL)
    assert gone(server.pid)
    assert not server.alive()
    server.stop()


def test_fill(tmp_path: Path) -> None:
    """A configuration gets the port the command has."""
    settings = tmp_path / "settings"
    settings.write_text("listen {port};")
    server = start(tmp_path, fill=settings)
    assert settings.read_text() == f"listen {server.ready['port']};"
    server.stop()


@pytest.mark.parametrize("code", ["raise SystemExit('port taken')", "no python at all"])
def test_ends_at_once(tmp_path: Path, code: str) -> None:
    """What it wrote is told, and its folder is gone."""
    folder = tmp_path / "own"
    folder.mkdir()
    with pytest.raises(SetupError, match=r"thing: ended before it was ready: .*(port taken|SyntaxError)"):
        start(folder, ("-c", code))
    assert not folder.exists()


def test_no_such_command(tmp_path: Path) -> None:
    """A command that is not there is said so, and leaves nothing."""
    folder = tmp_path / "own"
    folder.mkdir()
    with pytest.raises(SetupError, match="No such file"):
        launch(Found("thing", "binary", "/no/such/command"), folder, [], {}, "/")
    assert not folder.exists()
