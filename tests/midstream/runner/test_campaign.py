"""Whole runs over a real store: every verdict from a driver that earns it, and none from our own trouble."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midstream._campaign import Campaign, Matrix
from midstream._content import Content
from midstream._errors import HarnessError, SetupError, StoreDied, UsageError
from midstream._grounds import Grounds
from midstream._model import ProcessModel
from midstream._runner import Result, Runner, presentable, slug
from midstream._scenario import Loaded, load_text
from midstream._session import one_case
from midstream._stage import Stage
from midstream._verdict import Outcome, Verdict
from midstream._xfail import Known, KnownFailures
from midstream.drivers._spec import resolve
from midstream.injectors.embedded import MEMBER as EMBEDDED
from midstream.stores import RunningStore, Traits
from midstream.stores.origin import MEMBER as ORIGIN

CULPRITS = Path(__file__).with_name("culprits.py")
CUT = 'faults = ["get_object cut@{at}"]\nvary.at = [20000]'


def scenario(more: str = CUT, name: str = "a-cut") -> Loaded:
    head = 'requirement = "A driver does what it is asked to do here."\nproperties = ["P1"]\n'
    return load_text(name, head + more, f"{name}.toml")


def matrix(*drivers: str, scenarios: list[Loaded] | None = None, seed: int = 0) -> Matrix:
    named = [d if ":" in d or d == "reknit" else f"py:{CULPRITS}:{d}" for d in drivers]
    return Matrix(scenarios or [scenario()], [(resolve(d), "1") for d in named], [ORIGIN], [EMBEDDED], seed)


def run(
    *drivers: str, scenarios: list[Loaded] | None = None, jobs: int = 1, known: list[Known] | None = None
) -> list[Result]:
    results: list[Result] = []
    campaign = Campaign(
        matrix(*drivers, scenarios=scenarios), results.append, jobs=jobs, known=KnownFailures(known or [])
    )
    campaign.run()
    assert sum(campaign.tally.verdicts.values()) == len(results)
    return results


EARNED = [
    ("right", Verdict.PASS, ""),
    ("restarts", Verdict.RESTARTED, "20,000 bytes fetched again after they had been delivered"),
    ("probes", Verdict.PASS, ""),
    ("truncates", Verdict.TRUNCATED, "20,000 of 65,536 bytes"),
    ("duplicates", Verdict.DUPLICATED, "twice, the second time at 20,0"),
    ("shifts", Verdict.SHIFTED, "missing at 20,0"),
    ("leaves_a_hole", Verdict.HOLE, "bytes 20,000-20,099 zero, the rest in place"),
    ("splices", Verdict.SPLICED, "generation 1 up to 20,000, generation 2 from 20,000"),
    ("inserts_a_page", Verdict.FOREIGN, "bytes 20,000-20,2"),
    ("flips", Verdict.CORRUPT, "byte 20,000 changed, length kept"),
    ("leaves_a_file", Verdict.LEAK, "left behind after success: object.tmp"),
    ("fails_after_a_cut", Verdict.NEEDLESS_FAILURE, "OSError: got 20000 of 65536 bytes"),
    (
        "fails_and_leaves_it",
        Verdict.NEEDLESS_FAILURE,
        "OSError: short; 20,000 bytes left under the final name",
    ),
    ("storms", Verdict.RETRY_STORM, "object requests, 40 allowed"),
    ("needs_no_network", Verdict.NOT_REACHED, "cut@20000:fin: never reached; the driver completed"),
    (
        "never_right",
        Verdict.HARNESS_ERROR,
        "the driver fails without any fault: foreign: none of the 5 bytes",
    ),
    (
        "returns",
        Verdict.HARNESS_ERROR,
        "the driver fails without any fault: truncated: reported success, but",
    ),
    (
        "dies_of_a_signal",
        Verdict.HARNESS_ERROR,
        "the driver fails without any fault: crash: killed by SIGKILL",
    ),
    ("imports_what_is_not_there", Verdict.HARNESS_ERROR, "a_package_that_is_not_there"),
    ("no_such_function", Verdict.HARNESS_ERROR, "its process did not start: AttributeError"),
]


def test_every_culprit_earns_its_verdict() -> None:
    """One run over all of them: each is found out by its own verdict, and the right ones are not."""
    results = run(*(name for name, _, _ in EARNED), jobs=2)
    for (name, verdict, text), result in zip(EARNED, results, strict=True):
        judged = result.judgement
        assert (name, judged.verdict) == (name, verdict), judged.diagnosis
        assert text in judged.diagnosis, (name, judged.diagnosis)


def test_commands_earn_theirs() -> None:
    """The same for command lines."""
    copy = (
        "import sys,shutil,urllib.request as u;"
        "shutil.copyfileobj(u.urlopen(sys.argv[1]),open(sys.argv[2],'wb'))"
    )
    results = run(
        f'cmd:python3 -c "{copy}" {{url}} {{dest}}',
        'cmd:sh -c "exit 3" {dest}',
        'cmd:sh -c "kill -SEGV $$" {dest}',
        'cmd:sh -c "echo hello > elsewhere" {dest}',
    )
    assert [r.judgement.verdict for r in results] == [Verdict.TRUNCATED, *[Verdict.HARNESS_ERROR] * 3]
    # Each with the line that shows it.
    assert all("; see midstream replay control --driver " in r.judgement.diagnosis for r in results[1:])
    assert [r.judgement.diagnosis.partition("; see ")[0] for r in results[1:]] == [
        "the driver fails without any fault: needless_failure: exit status 3",
        "the driver fails without any fault: crash: killed by SIGSEGV",
        "the driver fails without any fault: truncated: reported success, but there is no file",
    ]


def test_not_applicable() -> None:
    """What an injector cannot do, or a store cannot show, is nobody's failure and runs nothing."""
    plain = type(EMBEDDED)()
    plain.__class__ = type("Plain", (type(EMBEDDED),), {"id": "embedded", "verbs": frozenset()})
    results: list[Result] = []
    given = Matrix([scenario()], [(resolve(f"py:{CULPRITS}:right"), "")], [ORIGIN], [plain])
    Campaign(given, results.append, jobs=1).run()
    (only,) = results
    assert (only.judgement.verdict, only.judgement.diagnosis) == (
        Verdict.NOT_APPLICABLE,
        "embedded cannot close",
    )
    assert only.outcome.said == "not run"


