"""A server that is no Python, held by a process of ours so that it ends when its owner does.

    python -m midstream.stores._daemon [--owned FOLDER] [--ready PATH] [--fill FILE] -- COMMAND ...

`{port}` in the command, and in FILE, becomes a free port of 127.0.0.1. Prints one line of JSON, {"port"},
once the server answers a GET of PATH there, or with an empty PATH accepts a connection. The command is in a
group of its own, out of the way of Ctrl-C, and Linux kills it should this process be killed. Nothing here
waits for the server to end gently: its data go with it.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import http.client
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from midstream._processes import announce, die_with_parent, free_port

READY_SECONDS = 18.0  # a little less than the owner waits
TRIES = 3  # a port that was free may be taken before the server has it


class Ended(Exception):
    """What was held has ended by itself."""


class Keeper(ABC):
    """A process that holds servers until its owner wants them no more; one thread, so that it may fork.

    It ends by SIGTERM and, when it owns a folder, with its owner: it then removes the folder.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._owner = os.getppid()
        self.libc = ctypes.CDLL(None)
        # Signals are only ever read from here, so that none comes between a look and a wait.
        self._wake, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is left to the owner
        if folder:
            die_with_parent(signal.SIGUSR1, self.libc)  # comes when a thread ends: only a reason to look

    @abstractmethod
    def kill(self) -> None:
        """Kill what is held, and wait until it is gone."""

    def look(self, seconds: float | None, *also: int) -> list[int]:
        """Heed what happens within so many seconds; which of the descriptors `also` can be read."""
        poll = select.poll()
        for fd in (self._wake, *also, *([0] if self._folder else [])):
            poll.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(None if seconds is None else seconds * 1000)]
        if self._wake in ready and signal.SIGTERM in os.read(self._wake, 4096):
            self.end(0)
        if self._folder and (os.getppid() != self._owner or (0 in ready and not os.read(0, 4096))):
            self.end(0, remove=True)
        return [fd for fd in ready if fd in also]

    def end(self, status: int, remove: bool = False) -> None:
        """End for good, and what is held before."""
        self.kill()
        if remove and self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(status)


class Daemon(Keeper):
    """The server of a command."""

    def __init__(self, command: Sequence[str], ready: str, fill: Path | None, folder: Path | None) -> None:
        super().__init__(folder)
        self._template = command
        self._fill = fill
        self._text = fill.read_text() if fill else ""
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        """Start the server; its port once it answers. Raises Ended."""
        for _ in range(TRIES):
            port = free_port()
            if self._fill:
                self._fill.write_text(self._text.replace("{port}", str(port)))
            self._process = subprocess.Popen(
                [word.replace("{port}", str(port)) for word in self._template],
                stdin=subprocess.DEVNULL,
                stdout=2,  # into the log
                process_group=0,
                preexec_fn=functools.partial(die_with_parent, signal.SIGKILL, self.libc),
            )
            deadline = time.monotonic() + READY_SECONDS
            while self._process.poll() is None:
                if answers(port, self._ready):
                    return port
                if time.monotonic() > deadline:
                    raise Ended("does not answer")
                self.look(0.01)
        raise Ended("has ended at once")

    def serve(self) -> None:
        """Wait until the server ends or nobody wants it any more."""
        while self._process and self._process.poll() is None:
            self.look(None)
        raise Ended("has ended")

    def kill(self) -> None:
        if self._process:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._process.wait()


def answers(port: int, path: str) -> bool:
    """Whether a GET is answered, and not by an excuse; without a path, whether a connection is accepted."""
    if not path:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m midstream.stores._daemon")
    parser.add_argument("--owned", type=Path, metavar="FOLDER", help="end with stdin, and remove FOLDER then")
    parser.add_argument("--ready", default="/", metavar="PATH")
    parser.add_argument("--fill", type=Path, metavar="FILE", help="a configuration that names the port")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    daemon = Daemon(options.command, options.ready, options.fill, options.owned)
    try:
        announce(port=daemon.start())
        daemon.serve()
    except (Ended, OSError) as error:
        sys.stderr.write(f"{options.command[0]}: {error}\n")
        daemon.end(1)


if __name__ == "__main__":
    main()
