"""Driver processes from the outside: started, given a job, bounded by a deadline, killed with all they spawned.

Two kinds with one face: a warm worker for Python drivers, kept between cases and replaced when it was killed
or is dirty, and a fresh process per case for command lines. Each lives in a session of its own, so that one
signal reaches everything it started.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
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
        "NO_PROXY": "*",
        "no_proxy": "*",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PYTHONUNBUFFERED": "1",
    }


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the whole session of a process, then reap it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


class _Output:
    """The pipes of a process: every byte is read, so nobody blocks; only the tail is kept."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.answers = bytearray()
        self.tail = bytearray()
        self._poll = select.poll()
        self._open: dict[int, bytearray] = {}
        for stream, buffer in ((process.stdout, self.answers), (process.stderr, self.tail)):
            if stream:
                os.set_blocking(stream.fileno(), False)
                self._open[stream.fileno()] = buffer
                self._poll.register(stream.fileno(), select.POLLIN)

    def pump(self, until: float) -> bool:
        """Read what comes next; False when the time is up or everything is closed."""
        left = until - time.monotonic()
        if left <= 0 or not self._open:
            return False
        for fd, _ in self._poll.poll(min(left, 3600.0) * 1000):
            try:
                data = os.read(fd, 65536)
            except BlockingIOError:
                continue
            if not data:
                self._poll.unregister(fd)
                del self._open[fd]
                continue
            self._open[fd].extend(data)
        del self.tail[:-TAIL]
        return True

    def line(self, until: float) -> bytes | None:
        """The next whole line of standard output; None when there will be none in time."""
        while b"\n" not in self.answers:
            if self.process.stdout and self.process.stdout.fileno() not in self._open:
                return None
            if not self.pump(until):
                return None
        line, _, rest = bytes(self.answers).partition(b"\n")
        self.answers[:] = rest
        return line

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                try:
                    stream.close()
                except OSError:
                    pass


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

    def run(self, job: Job, deadline: float) -> Outcome: ...
    def close(self) -> None: ...


class WarmWorker:
    """A Python driver's process."""

    def __init__(self, spec: str, home: Path) -> None:
        self._spec = spec
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._output: _Output | None = None
        self._ready = False
        self.start()

    def start(self) -> None:
        """Start the process without waiting for it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "midstream._worker", self._spec],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(self._home),
            start_new_session=True,
        )
        self._output = _Output(self._process)
        self._ready = False

    def _await_ready(self) -> tuple[subprocess.Popen[bytes], _Output]:
        if self._process is None or self._output is None:
            self.start()
        assert self._process and self._output
        if not self._ready:
            if self._output.line(time.monotonic() + START_LIMIT) is None:
                self._output.pump(time.monotonic() + 0.2)
                tail = self._output.tail
                self._discard()
                raise HarnessError(f"driver {self._spec}: its process did not start: {_last_words(tail)}")
            self._ready = True
        return self._process, self._output

    def run(self, job: Job, deadline: float) -> Outcome:
        """Run one job. Raises HarnessError when the process cannot be started."""
        process, output = self._await_ready()
        started = time.monotonic()
        try:
            os.write(process.stdin.fileno(), json.dumps(job.as_json()).encode() + b"\n")  # type: ignore[union-attr]
        except BrokenPipeError:
            self._discard()
            return Outcome("crash", "the driver's process had died", 0.0)
        line = output.line(started + deadline)
        seconds = time.monotonic() - started
        if line is None:
            if seconds >= deadline:
                self._discard()
                return Outcome("hang", "", seconds)
            code = process.wait()
            output.pump(time.monotonic() + 0.2)
            text = describe_exit(code, output.tail)
            self._discard()
            return Outcome("crash", text, seconds)
        answer = json.loads(line)
        if answer.get("dirty"):
            self._discard()
        if answer.get("internal"):
            raise HarnessError(f"driver {self._spec}: {answer['error']}")
        return Outcome(answer["said"], answer.get("error", ""), seconds)

    def _discard(self) -> None:
        if self._process:
            kill_group(self._process)
        if self._output:
            self._output.close()
        self._process = self._output = None

    def close(self) -> None:
        self._discard()


class OneShot:
    """A command line: a process per job."""

    def __init__(self, driver: CommandDriver, home: Path) -> None:
        self._driver = driver
        self._home = home
        self._running: subprocess.Popen[bytes] | None = None

    def run(self, job: Job, deadline: float) -> Outcome:
        """Run one job. Raises HarnessError when the command cannot be executed."""
        started = time.monotonic()
        try:
            process = subprocess.Popen(
                self._driver.command(job),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**clean_environment(self._home), **job.env, "MIDSTREAM_IDLE_TIMEOUT": f"{job.idle_timeout:g}"},
                cwd=job.dest.parent,
                start_new_session=True,
            )
        except OSError as error:
            raise HarnessError(f"driver {self._driver.id}: cannot run it: {error.strerror}") from None
        self._running = process
        output = _Output(process)
        until = started + deadline
        # Standard error closes when the command and everything it started have ended; a child that keeps it
        # open must not keep the case open, so the process itself is asked too.
        while process.poll() is None and time.monotonic() < until:
            if not output.pump(min(until, time.monotonic() + 0.05)):
                try:
                    process.wait(min(0.05, max(0.0, until - time.monotonic())))
                except subprocess.TimeoutExpired:
                    pass
        seconds = time.monotonic() - started
        code = process.poll()
        kill_group(process)
        while output.pump(time.monotonic() + 0.05):
            pass
        output.close()
        self._running = None
        if code is None:
            return Outcome("hang", "", seconds)
        if code == 0:
            return Outcome("ok", "", seconds)
        text = describe_exit(code, output.tail)
        return Outcome("crash" if code < 0 else "failed", text, seconds)

    def close(self) -> None:
        if self._running:
            kill_group(self._running)


def process_for(driver: Driver, home: Path) -> DriverProcess:
    """The process kind a driver runs in."""
    return OneShot(driver, home) if isinstance(driver, CommandDriver) else WarmWorker(driver.id, home)