def test_fault_that_cannot_fire() -> None:
    """A place the response does not have is a mistake of the scenario, and the case says which line."""
    odd = scenario('faults = ["get_object cut@trailer"]', "no-trailer")
    (only,) = run("right", scenarios=[odd])
    assert only.judgement.verdict is Verdict.HARNESS_ERROR
    assert only.judgement.diagnosis.startswith("get_object cut@trailer:fin: no such position")


def test_hang() -> None:
    """A stall without end hangs a driver that waits without end."""
    stall = scenario('faults = ["get_object stall@20000"]\ndeadline = 0.5', "a-stall")
    (only,) = run("right", scenarios=[stall])
    assert (only.judgement.verdict, only.judgement.diagnosis) == (Verdict.HANG, "no end after 0.5 s")


def test_order_and_equality() -> None:
    """Results come in the order of the cases whatever lane was faster, and are the same each time."""
    many = [scenario('faults = ["get_object cut@{at}"]\nvary.at = "sample 30"'), scenario(name="b-cut")]
    one = run("right", "truncates", scenarios=many)
    three = run("right", "truncates", scenarios=many, jobs=3)
    wanted = [case.id for case in matrix("right", "truncates", scenarios=many).cases()]
    assert [r.case.id for r in one] == [r.case.id for r in three] == wanted

    def plain(results: list[Result]) -> list[dict[str, Any]]:
        return [{k: v for k, v in r.record().items() if k != "seconds"} for r in results]

    assert plain(one) == plain(three)


def test_nothing_to_run() -> None:
    """No case at all is a mistake of the caller."""
    with pytest.raises(UsageError, match="nothing to run"):
        run("right", scenarios=[scenario('stores = ["s3"]')])


