"""What was seen and what it proves: every verdict, in memory, with the words of its diagnosis."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream._content import FOREIGN, ZERO, Content, Run, explain
from midstream._damage import exact, name_damage
from midstream._evidence import Exchange, Facts, Fired, refetched
from midstream._judge import judge, tidy
from midstream._verdict import ALWAYS_MUST, FINE, MEANING, Expectation, Finding, Outcome, Seen, Sink, Verdict
from midstream.checks import run_all

SIZE = 1000
NOTHING = Facts([], [], {}, [], 1)
CUT = "get_object cut@400:fin"
FIRED = Facts([], [Fired(0, CUT, 1, 600, 400, 400)], {}, [], 1)
OK, FAILED = Outcome("ok"), Outcome("failed", "IOError: short read")
NONE = Sink(False)


def holds(*runs: Run, leftovers: tuple[str, ...] = ()) -> Sink:
    return Sink(True, runs[-1].end if runs else 0, runs, leftovers)


WHOLE = holds(Run(0, SIZE, 1))


def seen(
    outcome: Outcome = OK,
    sink: Sink = WHOLE,
    facts: Facts = FIRED,
    specs: tuple[str, ...] = (CUT,),
    control: str = "pass",
    findings: tuple[Finding, ...] = (),
    size: int = SIZE,
    **expect: object,
) -> Seen:
    return Seen(
        Expectation(**expect),  # type: ignore[arg-type]
        outcome,
        sink,
        facts,
        size,
        specs,
        control,
        findings,
    )


def get(
    number: int, base: int | None, sent: int, status: int = 206, by: str = "store", length: int | None = None
) -> Exchange:
    return Exchange(1, number, "GET", "/o", "get_object", [], status, base, length, sent, answered_by=by)


def test_every_verdict_has_one_sentence() -> None:
    """The docs are made of these: one sentence per verdict, with a full stop."""
    assert set(MEANING) == set(Verdict)
    for text in MEANING.values():
        assert text[0].isupper()
        assert text.endswith(".")
        assert ". " not in text
    assert len(set(MEANING.values())) == len(Verdict)
    assert not FINE & ALWAYS_MUST


DAMAGE: list[tuple[str, Sink, Verdict, str]] = [
    ("no file", NONE, Verdict.TRUNCATED, "reported success, but there is no file"),
    ("empty", holds(), Verdict.TRUNCATED, "0 of 1,000 bytes"),
    ("short", holds(Run(0, 400, 1)), Verdict.TRUNCATED, "400 of 1,000 bytes"),
    ("one short", holds(Run(0, 999, 1)), Verdict.TRUNCATED, "999 of 1,000 bytes"),
    (
        "twice from the start",
        holds(Run(0, 400, 1), Run(400, 1400, 1, 0)),
        Verdict.DUPLICATED,
        "bytes 0-399 twice, the second time at 400 of the file",
    ),
    (
        "one byte twice",
        holds(Run(0, 400, 1), Run(400, 1001, 1, 399)),
        Verdict.DUPLICATED,
        "byte 399 twice, the second time at 400 of the file",
    ),
    (
        "a middle part again at the end",
        holds(Run(0, 1000, 1), Run(1000, 1100, 1, 300)),
        Verdict.DUPLICATED,
        "bytes 300-399 twice, the second time at 1,000 of the file",
    ),
    (
        "a zero hole",
        holds(Run(0, 400, 1), Run(400, 500, ZERO), Run(500, 1000, 1, 500)),
        Verdict.HOLE,
        "bytes 400-499 zero, the rest in place",
    ),
    ("preallocated", holds(Run(0, 1000, ZERO)), Verdict.HOLE, "bytes 0-999 zero, nothing else there"),
    (
        "zeros in between",
        holds(Run(0, 400, 1), Run(400, 500, ZERO), Run(500, 1100, 1, 400)),
        Verdict.FOREIGN,
        "bytes 400-499 of the file are not the object's",
    ),
    (
        "zeros behind the end",
        holds(Run(0, 1000, 1), Run(1000, 1024, ZERO)),
        Verdict.FOREIGN,
        "bytes 1,000-1,023 of the file are not the object's",
    ),
    (
        "moved up",
        holds(Run(0, 400, 1), Run(400, 900, 1, 500)),
        Verdict.SHIFTED,
        "bytes 400-499 missing at 400 of the file",
    ),
    (
        "its beginning missing",
        holds(Run(0, 999, 1, 1)),
        Verdict.SHIFTED,
        "byte 0 missing at 0 of the file",
    ),
    (
        "moved up and short",
        holds(Run(0, 400, 1), Run(400, 800, 1, 500)),
        Verdict.SHIFTED,
        "bytes 400-499 missing at 400 of the file; bytes 900-999 missing at the end",
    ),
    (
        "parts exchanged",
        holds(Run(0, 200, 1), Run(200, 600, 1, 600), Run(600, 1000, 1, 200)),
        Verdict.CORRUPT,
        "the bytes are the object's, but out of order",
    ),
    (
        "two generations",
        holds(Run(0, 400, 1), Run(400, 1000, 2, 400)),
        Verdict.SPLICED,
        "generation 1 up to 400, generation 2 from 400",
    ),
    (
        "the wrong generation",
        holds(Run(0, 1000, 2)),
        Verdict.SPLICED,
        "all of generation 2, which was not to be had",
    ),
    ("short of another generation", holds(Run(0, 400, 2)), Verdict.TRUNCATED, "400 of 1,000 bytes"),
    (
        "an error page for the object",
        holds(Run(0, 70, FOREIGN)),
        Verdict.FOREIGN,
        "none of the 70 bytes are the object's",
    ),
    (
        "an error page inside",
        holds(Run(0, 400, 1), Run(400, 470, FOREIGN), Run(470, 1070, 1, 400)),
        Verdict.FOREIGN,
        "bytes 400-469 of the file are not the object's",
    ),
    (
        "a flipped byte",
        holds(Run(0, 400, 1), Run(400, 401, FOREIGN), Run(401, 1000, 1, 401)),
        Verdict.CORRUPT,
        "byte 400 changed, length kept",
    ),
    (
        "much of it overwritten",
        holds(Run(0, 400, 1), Run(400, 500, FOREIGN), Run(500, 1000, 1, 500)),
        Verdict.FOREIGN,
        "bytes 400-499 of the file are not the object's",
    ),
    (
        "more than there is",
        holds(Run(0, 1200, 1)),
        Verdict.FOREIGN,
        "1,200 bytes, 200 more than the object has",
    ),
]


@pytest.mark.parametrize(("sink", "verdict", "text"), [d[1:] for d in DAMAGE], ids=[d[0] for d in DAMAGE])
@pytest.mark.parametrize("outcome", ["complete", "failure", "either", "observe"])
@pytest.mark.parametrize("kind", ["must", "should", "observe"])
def test_damage(sink: Sink, verdict: Verdict, text: str, outcome: str, kind: str) -> None:
    """A success with wrong bytes breaks a MUST whatever the scenario asks for, and the words say where."""
    judged = judge(_with(seen(sink=sink, kind=kind), outcome))
    assert (judged.verdict, judged.level, judged.diagnosis) == (verdict, "must", text)
    assert judged.breaks_must


def _with(given: Seen, outcome: str) -> Seen:
    """The same, with another expected outcome."""
    return replace(given, expect=replace(given.expect, outcome=outcome))


def row(
    outcome: Outcome, sink: Sink, expected: str, kind: str, verdict: Verdict, level: str, text: str
) -> tuple[Outcome, Sink, str, str, Verdict, str, str]:
    return outcome, sink, expected, kind, verdict, level, text


PARTIAL = holds(Run(0, 400, 1))
CRASHED = Outcome("crash", "killed by SIGSEGV: oh")
HUNG = Outcome("hang", "no end after 30 s", 30.0)
OUTCOMES = [
    row(OK, WHOLE, "complete", "must", Verdict.PASS, "", ""),
    row(OK, WHOLE, "either", "should", Verdict.PASS, "", ""),
    row(OK, WHOLE, "observe", "observe", Verdict.OBSERVED, "", "the driver completed"),
    row(FAILED, NONE, "complete", "must", Verdict.NEEDLESS_FAILURE, "must", "IOError: short read"),
    row(FAILED, NONE, "complete", "should", Verdict.NEEDLESS_FAILURE, "should", "IOError: short read"),
    row(
        FAILED,
        PARTIAL,
        "complete",
        "must",
        Verdict.NEEDLESS_FAILURE,
        "must",
        "IOError: short read; 400 bytes left under the final name",
    ),
    row(
        FAILED,
        PARTIAL,
        "complete",
        "should",
        Verdict.LEAK,
        "must",
        "failed and left 400 bytes under the final name: IOError: short read",
    ),
    row(
        FAILED,
        WHOLE,
        "complete",
        "must",
        Verdict.NEEDLESS_FAILURE,
        "must",
        "the file is complete, yet: IOError: short read",
    ),
    row(
        FAILED,
        WHOLE,
        "either",
        "must",
        Verdict.CLEAN_FAILURE,
        "",
        "the file is complete; IOError: short read",
    ),
    row(FAILED, NONE, "failure", "must", Verdict.CLEAN_FAILURE, "", "IOError: short read"),
    row(FAILED, NONE, "either", "must", Verdict.CLEAN_FAILURE, "", "IOError: short read"),
    row(FAILED, NONE, "observe", "observe", Verdict.OBSERVED, "", "IOError: short read"),
    row(
        FAILED,
        PARTIAL,
        "failure",
        "must",
        Verdict.LEAK,
        "must",
        "failed and left 400 bytes under the final name: IOError: short read",
    ),
    row(
        FAILED,
        holds(),
        "either",
        "should",
        Verdict.LEAK,
        "must",
        "failed and left 0 bytes under the final name: IOError: short read",
    ),
    row(
        FAILED,
        PARTIAL,
        "observe",
        "observe",
        Verdict.LEAK,
        "must",
        "failed and left 400 bytes under the final name: IOError: short read",
    ),
    row(HUNG, NONE, "complete", "must", Verdict.HANG, "must", "no end after 30 s"),
    row(
        HUNG,
        PARTIAL,
        "failure",
        "should",
        Verdict.HANG,
        "must",
        "no end after 30 s; 400 bytes under the final name",
    ),
    row(HUNG, NONE, "observe", "observe", Verdict.HANG, "must", "no end after 30 s"),
    row(CRASHED, NONE, "failure", "must", Verdict.CRASH, "must", "killed by SIGSEGV: oh"),
    row(CRASHED, WHOLE, "complete", "should", Verdict.CRASH, "must", "killed by SIGSEGV: oh"),
    row(Outcome("crash"), NONE, "observe", "observe", Verdict.CRASH, "must", "the process died"),
]


@pytest.mark.parametrize(("outcome", "sink", "expected", "kind", "verdict", "level", "text"), OUTCOMES)
def test_outcomes(
    outcome: Outcome, sink: Sink, expected: str, kind: str, verdict: Verdict, level: str, text: str
) -> None:
    """The driver's word, the file and the expectation together give verdict, level and words."""
    judged = judge(_with(seen(outcome, sink, kind=kind), expected))
    assert (judged.verdict, judged.level, judged.diagnosis) == (verdict, level, text)


