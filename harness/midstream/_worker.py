"""The process a Python driver runs in: `python -m midstream._worker DRIVER`.

Reads one job per line from standard input and answers each with one line on the descriptor it was started
with, after a line that says it has begun; what the driver prints goes to standard error. Ends when its input
ends. Kept small: everything imported here is start-up time of every run.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import stat
import sys
import threading
from pathlib import Path
from typing import Any


def die_with_parent() -> None:
    """Linux: be killed when the harness is, so that nothing is left after kill -9 (prctl(2))."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
    except (OSError, AttributeError):
        pass


SPARE = 4  # threads and sockets a library may add later (a pool that grows); more is a leak
FIRST = 16  # and what its first job may leave for good


def traces() -> tuple[int, int]:
    """Threads and sockets this process has, and child processes."""
    sockets = 0
    for entry in os.scandir("/proc/self/fd"):
        try:
            sockets += stat.S_ISSOCK(os.fstat(int(entry.name)).st_mode)
        except OSError:
            pass
    children = 0
    for task in os.scandir("/proc/self/task"):
        try:
            children += len(Path(task.path, "children").read_bytes().split())
        except OSError:
            pass
    return threading.active_count() + sockets, children


class Conduct:
    """Whether this process can take another job: what a driver leaves running could meddle with it."""

    def __init__(self) -> None:
        self._before = traces()
        self._usual: int | None = None

    def dirty(self) -> bool:
        loose, children = traces()
        if self._usual is None:
            self._usual = min(loose, self._before[0] + FIRST)
        return loose > self._usual + SPARE or children > self._before[1]


class Peak:
    """The peak resident memory of this process since the last reset (proc(5))."""

    def reset(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_bytes(b"5")
            self._known = True
        except OSError:
            self._known = False

    def kib(self) -> int:
        """KiB, 0 when it cannot be measured."""
        if not self._known:
            return 0
        for line in Path("/proc/self/status").read_bytes().splitlines():
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1])
        return 0


def perform(driver: Any, job: Any) -> dict[str, Any]:
    """Run one job. Environment and working folder are as before afterwards."""
    before = dict(os.environ)
    os.environ.update(job.env)
    os.chdir(job.dest.parent)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if job.room is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.room, limits[1]))
    # A scenario may interrupt the driver; between jobs an interrupt is not for us.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        (driver.upload if job.source else driver.download)(job)
    except SystemExit as error:  # as from a command line: status 0 is success
        if error.code in (None, 0):
            return {"said": "ok"}
        return {"said": "failed", "error": f"exit status {error.code}"[:2000]}
    except BaseException as error:
        return {"said": "failed", "error": words(error), "internal": isinstance(error, ImportError)}
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        os.environ.clear()
        os.environ.update(before)
        os.chdir("/")
    return {"said": "ok"}


def words(error: BaseException) -> str:
    """An exception in one text, even one that cannot be written out."""
    try:
        return f"{type(error).__name__}: {error}"[:2000]
    except Exception:
        return type(error).__name__


def main() -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Both ends of our conversation move out of a driver's reach: what it prints must not be taken for an
    # answer, and what it reads or closes must not be the next job.
    jobs = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)

    def say(**message: object) -> None:
        answers.write(json.dumps(message).encode() + b"\n")

    from midstream.drivers import Job
    from midstream.drivers._spec import resolve

    try:
        driver: Any = resolve(sys.argv[1])
        driver.load()
    except BaseException as error:
        say(ready=False, error=words(error))
        return
    say(ready=True)
    conduct, peak = Conduct(), Peak()
    owner = os.getpid()
    for line in jobs:
        peak.reset()
        say(started=True)  # from here on, what happens is the driver's doing
        result = perform(driver, Job.from_json(json.loads(line)))
        if os.getpid() != owner:
            os._exit(0)  # a child that the driver forked and that ran on into our loop
        say(**result, dirty=conduct.dirty(), peak_kib=peak.kib())


if __name__ == "__main__":
    main()
