"""An engine that is no Python of ours, in a process that ends when its owner does.

    python -m midstream.injectors._engine --owned FOLDER [--api PORT] -- COMMAND ...

Prints one line of JSON, {"pid", "version"}, once the command runs; with `--api`, once it answers a GET of
/version there. Linux kills the command should this process be killed; it is in the same process group, so
that whoever ends this process ends it too.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from midstream._processes import ServerProcess, announce, guard

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
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


def _die_with_parent(libc: ctypes.CDLL) -> None:
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


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
        return said  # before 2.5 it was plain text
    return str(parsed.get("version", "")) if isinstance(parsed, dict) else None


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
            preexec_fn=functools.partial(_die_with_parent, ctypes.CDLL(None)),
        )
    except OSError as error:
        sys.exit(f"{options.command[0]}: {error.strerror or error}")
    # The engine's data go with it, so it need not end gently; but it is gone when this process is.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child.pid, signal.SIGKILL))
    version: str | None = ""
    if options.api is not None:
        while (version := ask_version("127.0.0.1", options.api)) is None and child.poll() is None:
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