def test_empty_object() -> None:
    """An object of no bytes is fetched by a file of no bytes, and by nothing else."""
    assert judge(seen(sink=holds(), size=0)).verdict is Verdict.PASS
    assert judge(seen(sink=NONE, size=0)).verdict is Verdict.TRUNCATED
    assert judge(seen(sink=holds(Run(0, 5, FOREIGN)), size=0)).verdict is Verdict.FOREIGN


def test_any_of_several_generations() -> None:
    """Where the object was replaced, either version is right, but only whole."""
    for generation in (1, 2):
        judged = judge(seen(sink=holds(Run(0, SIZE, generation)), generations=(1, 2)))
        assert judged.verdict is Verdict.PASS
    mixed = holds(Run(0, 400, 1), Run(400, SIZE, 2, 400))
    assert judge(seen(sink=mixed, generations=(1, 2))).verdict is Verdict.SPLICED


@pytest.mark.parametrize("outcome", [OK, FAILED, HUNG, CRASHED])
@pytest.mark.parametrize("sink", [NONE, PARTIAL, WHOLE])
def test_ours_first(outcome: Outcome, sink: Sink) -> None:
    """A failed control, trouble on our side and a fault that misfired come before the driver."""
    control = judge(seen(outcome, sink, control="hang: no end after 30 s"))
    trouble = judge(
        seen(outcome, sink, Facts([], [], {}, ["the store died", "the store died", "b", "c", "d"], 1))
    )
    passed = judge(seen(outcome, sink, Facts([], [], {0: ["elsewhere", "passed"]}, [], 1)))
    absent = judge(seen(outcome, sink, Facts([], [], {0: ["absent"]}, [], 1), specs=()))
    assert control.diagnosis == "hang: no end after 30 s"
    assert trouble.diagnosis == "the store died; b; c"  # each once, the first three
    assert passed.diagnosis == f"{CUT}: its byte went by and the fault did not fire"
    assert absent.diagnosis == "rule 1: no such position in the response, so the fault cannot fire"
    for judged in (control, trouble, passed, absent):
        assert (judged.verdict, judged.level) == (Verdict.HARNESS_ERROR, "harness")


