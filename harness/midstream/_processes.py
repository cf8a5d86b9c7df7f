"""Servers as processes of their own that end when their owner does.

The owner starts a server with `ServerProcess`, which waits for one line of JSON on the server's stdout. The
server calls `guard` first and `announce` when it listens. Three things together leave no server behind: the
owner's `stop`; the end of the server's stdin, whose other end only the owner holds; and the signal Linux
sends a child when its parent dies, for the case that a sibling has inherited the other end.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from midstream._errors import SetupError

READY_SECONDS = 20.0  # the slowest of our servers needs 1 s on an idle core
STOP_SECONDS = 3.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ServerProcess:
    """A server in a session of its own, started and ready.

    `ready` is what it announced. Raises SetupError, with the end of what it wrote to stderr, when it ends or
    stays silent instead of announcing itself.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                # -P: what lies in the working folder must not be imported in place of a package
                [sys.executable, "-P", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=None if env is None else {**os.environ, **env},
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._lock = threading.Lock()
        try:
            self.ready = self._await_ready(time.monotonic() + ready_seconds)
        except BaseException:
            self.stop()
            raise

    def _await_ready(self, deadline: float) -> dict[str, Any]:
        assert self._process.stdout
        output = self._process.stdout.fileno()
        line = b""
        while not line.endswith(b"\n"):
            if not _readable(output, deadline):
                raise SetupError(f"{self.name}: not ready in time{self._tail()}")
            data = os.read(output, 65536)
            if not data:
                raise SetupError(f"{self.name}: ended before it was ready{self._tail()}")
            line += data
        self._process.stdout.close()
        try:
            ready = json.loads(line)
        except ValueError:
            ready = None
        if not isinstance(ready, dict):
            raise SetupError(f"{self.name}: announced {line[:200]!r}{self._tail()}")
        return ready

    def _tail(self) -> str:
        """The last lines of the log, folded into one."""
        lines = [line.strip() for line in self.log.read_text("utf-8", "replace").splitlines() if line.strip()]
        return ": " + " | ".join(lines[-4:])[-600:] if lines else ""

    def alive(self) -> bool:
        with self._lock:
            return self._process.poll() is None

    def stop(self) -> None:
        """SIGTERM, a bounded wait, SIGKILL for the whole group, reap. May be called twice."""
        with self._lock:
            if self._process.returncode is None:
                self._end()
            for stream in (self._process.stdin, self._process.stdout):
                if stream:
                    stream.close()

    def _end(self) -> None:
        # Until it is reaped, the process keeps its number and its group's: neither can be someone else's.
        try:
            exited = os.pidfd_open(self.pid)
        except ProcessLookupError:  # someone else has reaped it
            self._process.wait()
            return
        try:
            self._process.send_signal(signal.SIGTERM)
            _readable(exited, time.monotonic() + STOP_SECONDS)
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
            self._process.wait()
        finally:
            os.close(exited)


class Janitor:
    """A small process that outlives the harness and tidies up behind it; see `midstream._janitor`."""

    def __init__(self, *folders: Path) -> None:
        script = Path(__file__).with_name("_janitor.py")
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script), *map(str, folders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """Have it tidy up now, and wait for that."""
        if self._popen.stdin:
            self._popen.stdin.close()
        try:
            self._popen.wait(10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


def _readable(fd: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0, int((deadline - time.monotonic()) * 1000))))


def die_with_parent(number: int, libc: ctypes.CDLL | None = None) -> None:
    """Have Linux send this process a signal when the thread that started it ends.

    Between fork and exec nothing may be loaded any more: give `libc` there.
    """
    (libc or ctypes.CDLL(None)).prctl(_PR_SET_PDEATHSIG, number)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has; somebody may, until it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def guard(owned: bool, folder: Path | None = None) -> None:
    """Called first by a server: make it end by SIGTERM and, when `owned`, with its owner.

    A server that outlives its owner removes `folder`, which nobody else would. Ctrl-C is left to the owner,
    which stops its servers in order.
    """
    exit_now, read = os._exit, os.read  # as they are before anyone patches them
    if not owned:
        return
    signal.signal(signal.SIGTERM, lambda *_: exit_now(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    dying = threading.Lock()

    def owner_died() -> None:
        if not dying.acquire(blocking=False):  # the other way of learning it was quicker
            return
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        exit_now(0)

    owner = os.getppid()
    # The signal comes whenever the thread that started us ends, so it is only a reason to look.
    signal.signal(signal.SIGUSR1, lambda *_: owner_died() if os.getppid() != owner else None)
    if sys.platform == "linux":
        die_with_parent(signal.SIGUSR1)

    def watch() -> None:
        while read(0, 4096):
            pass
        owner_died()

    threading.Thread(target=watch, name="owner", daemon=True).start()


def announce(**ready: object) -> None:
    """Called by a server once it listens; whatever it prints later goes to its log."""
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    if not sys.stdout.isatty():
        os.dup2(2, 1)
