"""Whole cases over the bundled origin: drivers killed, without room, on pipes, with objects that change."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from midstream._content import GENERATIONS, Run
from midstream._grounds import Grounds
from midstream._runner import Case, Result
from midstream._scenario import load_text
from midstream._verdict import Verdict
from midstream._workers import DriverProcess, process_for
from midstream.drivers import Driver
from midstream.drivers._spec import resolve
from midstream.injectors.embedded import MEMBER as EMBEDDED
from midstream.stores.origin import MEMBER as ORIGIN

ACTORS = Path(__file__).with_name("actors.py")
SIZE = 200_000
HEAD = (
    'requirement = "A driver does what it is asked to do here."\nproperties = ["P1"]\nobject.size = 200000\n'
)
Play = Callable[..., Result]


@pytest.fixture(scope="module")
def grounds() -> Iterator[Grounds]:
    grounds = Grounds({EMBEDDED.id: EMBEDDED})
    yield grounds
    grounds.close()


@pytest.fixture(scope="module")
def play(grounds: Grounds) -> Iterator[Play]:
    """Runs one case; afterwards nothing of it is left: no folder, no thread, no descriptor, no process."""
    processes: dict[str, tuple[Driver, DriverProcess]] = {}

    def play(actor: str, *faults: str, more: str = "") -> Result:
        spec = actor if ":" in actor else f"py:{ACTORS}:{actor}"
        if spec not in processes:
            processes[spec] = (resolve(spec), process_for(resolve(spec), grounds.folder))
        driver, process = processes[spec]
        loaded = load_text("a-case", f"{HEAD}faults = {list(faults)}\n{more}", "a-case.toml")
        case = Case(loaded, next(loaded.variants(0)), driver, "", ORIGIN, EMBEDDED.id, 0)
        place = grounds.place(ORIGIN, EMBEDDED.id)
        grounds.run(case, process)  # the control's traces, and what is started once, come before the count
        before = traces(place.scratch, len(process_ids()))
        result = grounds.run(case, process)
        after = traces(place.scratch, len(process_ids()))
        assert after[:3] == before[:3], "something was left behind"
        return result

    yield play
    for _, process in processes.values():
        process.close()


def process_ids() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def traces(scratch: Path, children: int) -> tuple[list[str], list[str], int]:
    threads = sorted(t.name for t in threading.enumerate() if "asyncio" not in t.name)
    return sorted(p.name for p in scratch.iterdir()), threads, children


def said(result: Result) -> tuple[Verdict, str]:
    return result.judgement.verdict, result.judgement.diagnosis


def notes(result: Result) -> list[str]:
    return [e.data["text"] for e in result.evidence.events if e.kind == "note"]


# --- killed and run again


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
@pytest.mark.parametrize("at", ["0", "50%", "100%"])
def test_killed_and_run_again(play: Play, signal: str, at: str) -> None:
    """A driver that is killed at a byte and run again goes on from what it had."""
    # What it had not yet read when it died is fetched again, so a restart is no offence here.
    more = "process.runs = 2\nexpect.restart = true"
    result = play("resumes", f"get_object#1 kill@{at}:{signal}", more=more)
    assert said(result) == (Verdict.PASS, "")
    assert notes(result) == ["run 2"] or (at == "100%" and notes(result) == []), "it may be done by then"
    (fired,) = result.facts.fired
    assert fired.offset == {"0": 0, "50%": SIZE // 2, "100%": SIZE}[at]


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_killed_once_and_for_all(play: Play, signal: str) -> None:
    """A driver that is killed and not run again has failed as the scenario wants, no more than that."""
    result = play("resumes", f"get_object kill@50%:{signal}", more='expect.outcome = "failure"')
    assert said(result) == (Verdict.CLEAN_FAILURE, f"stopped by SIG{signal}, as the scenario wants")


def test_interrupted(play: Play) -> None:
    """SIGINT arrives as KeyboardInterrupt, and the driver may put its things in order."""
    result = play(
        "notices_an_interrupt", "get_object#1 kill@50%:INT", more="process.runs = 2\nexpect.restart = true"
    )
    assert said(result) == (Verdict.PASS, "")


def test_a_driver_that_does_not_die(play: Play) -> None:
    """A driver may live through a signal and finish; that is no failure."""
    result = play("shrugs", "get_object#1 kill@50%:TERM", more="process.runs = 2")
    assert said(result) == (Verdict.PASS, "")
    assert notes(result) == []


@pytest.mark.parametrize("signal", ["KILL", "TERM", "INT"])
def test_a_command_is_killed(play: Play, signal: str) -> None:
    """The same for a command line."""
    command = f"cmd:{sys.executable} {ACTORS} {{url}} {{dest}}"
    result = play(command, f"get_object#1 kill@50%:{signal}", more="process.runs = 2\nexpect.restart = true")
    assert said(result) == (Verdict.PASS, "")
    assert notes(result) == ["run 2"]


def test_a_crash_of_its_own(play: Play) -> None:
    """A driver that dies by itself has crashed, whatever its next run would do."""
    result = play("crashes_once", "get_object#2 cut@50%", more="process.runs = 3")
    assert said(result) == (Verdict.CRASH, "killed by SIGSEGV")


def test_runs_end_with_success(play: Play) -> None:
    """What has succeeded is not run again."""
    result = play("resumes", "get_object cut@50%", more="process.runs = 5")
    assert said(result) == (Verdict.PASS, "")
    assert notes(result) == []


def test_a_hang_is_final(play: Play) -> None:
    """A driver that hangs is not run again."""
    more = "process.runs = 3\ndeadline = 0.5"
    result = play("resumes", "get_object#1 stall@50%:forever", more=more)
    assert said(result)[0] is Verdict.HANG
    assert notes(result) == []


# --- what happens to a partial


@pytest.mark.parametrize(
    ("tamper", "verdict", "text"),
    [
        ("zero", Verdict.HOLE, "bytes 0-99,999 zero, the rest in place"),
        ("flip", Verdict.CORRUPT, "byte 50,000 changed, length kept"),
        ("foreign", Verdict.FOREIGN, "bytes 0-99,999 of the file are not the object's"),
        ("shorter", Verdict.PASS, ""),
    ],
)
def test_tampered(play: Play, tamper: str, verdict: Verdict, text: str) -> None:
    """A partial that is damaged between runs ends up in the file of a driver that trusts it, and is named."""
    more = f'process.runs = 2\nprocess.tamper = "{tamper}"\nexpect.refetch = "1MiB"'
    result = play("resumes", "get_object#1-5 cut@50%", more=more)
    assert notes(result) == [f"partial: {tamper}, 100000 bytes", "run 2"]
    assert said(result) == (verdict, text)


# --- room


def test_no_room(play: Play) -> None:
    """A file that may not grow is an error for the driver, at exactly that byte; with room it goes on."""
    result = play("resumes", more='process.room = "50%"\nprocess.runs = 2')
    assert said(result) == (Verdict.PASS, "")
    assert [e.range for e in result.facts.transfers] == [None, f"bytes={SIZE // 2}-"]
    result = play("resumes", more='process.room = "50%"\nexpect.outcome = "failure"')
    assert result.judgement.verdict is Verdict.CLEAN_FAILURE
    assert result.outcome.error == "OSError: [Errno 27] File too large"


def test_no_room_for_a_command(play: Play) -> None:
    """A command gets the error too: the signal that goes with a limit does not kill it."""
    fill = "head -c 150000 /dev/zero > {dest}.z && rm {dest}.z"
    command = f"cmd:sh -c '{fill} && {sys.executable} {ACTORS} {{url}} {{dest}}'"
    result = play(command, more='process.room = "1000"\nexpect.outcome = "failure"')
    assert result.outcome.said == "failed"
    assert "File too large" in result.outcome.error


# --- pipes


@pytest.mark.parametrize("pause", ["0", "0.3"])
def test_a_pipe(play: Play, pause: str) -> None:
    """What goes through a pipe is judged as a file would be, also where the reader stops for a while."""
    more = f'process.sink = "pipe"\nprocess.pause = {pause}'
    result = play("into", "get_object#1 cut@25%", more=more)
    assert said(result) == (Verdict.PASS, "")
    assert result.runs == (Run(0, SIZE, 1),)
    assert result.outcome.seconds >= float(pause)


def test_a_pipe_replaced(play: Play) -> None:
    """A driver may put a file in the place of the pipe; then that is what counts."""
    result = play("beside", "get_object cut@25%", more='process.sink = "pipe"')
    assert said(result) == (Verdict.PASS, "")


def test_a_pipe_to_which_nothing_came(play: Play) -> None:
    """A pipe into which nothing was written holds nothing that could be wrong."""
    more = 'process.sink = "pipe"\nexpect.outcome = "failure"'
    result = play("touches_nothing", more=more)
    assert said(result) == (Verdict.CLEAN_FAILURE, "OSError: no")


def test_a_pipe_and_a_failure(play: Play) -> None:
    """A pipe takes nothing back: a true beginning before a failure is no leak, other bytes are."""
    more = 'process.sink = "pipe"\nexpect.outcome = "failure"'
    result = play("into", "get_object#* cut@50%", more=more)
    assert said(result) == (Verdict.CLEAN_FAILURE, "OSError: never whole")
    result = play("repeats_into", "get_object#* cut@50%", more=more)
    assert result.judgement.verdict is Verdict.LEAK
    assert "left 200,000 bytes" in result.judgement.diagnosis


# --- what was there before


def test_existing_is_replaced(play: Play) -> None:
    """An old object under the final name is replaced by the new one as a whole."""
    result = play("resumes", "get_object cut@50%", more="process.existing = true")
    assert said(result) == (Verdict.PASS, "")
    assert result.runs == (Run(0, SIZE, 1),)


def test_existing_is_kept(play: Play) -> None:
    """A driver that fails and leaves the old object as it was has left nothing."""
    more = 'process.existing = true\nexpect.outcome = "failure"'
    result = play("touches_nothing", more=more)
    assert said(result) == (Verdict.CLEAN_FAILURE, "OSError: no")
    assert result.runs == ()


def test_existing_is_damaged(play: Play) -> None:
    """A driver that fails and has written into the old object has left something wrong."""
    more = 'process.existing = true\nexpect.outcome = "failure"'
    result = play("writes_over", more=more)
    assert result.judgement.verdict is Verdict.LEAK
    assert result.runs == (Run(0, 100, -1), Run(100, SIZE // 2, GENERATIONS, 100))


def test_existing_is_no_success(play: Play) -> None:
    """Leaving the old object and reporting success is wrong bytes."""
    result = play("says_ok", more="process.existing = true")
    assert result.judgement.level == "must"
    assert result.judgement.verdict in (Verdict.SPLICED, Verdict.TRUNCATED)


# --- objects that change


@pytest.mark.parametrize("change", ["same", "shorter", "longer"])
def test_spliced(play: Play, change: str) -> None:
    """Going on in a new generation without noticing makes a file of two, told to the byte."""
    faults = (f"get_object#1 replace@50%:{change}", "get_object#1 cut@50%")
    for generations in ("[1]", "[1, 2]"):
        result = play("resumes", *faults, more=f"expect.generations = {generations}")
        assert said(result) == (Verdict.SPLICED, "generation 1 up to 100,000, generation 2 from 100,000")
    size = {"same": SIZE, "shorter": SIZE * 3 // 4, "longer": SIZE * 3 // 2}[change]
    assert result.runs == (Run(0, 100_000, 1, 0), Run(100_000, size, 2, 100_000))


@pytest.mark.parametrize("change", ["same", "shorter", "longer"])
def test_a_whole_new_generation(play: Play, change: str) -> None:
    """A whole new object is right where the scenario says that it may be had, else it is not."""
    faults = (f"get_object#1 replace@50%:{change}", "get_object#1 cut@50%")
    more = "expect.restart = true\nexpect.generations = {}"
    for generations in ("[2]", "[1, 2]"):
        assert said(play("restarts", *faults, more=more.format(generations)))[0] is Verdict.PASS
    result = play("restarts", *faults, more=more.format("[1]"))
    assert result.judgement.level == "must"
    assert result.judgement.verdict is not Verdict.PASS


def test_the_old_generation_to_its_end(play: Play) -> None:
    """A response under way keeps its object; the old one is right only where it may be had."""
    fault = "get_object#1 replace@50%:same"
    assert said(play("restarts", fault, more="expect.generations = [1]"))[0] is Verdict.PASS
    assert said(play("restarts", fault, more="expect.generations = [2]"))[0] is not Verdict.PASS


def test_grown(play: Play) -> None:
    """An object that has grown may be had as it was and as it is, each as a whole."""
    faults = ("get_object#1 append@50%", "get_object#1 cut@50%")
    result = play("resumes", *faults)
    assert said(result) == (Verdict.PASS, "")
    assert result.runs == (Run(0, SIZE * 3 // 2, 1),)
    assert said(play("resumes", "get_object#1 append@50%")) == (Verdict.PASS, "")


def test_deleted(play: Play) -> None:
    """An object that is gone is an error, and what the driver has of it stays unpublished."""
    faults = ("get_object#1 delete@50%", "get_object#1 cut@50%")
    result = play("resumes", *faults, more='expect.outcome = "failure"')
    assert said(result) == (Verdict.CLEAN_FAILURE, "OSError: status 404")


def test_a_replica(play: Play) -> None:
    """Another replica with other content is a splice, or a whole new generation."""
    faults = ("get_object#1 cut@50%", "get_object#2 replica@request")
    result = play("resumes", *faults)
    assert said(result) == (Verdict.SPLICED, "generation 1 up to 100,000, generation 2 from 100,000")
    more = "expect.restart = true\nexpect.generations = {}"
    assert said(play("restarts", *faults, more=more.format("[1, 2]")))[0] is Verdict.PASS
    assert said(play("restarts", *faults, more=more.format("[1]"))) == (
        Verdict.SPLICED,
        "all of generation 2, which was not to be had",
    )


def test_what_this_store_cannot_do(play: Play) -> None:
    """A store without tokens or segments cannot lose them: the scenario's mistake, not the driver's."""
    for fault in ("get_object#1 expire@50%", "get_object#1 segment@50%:lost"):
        result = play("resumes", fault)
        assert result.judgement.verdict is Verdict.HARNESS_ERROR
        assert "origin" in result.judgement.diagnosis


# --- two at once


def test_together(play: Play) -> None:
    """Two processes that fetch to one name at once, each with a part of its own: one whole object."""
    result = play("own_part", more="process.together = true")
    assert said(result) == (Verdict.PASS, "")
    assert len(result.facts.transfers) == 2


def test_nothing_is_left_in_the_store(grounds: Grounds, play: Play) -> None:
    """Objects that cases change are their own, and go with them, twins too."""
    play("resumes", "get_object#1 replace@50%:same", "get_object#2 replica@request")
    keys = grounds.place(ORIGIN, EMBEDDED.id).running.keys()
    assert not [k for k in keys if k.startswith("case-") or k.endswith(".replica")]
