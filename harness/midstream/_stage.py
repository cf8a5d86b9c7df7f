"""What surrounds a driver in one case: its folder, what lies there before, what is done to it meanwhile.

A stage knows every state the object had in the store, so that the verdict can tell what a driver may deliver.
"""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from midstream._content import GENERATIONS, Content, Run, explain
from midstream._errors import HarnessError
from midstream._model import ProcessModel, room_of
from midstream._verbs import Act, Kill, Mutate
from midstream._verdict import Outcome, Sink
from midstream._workers import DriverProcess
from midstream.drivers import Job
from midstream.stores import Access, RunningStore, Traits
from midstream.stores._changes import change

OLD = GENERATIONS  # the generation of what was under the final name before
BLOCK = 1 << 16


class Stage:
    """One case's surroundings. `act` may be called from another thread than `run`."""

    def __init__(
        self,
        store: RunningStore,
        key: str,
        traits: Traits,
        content: Content,
        model: ProcessModel,
        folder: Path,
    ) -> None:
        self._store = store
        self._key = key
        self._traits = traits
        self._model = model
        self.folder = folder
        self.dest = folder / "object"
        self.objects = [content]
        self._reach = 0  # how far a generation may reach besides
        self._old = Content(max(1, content.size // 2), content.seed, OLD)
        self.access: Access | None = None  # what the driver was given; the credentials that expire are these
        self._process: DriverProcess | None = None
        self._killed = ""
        self._received = folder.with_name(f"{folder.name}.received")

    # --- what the injector asks for

    def act(self, verb: Act) -> None:
        """Change the object or kill the driver. Raises StoreDied or HarnessError."""
        match verb:
            case Kill(signal=name):
                self._kill(name)
            case Mutate():
                self._mutate(verb)
            case _:
                raise HarnessError(f"a download has nothing to {type(verb).__name__.lower()}")

    def _kill(self, name: str) -> None:
        pid = self._process.pid if self._process else None
        if pid is None:
            return  # it has just ended by itself
        self._killed = name
        os.kill(pid, signal.Signals[f"SIG{name}"])

    def _mutate(self, verb: Mutate) -> None:
        if verb.backends:
            return self._store.run_backends(None if verb.backends == "all" else int(verb.backends))
        if verb.action == "expire":
            return self._store.expire_credentials(self.access)
        new = change(self._store, self._key, self.objects[-1], self._traits, verb.action)
        if new and new != self.objects[-1]:
            self.objects.append(new)
        return None

    # --- the driver's runs

    def run(
        self,
        process: DriverProcess,
        job: Job,
        deadline: float,
        note: Callable[[str], None],
        second: Callable[[], DriverProcess],
    ) -> Outcome:
        """Run the driver as the scenario wants it; its last word. `second` makes one more process."""
        model = self._model
        self._occupy()
        if model.room:
            job = replace(job, room=room_of(model.room, self.objects[0].size))
        with self._reader():
            for number in range(1, model.runs + 1):
                if number > 1:
                    note(f"run {number}")
                outcome = self._once(process, job, deadline, second)
                if outcome.said != "failed" or number == model.runs:
                    break
                self._between(note)
                job = self._again(job)
        return outcome

    def _occupy(self) -> None:
        """Put another object under the final name, if the scenario wants one there."""
        if self._model.existing:
            self.dest.write_bytes(self._old.whole())

    def _between(self, note: Callable[[str], None]) -> None:
        """What happens between two runs of the driver."""
        if self._model.tamper != "none":
            note(f"partial: {self._tamper()}")

    def _again(self, job: Job) -> Job:
        """What the next run is to do: the disk has been cleaned up."""
        return replace(job, room=None)

    def _other(self, job: Job) -> Job:
        """What the second of two processes is to do."""
        return job

    def _once(
        self, process: DriverProcess, job: Job, deadline: float, second: Callable[[], DriverProcess]
    ) -> Outcome:
        self._process, self._killed = process, ""
        if self._model.together:
            return self._pair(process, second(), job, deadline)
        return self._alone(process, job, deadline)

    def _alone(self, process: DriverProcess, job: Job, deadline: float) -> Outcome:
        """The process that a fault may kill."""
        try:
            outcome = process.run(job, deadline)
        finally:
            self._process = None
        if self._killed and outcome.said in ("crash", "failed"):
            return Outcome("failed", f"stopped by SIG{self._killed}, as the scenario wants", outcome.seconds)
        return outcome

    def _pair(self, one: DriverProcess, other: DriverProcess, job: Job, deadline: float) -> Outcome:
        """Both at once; one that succeeds is enough, one that hangs or crashes is the outcome."""
        outcomes: list[Outcome] = []
        failures: list[BaseException] = []

        def work() -> None:
            try:
                outcomes.append(other.run(self._other(job), deadline))
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            outcomes.append(self._alone(one, job, deadline))
        finally:
            thread.join()
            other.close()
        if failures:
            raise failures[0]
        order = {"hang": 0, "crash": 1, "ok": 2, "failed": 3}
        return min(outcomes, key=lambda o: order[o.said])

    def _tamper(self) -> str:
        """Damage the largest file the driver left, as a crash might; says what was done."""
        files = [p for p in self.folder.rglob("*") if p.is_file() and not p.is_symlink() and p != self.dest]
        if not files:
            return "none was left"
        victim = max(files, key=lambda p: (p.stat().st_size, str(p)))
        size = victim.stat().st_size
        with victim.open("r+b") as file:
            match self._model.tamper:
                case "zero":  # right size, no data: what a power cut leaves
                    file.write(bytes(size))
                case "flip":
                    file.seek(size // 2)
                    byte = file.read(1)
                    file.seek(size // 2)
                    file.write(bytes([byte[0] ^ 1]) if byte else b"\1")
                case "longer":
                    file.seek(0, os.SEEK_END)
                    file.write(Content(self.objects[0].size + 4096, 1, OLD).whole())
                case "shorter":
                    file.truncate(size // 2)
                case "foreign":  # another object's partial
                    file.write(Content(size, self.objects[0].seed + 1, OLD).whole())
        return f"{self._model.tamper}, {size} bytes"

    # --- the destination

    @contextmanager
    def _reader(self) -> Iterator[None]:
        """For a pipe: somebody who reads it, with a pause at half of the object."""
        if self._model.sink == "file":
            yield
            return
        os.mkfifo(self.dest)
        done = threading.Event()
        # Opened for both, so that neither side waits for the other; the end is told by `done`.
        fd = os.open(self.dest, os.O_RDWR | os.O_NONBLOCK)
        thread = threading.Thread(target=self._drain, args=(fd, done))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            os.close(fd)

    def _drain(self, fd: int, done: threading.Event) -> None:
        had, pause_at = 0, self.objects[0].size // 2 if self._model.pause else -1
        with self._received.open("wb") as file:
            while True:
                last = done.is_set()
                try:
                    data = os.read(fd, BLOCK)
                except BlockingIOError:
                    if last:
                        return
                    time.sleep(0.002)
                    continue
                file.write(data)
                had += len(data)
                if 0 <= pause_at <= had:
                    pause_at = -1
                    done.wait(self._model.pause)

    def sink(self, outcome: Outcome) -> Sink:
        """Look at what the driver left; content problems are explained run by run."""
        leftovers: tuple[str, ...] = ()
        path = self.dest
        try:
            self.folder.chmod(0o700)
            names = sorted(
                os.fsencode(e.name).decode("utf-8", "backslashreplace") for e in os.scandir(self.folder)
            )
            leftovers = tuple(name for name in names if name != path.name)
            if self._model.sink == "pipe" and stat.S_ISFIFO(path.stat().st_mode):
                path = self._received
                if not path.stat().st_size and outcome.said != "ok":
                    return Sink(False, leftovers=leftovers)
            size = path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            # The driver removed its folder, or nothing is under the final name, or it leads nowhere.
            return Sink(False, leftovers=leftovers, lost=self._model.existing)
        if not path.is_file():
            return Sink(False, leftovers=(*leftovers, path.name))
        if not os.access(path, os.R_OK):
            path.chmod(0o600)
        runs = self._explain(path, size)
        untouched = runs == (Run(0, self._old.size, OLD),) and size == self._old.size
        if self._model.existing and untouched and outcome.said != "ok":
            return Sink(False, leftovers=leftovers)  # what was there before is still there, whole
        if path == self._received and outcome.said != "ok" and self._begins_one(runs, size):
            return Sink(False, leftovers=leftovers)  # a pipe takes nothing back: a true beginning is no leak
        return Sink(True, size, runs, leftovers)

    def _begins_one(self, runs: tuple[Run, ...], size: int) -> bool:
        """Whether these are the first bytes of one state of the object, and not all of them."""
        states = {(c.generation, c.size) for c in self.objects}
        one = len(runs) == 1 and runs[0].start == runs[0].origin == 0
        return one and any(g == runs[0].source and size < s for g, s in states)

    def _explain(self, path: Path, size: int) -> tuple[Run, ...]:
        with path.open("rb", buffering=0) as sink:

            def read(start: int, length: int) -> bytes:
                return os.pread(sink.fileno(), length, start)

            return self._account(read, size)

    def _account(self, read: Callable[[int, int], bytes], size: int) -> tuple[Run, ...]:
        """Where each of the bytes comes from."""
        for content in self.objects:
            if size == content.size and _same(read, content):
                return (Run(0, size, content.generation),) if size else ()
        sizes = [c.size for c in self.objects] + ([self._old.size] if self._model.existing else [])
        reach = max(self._reach, *sizes)
        return tuple(explain(read, size, self.objects[0].seed, object_size=reach))

    def clean_up(self) -> None:
        self._received.unlink(missing_ok=True)


def _same(read: Callable[[int, int], bytes], content: Content) -> bool:
    at = 0
    for block in content.blocks():
        if read(at, len(block)) != block:
            return False
        at += len(block)
    return True
