"""Driver processes from the outside: started, given a job, bounded by a deadline, killed.

Two kinds with one face: a warm worker for Python drivers, kept between cases and replaced when it was killed
or is dirty, and a fresh process per case for command lines. Each lives in a session of its own, so that one
signal reaches everything it started.
"""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Protocol

from midstream._errors import HarnessError
from midstream._verdict import Outcome
from midstream.drivers import CommandDriver, Driver, Job

START_LIMIT = 60.0  # importing a driver's libraries on a busy machine; not part of a case
TAIL = 4096
_KEEP = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")


def clean_environment(home: Path) -> dict[str, str]:
    """An environment in which nothing of the user's accounts, proxies or configuration is left."""
    kept = {k: v for k, v in os.environ.items() if k in _KEEP}
    return {
        **kept,
        "HOME": str(home),
        "TMPDIR": str(home),  # what a driver forgets there goes with the run
        "NO_PROXY": "*",
        "no_proxy": "*",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PYTHONUNBUFFERED": "1",
    }


# A limit is in force before the command begins: set from outside, it would come after a quick one's writes.
_LIMITED = """
import os, resource, sys
room, *words = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(room), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
os.execvp(words[0], words)
"""


class _Process:
    """A process in a session of its own, with its pipes.

    Every byte of them is read, so that it never blocks; of standard error only the tail is kept. That the
    process has ended is asked of the kernel (pidfd): a child that it left behind may hold its pipes open for
    ever. It is reaped only after its group was killed, so that the group's number cannot be someone else's.
    """

    def __init__(
        self,
        words: list[str],
        env: dict[str, str],
        cwd: Path | None = None,
        *,
        talk: bool = False,
        room: int | None = None,
    ) -> None:
        if room is not None:
            if "/" not in words[0] and shutil.which(words[0], path=env.get("PATH")) is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), words[0])
            words = [sys.executable, "-I", "-c", _LIMITED, str(room), *words]
        self._popen = subprocess.Popen(
            words,
            stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talk else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
            start_new_session=True,
            # Our own ignoring of SIGXFSZ is passed on with a limit: its default would kill where a full
            # disk gives an error.
            restore_signals=room is None,
        )
        self.pid = self._popen.pid
        self.tail = bytearray()
        self.answers = bytearray()
        self.code: int | None = None
        self._lock = threading.Lock()
        self._exit = os.pidfd_open(self.pid)
        self._poll = select.poll()
        self._poll.register(self._exit, select.POLLIN)
        self._open: dict[int, bytearray] = {}
        for stream, buffer in ((self._popen.stdout, self.answers), (self._popen.stderr, self.tail)):
            if stream:
                os.set_blocking(stream.fileno(), False)
                self._open[stream.fileno()] = buffer
                self._poll.register(stream.fileno(), select.POLLIN)
        self.ended = False

    def _drain(self) -> None:
        """Take what is in the pipes now."""
        for fd in list(self._open):
            # Bounded: a child that was left behind may write without end.
            for _ in range(64):
                try:
                    data = os.read(fd, 65536)
                except BlockingIOError:
                    break
                if not data:
                    self._poll.unregister(fd)
                    del self._open[fd]
                    break
                self._open[fd].extend(data)
        del self.tail[:-TAIL]

    def pump(self, until: float) -> bool:
        """Read what comes next; False when the time is up or the process has ended."""
        left = until - time.monotonic()
        if left <= 0 or self.ended:
            return False
        ready = self._poll.poll(min(left, 3600.0) * 1000)
        self.ended = any(fd == self._exit for fd, _ in ready)
        self._drain()
        return not self.ended

    def line(self, until: float) -> bytes | None:
        """The next whole line of standard output; None when there will be none in time."""
        while b"\n" not in self.answers:
            if not self.pump(until) and b"\n" not in self.answers:
                return None
        line, _, rest = bytes(self.answers).partition(b"\n")
        self.answers[:] = rest
        return line

    def send(self, data: bytes) -> bool:
        """Write to its standard input; False when it no longer reads."""
        assert self._popen.stdin
        try:
            os.write(self._popen.stdin.fileno(), data)
        except BrokenPipeError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL to the whole session, from any thread; whoever waits for the process sees it end."""
        with self._lock:
            if self.code is None:
                try:
                    os.killpg(self.pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    pass

    def finish(self) -> int:
        """Kill what is left of the session, reap, free everything; how the process itself ended."""
        self.kill()
        with self._lock:
            self.code = self._popen.wait()
        self._drain()
        for stream in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if stream:
                try:
                    stream.close()
                except OSError:
                    pass
        os.close(self._exit)
        return self.code


def _last_words(tail: bytes | bytearray) -> str:
    lines = [line.strip() for line in bytes(tail).decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def describe_exit(code: int, tail: bytes | bytearray) -> str:
    """How a process ended, with its last line of output."""
    if code < 0:
        try:
            how = f"killed by {signal.Signals(-code).name}"
        except ValueError:
            how = f"killed by signal {-code}"
    else:
        how = f"exit status {code}"
    words = _last_words(tail)
    return f"{how}: {words}" if words else how


class DriverProcess(Protocol):
    """Runs one driver, one job at a time."""

    @property
    def pid(self) -> int | None:
        """The process that a job runs in; None while there is none."""

    def run(self, job: Job, deadline: float) -> Outcome: ...

    def kill(self) -> None:
        """End a running job, from any thread; no other can be run."""

    def close(self) -> None:
        """Free everything, in the thread that runs jobs or after it has ended."""


def _hang(deadline: float, seconds: float) -> Outcome:
    return Outcome("hang", f"no end after {deadline:g} s", seconds)


class WarmWorker:
    """A Python driver's process, kept between jobs."""

    def __init__(self, spec: str, home: Path) -> None:
        self._spec = spec
        self._home = home
        self._process: _Process | None = None
        self._ready = False
        self._closed = False
        self._lock = threading.Lock()
        self.start()

    @property
    def pid(self) -> int | None:
        """The process that a job runs in; None while there is none."""
        process = self._process
        return process.pid if process else None

    def start(self) -> None:
        """Start the process without waiting for it. Raises HarnessError after `kill`."""
        with self._lock:
            if self._closed:
                raise HarnessError(f"driver {self._spec}: the run has ended")
            words = [sys.executable, "-m", "midstream._worker", self._spec]
            self._process = _Process(words, clean_environment(self._home), talk=True)
            self._ready = False

    def _await_ready(self) -> _Process:
        if self._process is None:
            self.start()
        process = self._process
        assert process
        if not self._ready:
            line = process.line(time.monotonic() + START_LIMIT)
            greeting = json.loads(line) if line else {}
            if not greeting.get("ready"):
                tail = self._discard()[1]
                text = greeting.get("error") or _last_words(tail) or "no sign of life"
                raise HarnessError(f"driver {self._spec}: its process did not start: {text}")
            self._ready = True
        return process

    def run(self, job: Job, deadline: float) -> Outcome:
        """Run one job. Raises HarnessError when no process takes it."""
        message = json.dumps(job.as_json()).encode() + b"\n"
        for _ in range(2):
            process = self._await_ready()
            # A process that died or stuck while it was idle says nothing about this job: once more, afresh.
            if process.send(message) and process.line(time.monotonic() + START_LIMIT) is not None:
                return self._wait(process, deadline)
            self._discard()
        raise HarnessError(f"driver {self._spec}: its process takes no job")

    def _wait(self, process: _Process, deadline: float) -> Outcome:
        started = time.monotonic()
        line = process.line(started + deadline)
        seconds = time.monotonic() - started
        if line is None:
            ended = process.ended
            code, tail = self._discard()
            return Outcome("crash", describe_exit(code, tail), seconds) if ended else _hang(deadline, seconds)
        answer = json.loads(line)
        if answer["dirty"]:
            self._discard()
        if answer.get("internal"):
            raise HarnessError(f"driver {self._spec}: {answer['error']}")
        return Outcome(answer["said"], answer.get("error", ""), seconds, answer.get("peak_kib", 0))

    def _discard(self) -> tuple[int, bytearray]:
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return 0, bytearray()
        return process.finish(), process.tail

    def kill(self) -> None:
        with self._lock:
            self._closed = True
            if self._process:
                self._process.kill()

    def close(self) -> None:
        self.kill()
        self._discard()