def test_a_position_beyond_a_range_that_the_driver_chose() -> None:
    """Who says where ranges end, may never be sent the position: not an error of ours, nor of the driver."""
    for asked, verdict in (
        ("bytes=0-9", Verdict.NOT_REACHED),
        ("bytes=5-", Verdict.HARNESS_ERROR),
        (None, Verdict.HARNESS_ERROR),
    ):
        fields = [("Range", asked)] if asked else []
        facts = Facts([replace(get(1, 0, 10), fields=fields)], [], {0: ["absent"]}, [], 1)
        assert judge(seen(OK, WHOLE, facts)).verdict is verdict


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_store_that_fails_by_itself(status: int) -> None:
    """A 5xx that no fault asked for excuses the driver; one that a fault gave or brought about does not."""
    own = replace(FIRED, exchanges=[get(1, None, 0, status)])
    injected = replace(FIRED, exchanges=[get(1, None, 0, status, by="injector")])
    judged = judge(seen(FAILED, NONE, own))
    assert (judged.verdict, judged.level) == (Verdict.HARNESS_ERROR, "harness")
    assert judged.diagnosis == f"the store itself answered request 1 with {status}"
    assert judge(seen(OK, WHOLE, own)).verdict is Verdict.PASS
    assert judge(seen(FAILED, NONE, injected)).verdict is Verdict.NEEDLESS_FAILURE
    harmed = replace(seen(FAILED, NONE, own), harmed=True)
    assert judge(harmed).verdict is Verdict.NEEDLESS_FAILURE
    unharmed_yet = replace(harmed, facts=replace(own, fired=[]))
    assert judge(unharmed_yet).diagnosis == f"the store itself answered request 1 with {status}"


