"""An engine that is no Python of ours, in a process that ends when its owner does.

    python -m midstream.injectors._engine --owned FOLDER [--api PORT] -- COMMAND ...

Prints one line of JSON, {"pid", "version"}, once the command runs; with `--api`, once it answers a GET of
/version there. Linux kills the command should this process be killed; it is in the same process group, so
that whoever ends this process ends it too.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import http.client
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from midstream._processes import ServerProcess, announce, die_with_parent, guard

_LOOK_SECONDS = 0.02


class EngineProcess(ServerProcess):
    """An engine in the hands of such a process. `engine_pid` is the engine's own.

    Raises SetupError as its base does.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        command: Sequence[str],
        *,
        api: int | None = None,
        env: Mapping[str, str] | None = None,
        ready_seconds: float,
    ) -> None:
        options = [] if api is None else ["--api", str(api)]
        arguments = ["-m", "midstream.injectors._engine", "--owned", str(folder), *options, "--", *command]
        super().__init__(name, arguments, folder / "log", env, ready_seconds)
        self.engine_pid = int(self.ready["pid"])
        try:
            self._engine: int | None = os.pidfd_open(self.engine_pid)
        except ProcessLookupError:
            self._engine = None

    def alive(self) -> bool:
        # The engine's own end is seen at once, not only when the process that holds it has seen it.
        engine = self._engine
        if engine is None:
            return False
        poll = select.poll()
        poll.register(engine, select.POLLIN)
        return not poll.poll(0) and super().alive()

    def stop(self) -> None:
        super().stop()
        engine, self._engine = getattr(self, "_engine", None), None
        if engine is not None:
            os.close(engine)


def ask_version(host: str, port: int) -> str | None:
    """What an engine's API says its version is; None when it does not answer as one would."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/version")
        answer = connection.getresponse()
        said = answer.read(4096).decode("utf-8", "replace").strip()
        if answer.status != 200:
            return None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    try:
        parsed = json.loads(said)
    except ValueError:
        return said if re.fullmatch(r"\d+(\.\d+)+\S{0,20}|git", said) else None  # text alone, before 2.5
    return str(parsed.get("version", "")) if isinstance(parsed, dict) else None


def listens(pid: int, port: int) -> bool:
    """Whether it is this process that listens on a port: somebody else may have been quicker to take it."""
    listening = re.compile(rf"\s*\d+: [0-9A-F]+:{port:04X} [0-9A-F]+:0000 0A (?:\S+ +){{5}}(\d+) ")
    inodes = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            inodes |= set(listening.findall(Path(f"/proc/{pid}/net/{table}").read_text()))
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
            if found and found[1] in inodes:
                return True
    return False


def ready(pid: int, port: int) -> str | None:
    """The version of the engine that listens there; None as long as it is not this one."""
    version = ask_version("127.0.0.1", port)
    try:
        return version if version is not None and listens(pid, port) else None
    except OSError:  # it has ended
        return None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m midstream.injectors._engine")
    parser.add_argument("--owned", type=Path, metavar="FOLDER", help="end with stdin, and remove FOLDER then")
    parser.add_argument("--api", type=int, metavar="PORT")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    guard(options.owned is not None, options.owned)
    try:
        child = subprocess.Popen(
            options.command,
            stdin=subprocess.DEVNULL,
            stdout=2,  # into the log
            preexec_fn=functools.partial(die_with_parent, signal.SIGKILL, ctypes.CDLL(None)),
        )
    except OSError as error:
        sys.exit(f"{options.command[0]}: {error.strerror or error}")
    # The engine's data go with it, so it need not end gently; but it is gone when this process is.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child.pid, signal.SIGKILL))
    version: str | None = ""
    if options.api is not None:
        while (version := ready(child.pid, options.api)) is None and child.poll() is None:
            time.sleep(_LOOK_SECONDS)
    if child.poll() is not None:
        sys.exit(f"{Path(options.command[0]).name} ended with status {child.returncode}")
    announce(pid=child.pid, version=version)
    status = child.wait()
    sys.stderr.write(f"{Path(options.command[0]).name} ended with status {status}\n")
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
