"""The stage alone, with processes that are played: runs, tampering, pairs, pipes and what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midstream._content import GENERATIONS, Content, Run
from midstream._errors import HarnessError
from midstream._model import ProcessModel
from midstream._stage import Stage
from midstream._verbs import Kill, Mutate
from midstream._verdict import Outcome, Sink
from midstream.drivers import Job
from midstream.stores import RunningStore, Traits
from midstream.testing.wire import WAIT

SIZE = 10_000
OBJECT = Content(SIZE, 3)
OLD = Content(SIZE // 2, 3, GENERATIONS)
Part = Callable[[Job], Outcome]


class Played:
    """A process whose runs are played, one after the other."""

    def __init__(self, *parts: Part, pid: int | None = None) -> None:
        self.parts = list(parts)
        self.jobs: list[Job] = []
        self.pid = pid
        self.closed = False

    def run(self, job: Job, deadline: float) -> Outcome:
        self.jobs.append(job)
        return self.parts.pop(0)(job)

    def kill(self) -> None:
        raise AssertionError

    def close(self) -> None:
        self.closed = True


def ok(job: Job) -> Outcome:
    job.dest.write_bytes(OBJECT.whole())
    return Outcome("ok")


def ends(said: str) -> Part:
    return lambda _: Outcome(said, "words")


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., Stage]:
    def make(**model: Any) -> Stage:
        folder = tmp_path / "1"
        folder.mkdir()
        store: Any = None
        return Stage(store, "k", Traits(), OBJECT, ProcessModel(**model), folder)

    return make


def perform(on: Stage, process: Played, other: Played | None = None) -> tuple[Outcome, list[str]]:
    notes: list[str] = []
    job = Job(on.dest, "http", "http://h/k", "http://h/k")
    return on.run(process, job, 1.0, notes.append, lambda: other or Played()), notes


# --- runs


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (("ok",), 2),
        (("failed", "ok"), 1),
        (("failed", "failed", "failed"), 0),
        (("hang",), 2),
        (("crash",), 2),
    ],
)
def test_runs(stage: Callable[..., Stage], said: tuple[str, ...], left: int) -> None:
    """A driver is run again after a clean failure only; its last word counts."""
    parts = [ends(s) for s in said] + [ends("ok")] * left
    process = Played(*parts)
    outcome, notes = perform(stage(runs=3), process)
    assert outcome.said == said[-1]
    assert len(process.parts) == left
    assert notes == [f"run {n}" for n in range(2, len(said) + 1)]


def test_room_is_for_the_first_run(stage: Callable[..., Stage]) -> None:
    """The limit is of the object's size, and gone when the driver is run again."""
    process = Played(ends("failed"), ends("ok"))
    perform(stage(runs=2, room="25%"), process)
    assert [job.room for job in process.jobs] == [SIZE // 4, None]


# --- killing


@pytest.mark.parametrize("name", ["KILL", "TERM", "INT"])
@pytest.mark.parametrize(
    ("said", "seen"), [("crash", "failed"), ("failed", "failed"), ("ok", "ok"), ("hang", "hang")]
)
def test_kill(stage: Callable[..., Stage], name: str, said: str, seen: str) -> None:
    """The signal reaches the process, and what it brings about is no crash of the driver's own."""
    on = stage()
    with subprocess.Popen(["sleep", "1000"]) as child:

        def killed(job: Job) -> Outcome:
            on.act(Kill(name))
            return Outcome(said, "words")

        outcome, _ = perform(on, Played(killed, pid=child.pid))
        assert child.wait(WAIT) == -signal.Signals[f"SIG{name}"]
    assert outcome.said == seen
    assert (outcome.error == f"stopped by SIG{name}, as the scenario wants") == (seen == "failed")
    on.act(Kill(name))  # there is none any more: it has ended by itself


def test_a_kill_counts_for_its_own_run(stage: Callable[..., Stage]) -> None:
    """A crash in a later run is one, also after a run that was killed."""
    on = stage(runs=2)
    with subprocess.Popen(["sleep", "1000"]) as child:

        def killed(job: Job) -> Outcome:
            on.act(Kill("KILL"))
            return Outcome("crash", "killed by SIGKILL")

        outcome, _ = perform(on, Played(killed, ends("crash"), pid=child.pid))
    assert outcome == Outcome("crash", "words")


# --- tampering


@pytest.mark.parametrize("size", [0, 1, 2, 1000, 20_000])
@pytest.mark.parametrize("tamper", ["none", "zero", "flip", "longer", "shorter", "foreign"])
def test_tamper(stage: Callable[..., Stage], tamper: str, size: int) -> None:
    """The largest file changes in exactly the way that is said, and no other does."""
    on = stage(runs=2, tamper=tamper)
    data = Content(20_000, 3).read(0, size)
    folder = on.folder / "deep"
    folder.mkdir()

    def leaves(job: Job) -> Outcome:
        (folder / "part").write_bytes(data)
        (on.folder / "notes").write_bytes(data[:-1])
        (on.folder / "link").symlink_to("/etc/passwd")
        job.dest.write_bytes(bytes(30_000))  # what is under the final name is no partial
        return Outcome("failed")

    _, notes = perform(on, Played(leaves, ends("ok")))
    victim = folder / "part" if size else on.folder / "notes"
    other = on.folder / "notes" if size else folder / "part"
    now = victim.read_bytes()
    assert on.dest.read_bytes() == bytes(30_000)
    assert other.read_bytes() == data[:-1]
    want = {"none": [], "zero": 0}.get(tamper, 0)
    assert notes == ([] if tamper == "none" else [f"partial: {tamper}, {size} bytes"]) + ["run 2"]
    assert want is not None
    match tamper:
        case "none":
            assert now == data
        case "zero":
            assert now == bytes(size)
        case "shorter":
            assert now == data[: size // 2]
        case "longer":
            assert now[:size] == data
            assert len(now) > max(size, SIZE)
        case "flip" if size:
            different = [i for i in range(size) if now[i] != data[i]]
            assert (len(now), different) == (size, [size // 2])
            assert (now[size // 2] ^ data[size // 2]).bit_count() == 1
        case "foreign":
            assert len(now) == size
            assert not size or all(a != b for a, b in zip(now, data, strict=True)), "of another object"


def test_nothing_to_tamper_with(stage: Callable[..., Stage]) -> None:
    """A driver that leaves no partial is told so in the evidence, and run again."""
    _, notes = perform(stage(runs=2, tamper="zero"), Played(ends("failed"), ends("ok")))
    assert notes == ["partial: none was left", "run 2"]


# --- two at once


@pytest.mark.parametrize(
    ("one", "other", "want"),
    [
        ("ok", "ok", "ok"),
        ("ok", "failed", "ok"),
        ("failed", "ok", "ok"),
        ("failed", "failed", "failed"),
        ("ok", "crash", "crash"),
        ("crash", "ok", "crash"),
        ("hang", "crash", "hang"),
    ],
)
def test_together(stage: Callable[..., Stage], one: str, other: str, want: str) -> None:
    """Both run at the same time; one success is enough, a hang or a crash of either is the outcome."""
    meeting = threading.Barrier(2, timeout=WAIT)

    def meets(said: str) -> Part:
        def part(job: Job) -> Outcome:
            meeting.wait()
            return Outcome(said)

        return part

    second = Played(meets(other))
    outcome, _ = perform(stage(together=True), Played(meets(one)), second)
    assert outcome.said == want
    assert second.closed


def test_one_of_two_is_killed(stage: Callable[..., Stage]) -> None:
    """A scenario that kills one of two asks for the other's success."""
    on = stage(together=True)
    with subprocess.Popen(["sleep", "1000"]) as child:

        def killed(job: Job) -> Outcome:
            on.act(Kill("KILL"))
            return Outcome("crash", "killed by SIGKILL")

        outcome, _ = perform(on, Played(killed, pid=child.pid), Played(ok))
    assert outcome.said == "ok"


def test_a_failure_of_ours_in_either(stage: Callable[..., Stage]) -> None:
    """An error of the harness in one thread or the other is raised, when both have ended."""

    def breaks(job: Job) -> Outcome:
        raise HarnessError("takes no job")

    for one, other in ((breaks, ok), (ok, breaks)):
        on = stage(together=True)
        second = Played(other)
        with pytest.raises(HarnessError, match="takes no job"):
            perform(on, Played(one), second)
        assert second.closed
        on.dest.unlink()
        on.folder.rmdir()


# --- the destination


def look(on: Stage, said: str = "ok") -> Sink:
    return on.sink(Outcome(said))


def test_existing(stage: Callable[..., Stage]) -> None:
    """What was there before is there in the first run, and untouched after a failure it is nobody's leak."""
    on = stage(existing=True, runs=2)
    seen: list[bytes] = []

    def looks(job: Job) -> Outcome:
        seen.append(job.dest.read_bytes())
        job.dest.write_bytes(b"mine")
        return Outcome("failed")

    perform(on, Played(looks, looks))
    assert seen == [OLD.whole(), b"mine"]
    assert look(on, "failed") == Sink(True, 4, (Run(0, 4, -1),))
    on.dest.write_bytes(OLD.whole())
    for said in ("failed", "hang", "crash"):
        assert look(on, said) == Sink(False)
    assert look(on) == Sink(True, OLD.size, (Run(0, OLD.size, GENERATIONS),))
    on.dest.write_bytes(OLD.whole()[:-1])
    assert look(on, "failed").exists
    on.dest.unlink()
    assert look(on, "failed") == Sink(False, lost=True), "what was there before is gone"


def test_what_is_left(stage: Callable[..., Stage]) -> None:
    """Whatever lies under the final name or beside it is looked at without falling over it."""
    on = stage()
    assert look(on) == Sink(False)
    on.dest.write_bytes(b"")
    assert look(on) == Sink(True, 0, ())
    on.dest.write_bytes(OBJECT.whole())
    on.dest.chmod(0)
    (on.folder / "a").touch()
    (on.folder / "b").mkdir()
    on.folder.chmod(0o500)
    assert look(on) == Sink(True, SIZE, (Run(0, SIZE, 1),), ("a", "b"))
    on.dest.unlink()
    on.dest.symlink_to("a")
    assert look(on).exists
    on.dest.unlink()
    on.dest.symlink_to("nowhere")
    assert look(on) == Sink(False, leftovers=("a", "b"))
    on.dest.unlink()
    on.dest.mkdir()
    assert look(on) == Sink(False, leftovers=("a", "b", "object"))


def test_a_folder_that_is_gone(stage: Callable[..., Stage]) -> None:
    """A driver that removes even its folder has left nothing."""
    on = stage()
    on.folder.rmdir()
    assert look(on) == Sink(False)
    on.clean_up()


def test_a_changed_object(stage: Callable[..., Stage]) -> None:
    """Every state the object had is told from the others, also where they are of one size."""
    on = stage()
    on.objects += [Content(SIZE, 3, 2), Content(SIZE + 100, 3, 2)]
    for content in on.objects:
        on.dest.write_bytes(content.whole())
        assert look(on).runs == (Run(0, content.size, content.generation),)
    on.dest.write_bytes(OBJECT.read(0, 4000) + Content(SIZE, 3, 2).read(4000, 6000))
    assert look(on).runs == (Run(0, 4000, 1), Run(4000, SIZE, 2, 4000))


@pytest.mark.parametrize("pause", [0.0, 20.0])
def test_a_pipe(stage: Callable[..., Stage], pause: float) -> None:
    """All that is written comes to the reader, who stops at half, but not beyond the driver's end."""
    on = stage(sink="pipe", pause=pause)
    threads, descriptors = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    def writes(job: Job) -> Outcome:
        with job.dest.open("wb", buffering=0) as pipe:
            for i in range(0, SIZE, 1000):
                assert pipe.write(OBJECT.read(i, 1000)) == 1000
        return Outcome("ok")

    perform(on, Played(writes))
    assert look(on) == Sink(True, SIZE, (Run(0, SIZE, 1),))
    on.clean_up()
    assert (threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))) == (threads, descriptors)
    assert [p.name for p in on.folder.parent.iterdir()] == ["1"]


def test_a_pipe_holds_the_driver_up(stage: Callable[..., Stage]) -> None:
    """While the reader stops, a driver cannot write more than a pipe holds."""
    on = stage(sink="pipe", pause=30.0)

    written = [0]

    def writes(job: Job) -> Outcome:
        fd = os.open(job.dest, os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                written.append(os.write(fd, OBJECT.read(sum(written), 100) or bytes(4096)))
        except BlockingIOError:
            return Outcome("failed")
        finally:
            os.close(fd)

    perform(on, Played(writes))
    sink = look(on, "failed")
    assert sink.size == sum(written), "what has been written is read in the end"
    assert sink.size >= SIZE // 2
    on.clean_up()


def test_a_pipe_and_an_error_of_ours(stage: Callable[..., Stage]) -> None:
    """The reader of a pipe ends with the run, however that ends."""
    on = stage(sink="pipe")
    threads = threading.active_count()

    def breaks(job: Job) -> Outcome:
        raise HarnessError("takes no job")

    with pytest.raises(HarnessError):
        perform(on, Played(breaks))
    assert threading.active_count() == threads
    assert look(on, "failed") == Sink(False)
    on.clean_up()


# --- changes


def test_changes(tmp_path: Path) -> None:
    """Each change goes into the store, and every state that the object had into what is known of it."""
    put: list[tuple[str, Content]] = []

    class Store:
        def put(self, key: str, content: Content, traits: Traits) -> None:
            put.append((key, content))

        def delete(self, key: str) -> None:
            put.append((key, Content(0)))

        def expire_credentials(self, access: object = None) -> None:
            put.append(("expired", Content(0)))

        def run_backends(self, count: int | None) -> None:
            running_on.append(count)

    running_on: list[int | None] = []
    store: Any = Store()
    running: RunningStore = store
    on = Stage(running, "k", Traits(), OBJECT, ProcessModel(), tmp_path)
    for action in ("same", "longer", "append", "delete", "expire", "backends 0", "shorter", "backends all"):
        on.act(Mutate(action))
    assert on.objects == [
        OBJECT,
        Content(SIZE, 3, 2),
        Content(SIZE * 3 // 2, 3, 3),
        Content(SIZE * 9 // 4, 3, 3),
        Content(SIZE * 9 // 4 - SIZE * 9 // 16, 3, 4),
    ]
    assert [c for k, c in put if k == "k" and c.size] == on.objects[1:]
    assert ("k", Content(0)) in put
    assert ("expired", Content(0)) in put
    assert running_on == [0, None]