def test_not_reached() -> None:
    """A fault that waits for a request that never comes: nothing is said of the driver."""
    judged = judge(seen(OK, WHOLE, NOTHING))
    assert (judged.verdict, judged.level) == (Verdict.NOT_REACHED, "")
    assert judged.diagnosis == f"{CUT}: never reached; the driver completed"
    elsewhere = replace(NOTHING, unfired={0: ["elsewhere"]})
    failed = judge(_with(seen(FAILED, NONE, elsewhere), "failure"))
    assert failed.diagnosis == f"{CUT}: never reached; the driver failed: IOError: short read"
    assert judge(seen(OK, PARTIAL, NOTHING)).verdict is Verdict.TRUNCATED


def test_second_fault_not_reached() -> None:
    """Every fault of the schedule has to fire, not just the first."""
    judged = judge(seen(specs=(CUT, "GET#2 cut@600:fin")))
    assert judged.verdict is Verdict.NOT_REACHED
    assert judged.diagnosis == "GET#2 cut@600:fin: never reached; the driver completed"


@pytest.mark.parametrize(
    ("finding", "kind", "verdict", "level"),
    [
        (Finding(Verdict.RESTARTED, "should", "x"), "must", Verdict.RESTARTED, "should"),
        (Finding(Verdict.LEAK, "must", "x"), "must", Verdict.LEAK, "must"),
        (Finding(Verdict.LEAK, "must", "x"), "observe", Verdict.LEAK, "must"),
        (Finding(Verdict.RETRY_STORM, "must", "x"), "must", Verdict.RETRY_STORM, "must"),
        (Finding(Verdict.RETRY_STORM, "observe", "x"), "observe", Verdict.OBSERVED, ""),
    ],
)
def test_findings(finding: Finding, kind: str, verdict: Verdict, level: str) -> None:
    """What a check found counts even when the file is exact."""
    judged = judge(
        _with(seen(findings=(finding,), kind=kind), "observe" if kind == "observe" else "complete")
    )
    assert (judged.verdict, judged.level, judged.diagnosis) == (verdict, level, "x")