class Killer:
    """An origin that is killed by the driver's side, once, when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[RunningStore] = []
        start = type(ORIGIN).start

        def tracked(store: Any, folder: Path) -> RunningStore:
            self.started.append(start(store, folder))
            return self.started[-1]

        monkeypatch.setattr(type(ORIGIN), "start", tracked)


@pytest.mark.parametrize("moment", ["between", "during"])
def test_store_that_dies(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Its death is the harness's trouble; the next case has a store again."""
    killer = Killer(monkeypatch)
    run_case = Runner._run
    seen: list[str] = []

    def dying(runner: Runner, case: Any, schedule: Any) -> Result:
        seen.append(case.id)
        if len(seen) == 3:  # the control, one case, and then
            process = runner.process
            run_job = process.run

            def killing(job: Any, deadline: float) -> Any:
                os.kill(killer.started[-1].pid, signal.SIGKILL)
                os.waitid(os.P_PID, killer.started[-1].pid, os.WEXITED | os.WNOWAIT)
                return run_job(job, deadline)

            if moment == "between":
                os.kill(killer.started[-1].pid, signal.SIGKILL)
                os.waitid(os.P_PID, killer.started[-1].pid, os.WEXITED | os.WNOWAIT)
            else:
                monkeypatch.setattr(process, "run", killing)
            try:
                return run_case(runner, case, schedule)
            finally:
                if moment == "during":
                    monkeypatch.setattr(process, "run", run_job)
        return run_case(runner, case, schedule)

    monkeypatch.setattr(Runner, "_run", dying)
    three = scenario('faults = ["get_object cut@{at}"]\nvary.at = [1, 2, 3]')
    results = run("fails_after_a_cut", scenarios=[three])
    assert [r.judgement.verdict for r in results] == [
        Verdict.NEEDLESS_FAILURE,
        # Its object was put before: a store that died earlier still fails the case, and not the driver.
        Verdict.HARNESS_ERROR,
        Verdict.NEEDLESS_FAILURE,
    ]
    assert "died" in results[1].judgement.diagnosis or "does not" in results[1].judgement.diagnosis
    assert len(killer.started) == 2
    assert not killer.started[0].alive()


def test_store_that_is_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that hangs on a store which answers nobody has done nothing wrong."""

    def deaf(*_: object) -> None:
        raise StoreDied("origin: does not answer on port 1: timed out")

    monkeypatch.setattr("midstream.stores.origin.RunningOrigin.stat", deaf)
    stall = scenario('faults = ["get_object stall@20000"]\ndeadline = 0.5', "a-stall")
    (only,) = run("right", scenarios=[stall])
    assert only.judgement.verdict is Verdict.HARNESS_ERROR
    assert "does not answer" in only.judgement.diagnosis


def test_store_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a store there is no run, and nothing is left of its beginning."""
    folders: list[Path] = []
    make = tempfile.mkdtemp

    def remembered(*args: Any, **kwargs: Any) -> str:
        folders.append(Path(make(*args, **kwargs)))
        return str(folders[-1])

    def failing(*_: object) -> RunningStore:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", remembered)
    monkeypatch.setattr(type(ORIGIN), "start", failing)
    with pytest.raises(SetupError, match=r"store origin cannot start: .*No space left"):
        run("right")
    assert folders
    assert not folders[0].exists()


def test_broken_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that fails is our trouble, named, and the run goes on."""

    def broken(*_: object) -> None:
        raise KeyError("who")

    monkeypatch.setattr("midstream.checks.refetch.Refetch.check", broken)
    (only,) = run("right")
    assert only.judgement.verdict is Verdict.HARNESS_ERROR
    assert "check refetch: KeyError: 'who'" in only.judgement.diagnosis


@pytest.mark.parametrize("error", [RuntimeError("odd"), OSError(24, "Too many open files"), KeyError("x")])
def test_what_nobody_foresaw(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Whatever goes wrong inside a case is our error, and the next case is run."""
    look = Stage.sink
    times = []

    def odd(stage: Stage, outcome: Outcome) -> Any:
        times.append(stage)
        if len(times) == 2:  # the first is the control
            raise error
        return look(stage, outcome)

    monkeypatch.setattr(Stage, "sink", odd)
    two = scenario('faults = ["get_object cut@{at}"]\nvary.at = [1, 2]')
    results = run("right", scenarios=[two])
    assert [r.judgement.verdict for r in results] == [Verdict.HARNESS_ERROR, Verdict.PASS]
    assert results[0].judgement.diagnosis == f"{type(error).__name__}: {error}"


