"""What surrounds a driver that uploads: its source, the object in the store, what becomes of both.

The destination is the object's name in the store, and what lies there is looked at out of band: whenever the
store says that it has published something, and when the driver has ended.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from midstream._content import Content, Run
from midstream._errors import HarnessError, StoreDied, UsageError
from midstream._model import ProcessModel, UploadModel, room_of
from midstream._stage import OLD, Stage
from midstream._verbs import Act, Alter, Look
from midstream._verdict import Outcome, Sink
from midstream._workers import DriverProcess
from midstream.drivers import Job
from midstream.stores import OTHER, RunningStore, Traits
from midstream.stores._changes import next_generation

WRITE = 4096  # bytes at a time into a pipe, so that little of it is under way


class UploadStage(Stage):
    """One upload's surroundings. `act` may be called from another thread than `run`."""

    def __init__(
        self,
        store: RunningStore,
        key: str,
        content: Content,
        model: ProcessModel,
        upload: UploadModel,
        folder: Path,
    ) -> None:
        super().__init__(store, key, Traits(), content, model, folder)
        self._upload = upload
        self._reach = 2 * content.size  # a source that grows
        self.source = folder.with_name(f"{folder.name}.source")
        self._rival = folder.with_name(f"{folder.name}.rival")
        self.published: list[Sink] = []
        self.orphans: tuple[str, ...] = ()

    # --- before

    def prepare(self, part: int) -> None:
        """Lay out source and store. Raises UsageError where the store keeps no unfinished uploads."""
        content = self.objects[0]
        if self._model.existing:
            self._store.put(self._key, self._old, Traits())
        step = part or max(1, content.size // 4)
        match self._upload.leftover:
            case "other-key":
                other = replace(content, generation=OLD)
                self._store.leave(f"{self._key}{OTHER}", other, step)
            case "other-content":
                self._store.leave(self._key, replace(content, generation=OLD), step)
            case "other-parts":
                self._store.leave(self._key, content, step + step // 2)
        if self._upload.source == "file":
            self.source.write_bytes(content.whole()[: self._ends(content)])
        if self._upload.rival:
            rival = next_generation(content)
            self._rival.write_bytes(rival.whole())
            self.objects.append(rival)

    def _ends(self, content: Content) -> int:
        return room_of(self._upload.ends, content.size) if self._upload.ends else content.size

    # --- what the injector asks for

    def act(self, verb: Act) -> None:
        match verb:
            case Look():
                state = self._stored()
                if not self._is_old(state) and not self._is_one(state):
                    self.published.append(state)
            case Alter(action):
                self._alter(action)
            case _:
                super().act(verb)

    def _alter(self, action: str) -> None:
        """Change the source in place: the driver has it open, and is to find out."""
        content = self.objects[-1]
        if action == "delete":
            self.source.unlink(missing_ok=True)
        elif action == "truncate":
            os.truncate(self.source, content.size // 2)
        else:
            new = next_generation(content) if action == "replace" else replace(content, size=content.size * 2)
            self.objects.append(new)
            with self.source.open("r+b") as file:
                file.write(new.whole())

    def _between(self, note: Callable[[str], None]) -> None:
        super()._between(note)
        if self._upload.between == "none":
            return
        new = next_generation(self.objects[-1])
        if self._upload.between == "shorter":
            new = replace(new, size=new.size * 3 // 4)
        self.objects = [new]  # what was there before is not to be published any more
        self.source.write_bytes(new.whole())
        note(f"source: {self._upload.between}")

    def _again(self, job: Job) -> Job:
        again = super()._again(job)
        return again if self._upload.between == "none" else replace(again, size=self.objects[-1].size)

    # --- the driver's runs

    def run(
        self,
        process: DriverProcess,
        job: Job,
        deadline: float,
        note: Callable[[str], None],
        second: Callable[[], DriverProcess],
    ) -> Outcome:
        return super().run(process, replace(job, source=self.source), deadline, note, second)

    def _occupy(self) -> None:
        """What was under the name before is in the store already."""

    def _other(self, job: Job) -> Job:
        return replace(job, source=self._rival) if self._upload.rival else job

    @contextmanager
    def _reader(self) -> Iterator[None]:
        """For a pipe: somebody who writes it, to its end or to where it ends too early."""
        if self._upload.source == "file":
            yield
            return
        os.mkfifo(self.source)
        done = threading.Event()
        thread = threading.Thread(target=self._pour, args=(done,))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _pour(self, done: threading.Event) -> None:
        """One reader gets the content once; who opens the pipe again finds it empty."""
        content = self.objects[0]
        fd = _open_for_reader(self.source, done)
        if fd is None:
            return
        try:
            for start in range(0, self._ends(content), WRITE):
                data = content.read(start, min(WRITE, self._ends(content) - start))
                while data and not done.is_set():
                    try:
                        data = data[os.write(fd, data) :]
                    except BlockingIOError:
                        done.wait(0.001)
        except BrokenPipeError:
            pass
        finally:
            os.close(fd)
        while not done.is_set():  # a second reader must not wait for ever
            if (again := _open_for_reader(self.source, done)) is not None:
                os.close(again)
                done.wait(0.01)

    # --- after

    @property
    def replaces(self) -> str:
        """The path of an object that was there before, as the driver is told it; "" where there is none."""
        return urlsplit(self.access.url).path if self._model.existing and self.access else ""

    def sink(self, outcome: Outcome) -> Sink:
        """What the store holds under the object's name now."""
        stored = self._stored()
        self.orphans = tuple(self._store.orphans(self._key))
        leftovers = tuple(sorted(entry.name for entry in os.scandir(self.folder)))
        if self._is_old(stored):
            # Nothing new was published; after a success that is the fault, after a failure as it must be.
            return Sink(False, leftovers=leftovers)
        lost = self._model.existing and not stored.exists
        return replace(stored, leftovers=leftovers, lost=lost)

    def _is_one(self, stored: Sink) -> bool:
        """Whether it is one of the objects the driver has to send by now, whole."""
        return any(
            stored.exists
            and stored.size == c.size
            and stored.runs == ((Run(0, c.size, c.generation),) if c.size else ())
            for c in self.objects
        )

    def _is_old(self, stored: Sink) -> bool:
        whole = len(stored.runs) == 1 and stored.runs[0].source == OLD and stored.runs[0].origin == 0
        return self._model.existing and whole and stored.size == self._old.size

    def _stored(self) -> Sink:
        info = self._store.stat(self._key)
        if info is None:
            return Sink(False)
        try:
            data = self._store.read(self._key)
        except UsageError:  # gone meanwhile
            return Sink(False)
        except StoreDied:
            raise
        except HarnessError as error:  # a manifest whose segments are not there, say
            return Sink(True, info.size, unreadable=str(error))

        def read(start: int, length: int) -> bytes:
            return data[start : start + length]

        return Sink(True, len(data), self._account(read, len(data)))

    def clean_up(self) -> None:
        super().clean_up()
        for path in (self.source, self._rival):
            path.unlink(missing_ok=True)
        self._store.clear(self._key)


def _open_for_reader(path: Path, done: threading.Event) -> int | None:
    """The pipe, once somebody reads it; None when nobody will."""
    while not done.is_set():
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # ENXIO: nobody has opened it to read
            done.wait(0.002)
    return None