def test_the_gravest_finding_counts() -> None:
    """Of several findings the one that breaks most is the verdict."""
    findings = (Finding(Verdict.RESTARTED, "should", "slow"), Finding(Verdict.LEAK, "must", "left"))
    assert judge(seen(findings=findings)).diagnosis == "left"
    assert judge(seen(findings=findings[::-1])).diagnosis == "left"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_taken_for_an_answer(status: int) -> None:
    """Damage behind a redirect that was the last answer says so; a redirect that was followed is no news."""
    page = holds(Run(0, 9, FOREIGN))
    stopped = replace(FIRED, exchanges=[get(1, None, 9, status)])
    followed = replace(FIRED, exchanges=[get(1, None, 9, status), get(2, 0, 9, 200)])
    hint = f"; the last answer was a {status} redirect, and nothing was asked here after it"
    assert judge(seen(OK, page, stopped)).diagnosis == f"none of the 9 bytes are the object's{hint}"
    assert judge(seen(OK, page, followed)).diagnosis == "none of the 9 bytes are the object's"


def test_a_storm_that_ends_in_an_error() -> None:
    """A failure that was asked for is none to praise when it took a storm."""
    storm = (Finding(Verdict.RETRY_STORM, "must", "90 object requests, 40 allowed"),)
    judged = judge(_with(seen(FAILED, NONE, findings=storm), "failure"))
    assert (judged.verdict, judged.diagnosis) == (Verdict.RETRY_STORM, "90 object requests, 40 allowed")


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        ("a\n  b\tc", "a b c"),
        ("cannot reach 127.0.0.1:40123 or localhost:1", "cannot reach HOST or HOST"),
        ("HTTPConnectionPool(host='127.0.0.1', port=4711): x", "HTTPConnectionPool(HOST): x"),
        ("Failed to connect to 127.0.0.1 port 4711 after 12 ms", "Failed to connect to HOST after ... ms"),
        ("Operation timed out after 2001 milliseconds", "Operation timed out after ... milliseconds"),
        ("<Thing at 0x7f00aabbcc>", "<Thing at 0x...>"),
        ("open '/tmp/run-1/sinks/7/object.part'", "open 'object.part'"),
        ("GET http://127.0.0.1:1/a/b failed", "GET http://HOST/a/b failed"),
        ("url: /b/k?X-Amz-Signature=abc&x=1", "url: k?X-Amz-Signature=[redacted]&x=1"),
        ("x" * 400, "x" * 297 + "..."),
    ],
)
def test_tidy(text: str, tidied: str) -> None:
    """Messages of drivers are the same in each run, on one line, and without secrets."""
    assert tidy(text) == tidied