def test_report_that_fails() -> None:
    """A run whose results cannot be told ends with the reason."""

    def full(_: Result) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        Campaign(matrix("right"), full, jobs=3).run()


@pytest.mark.parametrize(
    "rude",
    [
        "shutil.rmtree(job.dest.parent)",
        "job.dest.parent.chmod(0)",
        "job.dest.mkdir()",
        "os.mkfifo(job.dest)",
        "job.dest.symlink_to('nowhere')",
    ],
)
def test_rude_drivers(tmp_path: Path, rude: str) -> None:
    """Whatever is done to the folder of the result, it is the driver's result, not our failure."""
    module = tmp_path / "rude.py"
    module.write_text(
        f"import os, shutil, sys\nsys.path.insert(0, {str(CULPRITS.parent)!r})\nimport culprits\n"
        "def download(job):\n"
        "    if culprits.size_of(job) == 65536:\n"
        f"        {rude}\n"
        "    else:\n        culprits.right(job)\n"
    )
    none = scenario("")
    (only,) = run(f"py:{module}:download", scenarios=[none])
    assert only.judgement.verdict is Verdict.TRUNCATED
    assert only.judgement.diagnosis == "reported success, but there is no file"


def test_leftover_process_cannot_reach_the_next_case(tmp_path: Path) -> None:
    """A thread that a case left behind writes to the folder of its own case, never to another's."""
    module = tmp_path / "late.py"
    module.write_text(
        f"import sys, threading\nsys.path.insert(0, {str(CULPRITS.parent)!r})\nimport culprits\n"
        "LATE = []\n"
        "def download(job):\n"
        "    culprits.right(job)\n"
        "    for late in LATE:\n        late()\n"
        "    LATE.append(lambda: job.dest.parent.exists() and job.dest.write_bytes(b'late'))\n"
    )
    three = scenario('faults = ["get_object cut@{at}"]\nvary.at = [1, 2, 3]')
    results = run(f"py:{module}:download", scenarios=[three])
    assert [r.judgement.verdict for r in results] == [Verdict.PASS] * 3


def known(**entry: Any) -> list[Known]:
    return [Known.model_validate({"reason": "because", **entry})]


@pytest.mark.parametrize(
    ("driver", "entry", "expected", "note"),
    [
        ("truncates", {}, True, "known failure: because"),
        ("truncates", {"verdict": "truncated"}, True, "known failure: because"),
        ("truncates", {"verdict": "hole"}, False, "known to fail as hole: because"),
        ("truncates", {"scenario": "b-*"}, False, ""),
        ("truncates", {"driver": "py:*:truncates", "store": "origin", "variant": "at=20000"}, True, "known"),
        ("right", {}, False, "listed as a known failure, but passes: because"),
        ("restarts", {"verdict": "restarted"}, True, "known failure: because"),
        ("restarts", {"scenario": "b"}, True, ""),
        ("needs_no_network", {}, True, ""),
        ("never_right", {}, True, ""),
    ],
)
def test_known_failures(driver: str, entry: dict[str, Any], expected: bool, note: str) -> None:
    """Strict both ways; what says nothing about a driver neither confirms nor refutes."""
    (only,) = run(driver, known=known(**entry))
    assert only.expected is expected
    assert only.note.startswith(note)
    assert bool(only.note) is bool(note)


@pytest.mark.parametrize(
    ("driver", "entry", "status"),
    [
        ("right", None, 0),
        ("truncates", None, 1),
        ("truncates", {}, 0),
        ("right", {}, 1),
        ("restarts", None, 0),
        ("never_right", {}, 3),
        ("needs_no_network", None, 2),
    ],
)
def test_exit_status(driver: str, entry: dict[str, Any] | None, status: int) -> None:
    """0 as expected, 1 a MUST broken or a known failure that passes, 2 nothing proved, 3 trouble of ours."""
    campaign = Campaign(
        matrix(driver),
        lambda _: None,
        jobs=1,
        known=KnownFailures(known(**entry) if entry is not None else []),
    )
    assert campaign.run().exit_status == status


