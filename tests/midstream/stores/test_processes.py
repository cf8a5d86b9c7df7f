"""Servers start in time or say why not, and never outlive whoever started them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from midstream._errors import SetupError
from midstream._processes import ServerProcess
from midstream._registry import load
from midstream.stores._starting import installed, require
from midstream.testing.any_store import ended

GUARDED = """
import sys, pathlib, signal
from midstream._processes import announce, guard
guard(True, pathlib.Path(sys.argv[1]))
{more}
announce(child=globals().get("child"))
while True:
    signal.pause()
"""


def server(folder: Path, more: str = "") -> ServerProcess:
    return ServerProcess("a server", ["-c", GUARDED.format(more=more), str(folder)], folder / "log")


def test_reason_of_a_failed_start(tmp_path: Path) -> None:
    """A server that ends early is named, with the last thing it wrote."""
    with pytest.raises(SetupError, match=r"a server: ended before .*KeyError: 'reason'") as caught:
        ServerProcess("a server", ["-c", "raise KeyError('reason')"], tmp_path / "log")
    assert "\n" not in str(caught.value)


def test_silent_start(tmp_path: Path) -> None:
    """A server that announces nothing is ended at the deadline."""
    pid = tmp_path / "pid"
    code = f"import os, sys; open({str(pid)!r}, 'w').write(str(os.getpid())); sys.stdin.read()"
    with pytest.raises(SetupError, match="not ready in time"):
        ServerProcess("a server", ["-c", code], tmp_path / "log", ready_seconds=0.3)
    if pid.exists():  # on a busy machine it may not have come that far
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize("said", ["hello", "[1]"])
def test_strange_announcement(tmp_path: Path, said: str) -> None:
    """What is no JSON object is not taken for one."""
    with pytest.raises(SetupError, match="announced"):
        ServerProcess("a server", ["-c", f"print({said!r})"], tmp_path / "log")


def test_output_after_the_announcement_goes_to_the_log(tmp_path: Path) -> None:
    """A server that prints cannot block on a pipe nobody reads."""
    code = GUARDED.format(more="").replace("while True:", "print('later', flush=True)\nwhile False:")
    running = ServerProcess("a server", ["-c", code, str(tmp_path)], tmp_path / "log")
    pidfd = os.pidfd_open(running.pid)
    assert ended(pidfd)
    os.close(pidfd)
    running.stop()
    assert (tmp_path / "log").read_text() == "later\n"


def test_stubborn_server_and_its_children(tmp_path: Path) -> None:
    """What ignores SIGTERM, and what it has started, is killed."""
    more = "\n".join(
        [
            "import os",
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
            "child = os.fork()",
            "while not child: signal.pause()",
        ]
    )
    running = server(tmp_path, more)
    child = os.pidfd_open(running.ready["child"])
    running.stop()
    assert not running.alive()
    assert ended(child)
    os.close(child)


def test_owner_dies_while_a_sibling_holds_the_pipe(tmp_path: Path) -> None:
    """Even when it cannot see the end of stdin, a server ends with its owner and takes its folder along."""
    folder = tmp_path / "data"
    folder.mkdir()
    code = (
        "import os, pathlib, signal, sys\n"
        "from midstream._processes import ServerProcess\n"
        "folder = pathlib.Path(sys.argv[2])\n"
        "running = ServerProcess('a server', ['-c', sys.argv[1], str(folder)], folder / 'log')\n"
        "sibling = os.fork()\n"
        "if not sibling:\n"
        "    os.close(1)\n"
        "    while True: signal.pause()\n"
        "print(running.pid, sibling, flush=True)\n"
        "signal.pause()\n"
    )
    arguments = [sys.executable, "-c", code, GUARDED.format(more=""), str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        pid, sibling = map(int, owner.stdout.readline().split())
        try:
            pidfd = os.pidfd_open(pid)
            owner.send_signal(signal.SIGKILL)
            assert ended(pidfd)
            os.close(pidfd)
            assert not folder.exists()
        finally:
            os.kill(sibling, signal.SIGKILL)


def test_missing_package() -> None:
    """What is not installed is named, with the command that installs it."""
    found = installed("swift", "swift", ("os", "no_such_module_here"))
    assert not found.available
    assert "no_such_module_here" in found.reason
    assert found.hint == "pip install 'midstream[swift]'"
    with pytest.raises(SetupError, match=r"swift: not installed: .*; pip install 'midstream\[swift\]'"):
        require("swift", found)


@pytest.mark.parametrize("name", ["swift", "swift-s3"])
def test_file_system_without_xattrs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swift says that it needs user xattrs before it starts, and leaves no folder."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    member = load("stores", name)
    monkeypatch.setattr(os, "setxattr", refuse)
    assert "without user xattrs" in member.available().reason
    assert member.available().hint
    with pytest.raises(SetupError, match=f"{name}: .* without user xattrs"):
        member.start(tmp_path)
    assert not list(tmp_path.iterdir())


def test_listing_stores_imports_no_server() -> None:
    """Looking at what stores there are costs no heavy import."""
    code = (
        "import sys\n"
        "from midstream._registry import members\n"
        "for name, member in members('stores'): member.available(), member.operation('GET', '/', {})\n"
        "print(*{'boto3', 'botocore', 'moto', 'swift', 'eventlet', 'requests', 'flask'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