@pytest.mark.parametrize(
    ("spans", "again"),
    [
        ([], 0),
        ([(0, 1000)], 0),
        ([(0, 400), (400, 600)], 0),
        ([(0, 400), (0, 1000)], 400),
        ([(0, 400), (300, 700)], 100),
        ([(0, 400), (0, 400), (0, 1000)], 800),
        ([(500, 500), (0, 500)], 0),
        ([(900, 500)], 0),
    ],
)
def test_refetched(spans: list[tuple[int, int]], again: int) -> None:
    """Bytes delivered twice are counted once each time too often, in whatever order ranges came."""
    exchanges = [get(i, base, sent) for i, (base, sent) in enumerate(spans, 1)]
    assert refetched(replace(NOTHING, exchanges=exchanges), SIZE) == again


def conduct(
    *exchanges: Exchange, outcome: Outcome = OK, connections: int = 1, **expect: object
) -> list[Finding]:
    facts = Facts(list(exchanges), [Fired(0, CUT, 1, 600, 400, 400)], {}, [], connections)
    return run_all(seen(outcome, facts=facts, **expect))  # type: ignore[arg-type]


def test_check_refetch() -> None:
    """A second start after a cut is a restart; a resume, a probe and the retry of one part are none."""
    restarted = conduct(get(1, 0, 400, 200, length=1000), get(2, 0, 1000, 200, length=1000))
    assert [(f.verdict, f.level, f.text) for f in restarted] == [
        (Verdict.RESTARTED, "should", "400 bytes fetched again after they had been delivered")
    ]
    assert not conduct(get(1, 0, 400, 200, length=1000), get(2, 400, 600, length=600))
    assert not conduct(get(1, 0, 0, 200, length=1000), get(2, 0, 1000, 200, length=1000))
    assert not conduct(get(1, 0, 1, length=1), get(2, 0, 500, length=500), get(3, 500, 500, length=500))
    assert not conduct(get(1, 0, 400, 200), get(2, 0, 1000, 200), restart=True)
    assert not conduct(get(1, 0, 400, 200), get(2, 0, 1000, 200), outcome=FAILED)
    assert conduct(get(1, 0, 400), get(2, 300, 700), refetch=99)
    assert not conduct(get(1, 0, 400), get(2, 300, 700), refetch=100)


def test_check_refetch_probe_without_a_fault() -> None:
    """A driver that looks at the first byte before it fetches everything has restarted nothing."""
    facts = replace(NOTHING, exchanges=[get(1, 0, 1, length=1), get(2, 0, 1000, 200, length=1000)])
    assert not run_all(seen(facts=facts, specs=()))


def test_check_requests() -> None:
    """Requests for the object, for its size, and connections without any request are all attempts."""
    many = [get(i, 0, 0) for i in range(1, 42)]
    assert [f.text for f in conduct(*many, restart=True)] == ["41 object requests, 40 allowed"]
    assert not conduct(*many[:40], restart=True)
    heads = [replace(get(i, None, 0), operation="head_object") for i in range(1, 42)]
    assert [f.text for f in conduct(*heads)] == ["41 requests for the object's size, 40 allowed"]
    assert [f.text for f in conduct(get(1, 0, 0), connections=41)] == ["41 object requests, 40 allowed"]
    assert [f.level for f in conduct(*many, restart=True, kind="should")] == ["should"]


def test_check_leftovers() -> None:
    """A temporary file may stay after a failure, to resume from, but not after success."""
    sink = holds(Run(0, SIZE, 1), leftovers=("a.part", "b", "c", "d"))
    (found,) = run_all(seen(sink=sink))
    assert (found.verdict, found.level) == (Verdict.LEAK, "must")
    assert found.text == "left behind after success: a.part, b, c"
    assert not run_all(seen(FAILED, sink))


runs = st.lists(
    st.tuples(st.integers(1, 600), st.integers(-1, 3), st.integers(0, 1200)), min_size=0, max_size=5
)