XFAIL = [
    ("nope = 1", "nope: unknown key; allowed: known"),
    ("[known]\nreason = 'x'", "known: write each entry below a [[known]]"),
    ("[[known]]\ndriver = 'x'", "known[0].reason: is missing"),
    ("[[known]]\nreason = ''", "known[0].reason: must not be empty"),
    ("[[known]]\nreason = 'x'\nwhy = 1", "known[0].why: unknown key; allowed: reason, driver, scenario,"),
    (
        "[[known]]\nreason = 'x'\nverdict = 'bad'",
        "known[0].verdict: 'bad' is no verdict; known: pass, restarted",
    ),
    ("[[known]]\nreason = 1", "known[0].reason: must be text, not 1"),
    ("known = [1]", "known[0]: must be a table, not 1"),
    ("=", "not TOML: "),
]


@pytest.mark.parametrize(("text", "said"), XFAIL)
def test_bad_known_failures(tmp_path: Path, text: str, said: str) -> None:
    """A list that does not read is refused with flag, file and key."""
    path = tmp_path / "known.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        KnownFailures.read(path)
    assert str(caught.value).startswith(f"--xfail {path}: {said}")
    assert "\n" not in str(caught.value)


def test_missing_known_failures(tmp_path: Path) -> None:
    """So is one that is not there, or no text."""
    with pytest.raises(UsageError, match="No such file"):
        KnownFailures.read(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not TOML"):
        KnownFailures.read(tmp_path / "binary")


@pytest.fixture
def control_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    ids: list[str] = []
    run_case = Runner.run

    def counting(runner: Runner, case: Any, control: str = "pass") -> Result:
        ids.append(case.scenario.id)
        return run_case(runner, case, control)

    monkeypatch.setattr(Runner, "run", counting)
    return ids


TWO = 'faults = ["get_object cut@{at}"]\nvary.at = [1, 2, 3, 4, 5]'


def test_control_once(control_runs: list[str]) -> None:
    """A control that passes or fails is run once per driver; its failure is everyone's harness error."""
    run("right", scenarios=[scenario(TWO)])
    assert control_runs.count("control") == 1
    results = run("never_right", scenarios=[scenario(TWO)])
    assert control_runs.count("control") == 2
    assert {r.judgement.verdict for r in results} == {Verdict.HARNESS_ERROR}


def test_control_with_our_own_trouble(control_runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Trouble of ours in a control is tried again, but not for ever."""
    real = Runner._run
    failures = [2]

    def unlucky(runner: Runner, case: Any, schedule: Any) -> Result:
        if case.scenario.id == "control" and failures[0]:
            failures[0] -= 1
            raise HarnessError("bad luck")
        return real(runner, case, schedule)

    monkeypatch.setattr(Runner, "_run", unlucky)
    verdicts = [r.judgement.verdict for r in run("right", scenarios=[scenario(TWO)])]
    assert verdicts == [Verdict.HARNESS_ERROR] * 2 + [Verdict.PASS] * 3
    failures[0] = 99
    control_runs.clear()
    results = run("right", scenarios=[scenario(TWO)])
    assert {r.judgement.diagnosis for r in results} == {
        "the control case without faults: harness_error: bad luck"
    }
    assert control_runs.count("control") == 3


def test_warm_process_belongs_to_its_driver() -> None:
    """However lanes and drivers fall together, each case is run by its own driver."""
    results = run("truncates", "right", "flips", jobs=3)
    assert [r.judgement.verdict for r in results] == [Verdict.TRUNCATED, Verdict.PASS, Verdict.CORRUPT]


def test_what_comes_after_a_stop_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that we kill on Ctrl-C has not crashed."""
    results: list[Result] = []
    campaign = Campaign(matrix("sleeps"), results.append, jobs=2)
    join = threading.Thread.join

    def interrupt(lane: Any, timeout: float | None = None) -> None:
        monkeypatch.setattr(threading.Thread, "join", join)
        join(lane, 0.3)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupt)
    with pytest.raises(KeyboardInterrupt):
        campaign.run()
    assert results == []
    assert not campaign.tally.verdicts


# --- pieces


def test_slug() -> None:
    """Names of evidence files are safe, bounded, and as distinct as what they stand for."""
    texts = [
        "a",
        "at=50%",
        "cmd:curl -o {dest} {url}",
        "cmd:curl -O {dest} {url}",
        "x" * 300,
        "x" * 301,
        "../..",
        "",
    ]
    names = [slug(t) for t in texts]
    assert len(set(names)) == len(texts)
    assert names[:2] == ["a", "at=50%"]
    for name in names:
        assert len(name) <= 40
        assert "/" not in name


def test_evidence_file_names_fit(tmp_path: Path) -> None:
    """However long values and command lines are, a file of that name can be made."""
    long = "y" * 500
    (case,) = Matrix(
        [scenario(f'faults = ["get_object status@head:503,body={{at}}"]\nvary.at = ["{long}"]', "s" * 120)],
        [(resolve(f"cmd:curl -o {{dest}} {long}"), "")],
        [ORIGIN],
        [EMBEDDED],
    ).cases()
    (tmp_path / f"{case.file_name}.json.part").touch()


def test_presentable() -> None:
    """No credential of a case gets into a report, however a driver quotes it."""
    env = {"AWS_SECRET_ACCESS_KEY": "s3cr3t", "OS_PASSWORD": "pa", "PATH": "/bin"}
    text = presentable("key s3cr3t at /b/k?X-Amz-Signature=cafe&a=1 \udcff /bin pa", env)
    assert text == "key [redacted] at /b/k?X-Amz-Signature=[redacted]&a=1 \\udcff /bin pa"


def test_odd_names(tmp_path: Path) -> None:
    """Names of any bytes are told in a form that every report can hold."""
    (tmp_path / os.fsdecode(b"odd-\xff")).touch()
    store: Any = None
    sink = Stage(store, "k", Traits(), Content(9), ProcessModel(), tmp_path).sink(Outcome("ok"))
    assert not sink.exists
    assert sink.leftovers == ("odd-\\xff",)


def test_replay_line_names_its_folder() -> None:
    """A scenario that is not a bundled one is found again by the line that replays it."""
    given = matrix("right")
    given.folder = "my scenarios"
    (case,) = given.cases()
    assert case.replay.endswith("--seed 0 --scenario-dir 'my scenarios'")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("", "use SCENARIO or"),
        ("A", "use SCENARIO or"),
        ("a-cut[", "use SCENARIO or"),
        ("nothing", "no scenario matches 'nothing'"),
        ("a-cut", "say which case, as in a-cut[at=20000]"),
        ("a-cut[to=1]", "is none of its `vary` keys"),
        ("a-cut[at=x]", "is no position"),
        ("a-cut[at=70000]", "cannot fire"),
        ("a-cut[at=1;]", None),
        ("a-cut[at=1]", None),
    ],
)
def test_replay_specs(tmp_path: Path, spec: str, text: str | None) -> None:
    """A case that does not exist is refused before anything starts."""
    head = 'requirement = "A driver does what it is asked to do here."\nproperties = ["P1"]\n'
    (tmp_path / "a-cut.toml").write_text(head + CUT)
    ask: Callable[[], Matrix] = lambda: one_case(spec, "reknit", "origin", "embedded", 0, folder=tmp_path)  # noqa: E731
    if text is None:
        assert ask().counts().total() == 1
        return
    with pytest.raises(UsageError) as caught:
        ask()
    assert text in str(caught.value)


def test_nothing_is_started_while_a_run_ends() -> None:
    """A lane that is late does not start again what the end of the run has stopped."""
    grounds = Grounds({"embedded": EMBEDDED})
    place = grounds.place(ORIGIN, "embedded")
    grounds.close()
    assert not place.running.alive()
    with pytest.raises(HarnessError, match="the run is ending"):
        grounds.place(ORIGIN, "embedded")
    grounds.close()