class OneShot:
    """A command line: a process per job."""

    def __init__(self, driver: CommandDriver, home: Path) -> None:
        self._driver = driver
        self._home = home
        self._running: _Process | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The process that a job runs in; None while there is none."""
        process = self._running
        return process.pid if process else None

    def run(self, job: Job, deadline: float) -> Outcome:
        """Run one job. Raises HarnessError when the command cannot be executed."""
        # A home per job: what a client keeps there must not help or hurt the next case.
        home = Path(tempfile.mkdtemp(prefix="job-", dir=self._home))
        try:
            return self._run(job, deadline, home)
        finally:
            self._running = None
            shutil.rmtree(home, ignore_errors=True)

    def _run(self, job: Job, deadline: float, home: Path) -> Outcome:
        idle = {"MIDSTREAM_IDLE_TIMEOUT": f"{job.idle_timeout:g}"}
        started = time.monotonic()
        with self._lock:
            if self._closed:
                raise HarnessError(f"driver {self._driver.id}: the run has ended")
            try:
                env = {**clean_environment(home), **job.env, **idle}
                process = _Process(self._driver.command(job), env, job.dest.parent, room=job.room)
            except OSError as error:
                raise HarnessError(f"driver {self._driver.id}: cannot run it: {error.strerror}") from None
            self._running = process
        while process.pump(started + deadline):
            pass
        seconds = time.monotonic() - started
        ended = process.ended
        code = process.finish()
        if not ended:
            return _hang(deadline, seconds)
        if code == 0:
            return Outcome("ok", "", seconds)
        text = describe_exit(code, process.tail)
        return Outcome("crash" if code < 0 else "failed", text, seconds)

    def kill(self) -> None:
        with self._lock:
            self._closed = True
            if self._running:
                self._running.kill()

    def close(self) -> None:
        self.kill()


def process_for(driver: Driver, folder: Path) -> DriverProcess:
    """The process kind a driver runs in, with a home of its own below `folder`."""
    home = Path(tempfile.mkdtemp(prefix="home-", dir=folder))
    return OneShot(driver, home) if isinstance(driver, CommandDriver) else WarmWorker(driver.id, home)