@st.composite
def sinks(draw: st.DrawFn) -> Sink:
    at, made = 0, []
    for length, source, origin in draw(runs):
        made.append(Run(at, at + length, source, origin if source > 0 else 0))
        at += length
    return Sink(draw(st.booleans()), at, tuple(made), tuple(draw(st.lists(st.just("t"), max_size=2))))


facts_values = st.builds(
    Facts,
    st.lists(
        st.builds(
            get,
            st.integers(1, 9),
            st.none() | st.integers(0, 1200),
            st.integers(0, 1200),
            st.sampled_from([0, 200, 206, 404, 500, 503]),
            st.sampled_from(["store", "injector"]),
            st.none() | st.integers(0, 1200),
        ),
        max_size=5,
    ),
    st.lists(st.just(Fired(0, CUT, 1, 600, 400, 400)), max_size=1),
    st.dictionaries(
        st.integers(0, 2), st.lists(st.sampled_from(["passed", "absent", "ended", "elsewhere"])), max_size=2
    ),
    st.lists(st.just("the store died"), max_size=2),
    st.integers(0, 9),
)
seen_values = st.builds(
    Seen,
    st.builds(
        Expectation,
        kind=st.sampled_from(["must", "should", "observe"]),
        outcome=st.sampled_from(["complete", "failure", "either", "observe"]),
        restart=st.booleans(),
        refetch=st.integers(0, 500),
        requests=st.integers(1, 5),
        generations=st.sampled_from([(1,), (1, 2), ()]),
    ),
    st.builds(Outcome, st.sampled_from(["ok", "failed", "hang", "crash"]), st.text(max_size=20)),
    sinks(),
    facts_values,
    st.integers(0, 1200),
    st.lists(st.just(CUT), max_size=3),
    st.sampled_from(["pass", "pass", "pass", "hang: x"]),
)


@settings(max_examples=400, deadline=None)
@given(given=seen_values)
def test_judge_is_total(given: Seen) -> None:
    """Whatever is seen, there is one verdict with a level that fits, and it is the same each time."""
    checked = replace(given, findings=run_all(given))
    judged = judge(checked)
    assert judged == judge(checked)
    assert judged.level in ("must", "should", "observe", "", "harness")
    assert (judged.level == "harness") == (judged.verdict is Verdict.HARNESS_ERROR)
    assert (judged.level == "") == (judged.verdict in FINE)
    assert judged.diagnosis or judged.verdict is Verdict.PASS or given.outcome.said == "failed"
    if judged.verdict in ALWAYS_MUST:
        assert judged.breaks_must
    inexact = not exact(given.sink, given.object_size, given.expect.generations)
    if given.outcome.said == "ok" and inexact:
        assert judged.verdict not in FINE
        assert judged.level in ("must", "harness")
    if given.outcome.said in ("hang", "crash"):
        assert judged.level in ("must", "harness")
    told = {reason for why in given.facts.unfired.values() for reason in why}
    bounded = any(re.fullmatch(r"bytes=\d+-\d+", e.range or "") for e in given.facts.exchanges)
    ours = "passed" in told or ("absent" in told and not bounded)
    if ours or given.facts.trouble or given.control != "pass":
        assert judged.level == "harness"
    if judged.verdict is Verdict.PASS:
        assert len({f.rule for f in given.facts.fired}) >= len(set(range(len(given.specs))))


def reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda start, n: data[start : start + n]


def spliced(pieces: list[tuple[str, int, int]], seed: int, size: int) -> bytes:
    """A file out of pieces: (gN, from, to) of generation N, (zero, n), (page, n)."""
    made = []
    for what, a, b in pieces:
        if what == "zero":
            made.append(bytes(a))
        elif what == "page":
            made.append((b"<html><body>503 Slow Down " * (a // 20 + 1))[:a])
        else:
            made.append(Content(size, seed, int(what[1])).read(a, b - a))
    return b"".join(made)


REAL: list[tuple[list[tuple[str, int, int]], Verdict, str]] = [
    ([("g1", 0, 40_021)], Verdict.TRUNCATED, "40,021 of 100,003 bytes"),
    (
        [("g1", 0, 40_021), ("g1", 0, 100_003)],
        Verdict.DUPLICATED,
        "bytes 0-40,020 twice, the second time at 40,021 of the file",
    ),
    (
        [("g1", 0, 40_021), ("g1", 39_895, 100_003)],
        Verdict.DUPLICATED,
        "bytes 39,895-40,020 twice, the second time at 40,021 of the file",
    ),
    (
        [("g1", 0, 40_021), ("zero", 8192, 0), ("g1", 48_213, 100_003)],
        Verdict.HOLE,
        "bytes 40,021-48,212 zero, the rest in place",
    ),
    (
        [("g1", 0, 40_021), ("g1", 48_213, 100_003)],
        Verdict.SHIFTED,
        "bytes 40,021-48,212 missing at 40,021 of the file",
    ),
    (
        [("g1", 0, 40_021), ("g2", 40_021, 100_003)],
        Verdict.SPLICED,
        "generation 1 up to 40,021, generation 2 from 40,021",
    ),
    (
        [("g1", 0, 40_021), ("page", 500, 0), ("g1", 40_021, 100_003)],
        Verdict.FOREIGN,
        "bytes 40,021-40,520 of the file are not the object's",
    ),
    ([("page", 500, 0)], Verdict.FOREIGN, "none of the 500 bytes are the object's"),
    (
        [("g1", 0, 20_000), ("g1", 60_000, 100_003), ("g1", 20_000, 60_000)],
        Verdict.CORRUPT,
        "the bytes are the object's, but out of order",
    ),
]


@pytest.mark.parametrize(
    ("pieces", "verdict", "text"), REAL, ids=[r[1].value + str(i) for i, r in enumerate(REAL)]
)
@pytest.mark.parametrize("seed", [0, 3])
def test_damage_in_real_files(
    pieces: list[tuple[str, int, int]], verdict: Verdict, text: str, seed: int
) -> None:
    """From the bytes of a file to the name of its damage, through the explanation of each byte."""
    size = 100_003
    data = spliced(pieces, seed, size)
    found = explain(reader(data), len(data), seed, object_size=size)
    assert name_damage(Sink(True, len(data), tuple(found)), size, (1,)) == (verdict, text)


def test_a_flipped_bit_is_found_anywhere() -> None:
    """One changed byte in a file is corrupt at exactly that byte."""
    size, draw = 50_021, random.Random(4)
    for at in [0, 1, size - 1, *draw.sample(range(size), 12)]:
        data = bytearray(Content(size, 3).whole())
        data[at] ^= 0x80
        found = explain(reader(bytes(data)), size, 3, object_size=size)
        verdict, text = name_damage(Sink(True, size, tuple(found)), size, (1,))
        assert (verdict, text) == (Verdict.CORRUPT, f"byte {at:,} changed, length kept")


@settings(max_examples=150, deadline=None)
@given(cut=st.integers(1, 4999), again=st.integers(0, 5000), tail=st.integers(0, 200))
def test_resumes_at_a_wrong_offset(cut: int, again: int, tail: int) -> None:
    """Whatever offset a driver resumes at, only the right one is exact, and a wrong one is named as such."""
    size = 5000
    data = spliced([("g1", 0, cut), ("g1", again, size), ("zero", tail, 0)], 1, size)
    found = tuple(explain(reader(data), len(data), 1, object_size=size))
    sink = Sink(True, len(data), found)
    right = again == cut and not tail
    assert exact(sink, size, (1,)) == right == (data == Content(size, 1).whole())
    if not right:
        verdict, text = name_damage(sink, size, (1,))
        assert verdict in ALWAYS_MUST
        assert text
        if not tail and cut - again >= 64:
            assert verdict is Verdict.DUPLICATED
        if not tail and again - cut >= 64 and size - again >= 64 and cut >= 64:
            assert verdict is Verdict.SHIFTED
