"""The verdict on uploads: about the object in the store, whatever the driver says of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midstream._content import FOREIGN, ZERO, Run
from midstream._evidence import Exchange, Facts
from midstream._judge import judge
from midstream._registry import load
from midstream._verdict import Expectation, Finding, Outcome, Seen, Sink, Verdict

SIZE = 1000
WHOLE = Sink(True, SIZE, (Run(0, SIZE, 1),))
NOTHING = Sink(False)
OK, FAILED = Outcome("ok"), Outcome("failed", "OSError: no")
STATES = {
    "whole": WHOLE,
    "nothing": NOTHING,
    "short": Sink(True, 400, (Run(0, 400, 1),)),
    "empty": Sink(True, 0),
    "other": Sink(True, SIZE, (Run(0, SIZE, 2),)),
    "mixed": Sink(True, SIZE, (Run(0, 400, 1), Run(400, SIZE, 2, 400))),
    "twice": Sink(True, 1400, (Run(0, 1000, 1), Run(1000, 1400, 1))),
    "rest": Sink(True, 600, (Run(0, 600, 1, 400),)),
    "hole": Sink(True, SIZE, (Run(0, 400, 1), Run(400, 500, ZERO), Run(500, SIZE, 1, 500))),
    "page": Sink(True, 50, (Run(0, 50, FOREIGN),)),
    "broken": Sink(True, SIZE, unreadable="409 Conflict"),
    "lost": Sink(False, lost=True),
}
DAMAGE = {
    "short": Verdict.TRUNCATED,
    "empty": Verdict.TRUNCATED,
    "other": Verdict.SPLICED,
    "mixed": Verdict.SPLICED,
    "twice": Verdict.DUPLICATED,
    "rest": Verdict.SHIFTED,
    "hole": Verdict.HOLE,
    "page": Verdict.FOREIGN,
    "broken": Verdict.HOLE,
}


def seen(outcome: Outcome, state: str, expected: str = "complete", **more: object) -> Seen:
    facts = Facts([], [], {}, [], 1)
    base = Seen(Expectation(outcome=expected), outcome, STATES[state], facts, SIZE, upload=True)
    return replace(base, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("expected", ["complete", "failure", "either", "observe"])
@pytest.mark.parametrize("outcome", [OK, FAILED, Outcome("hang"), Outcome("crash")], ids=lambda o: o.said)
@pytest.mark.parametrize("state", DAMAGE)
def test_wrong_bytes_are_that_whatever_is_said(state: str, outcome: Outcome, expected: str) -> None:
    """An object that is none the driver had to send breaks a MUST, named by its damage."""
    found = judge(seen(outcome, state, expected))
    assert (found.verdict, found.level) == (DAMAGE[state], "must")
    assert found.diagnosis.startswith("published")


@pytest.mark.parametrize("state", DAMAGE)
def test_also_for_a_moment(state: str) -> None:
    """So does one that was replaced by the right one later."""
    found = judge(seen(OK, "whole", published=(STATES[state],)))
    assert (found.verdict, found.level) == (DAMAGE[state], "must")
    assert "replaced later" in found.diagnosis or state == "broken"


SAID = [
    (OK, "whole", "complete", Verdict.PASS, ""),
    (OK, "whole", "either", Verdict.PASS, ""),
    (OK, "nothing", "complete", Verdict.TRUNCATED, "must"),
    (OK, "nothing", "either", Verdict.TRUNCATED, "must"),
    (OK, "nothing", "failure", Verdict.TRUNCATED, "must"),
    (FAILED, "whole", "complete", Verdict.NEEDLESS_FAILURE, "must"),
    (FAILED, "whole", "either", Verdict.CLEAN_FAILURE, ""),
    (FAILED, "nothing", "complete", Verdict.NEEDLESS_FAILURE, "must"),
    (FAILED, "nothing", "either", Verdict.CLEAN_FAILURE, ""),
    (FAILED, "nothing", "failure", Verdict.CLEAN_FAILURE, ""),
    (FAILED, "lost", "failure", Verdict.LEAK, "must"),
    (FAILED, "lost", "either", Verdict.LEAK, "must"),
    (Outcome("hang", "no end after 2 s"), "nothing", "failure", Verdict.HANG, "must"),
    (Outcome("crash", "exit status 3"), "whole", "complete", Verdict.CRASH, "must"),
]


@pytest.mark.parametrize(("outcome", "state", "expected", "verdict", "level"), SAID)
def test_what_is_said_is_held_against_what_is_there(
    outcome: Outcome, state: str, expected: str, verdict: Verdict, level: str
) -> None:
    """A driver's word counts for what it promises, the store for what it holds."""
    found = judge(seen(outcome, state, expected))
    assert (found.verdict, found.level) == (verdict, level)


def test_the_harness_is_suspected_first() -> None:
    """A fault that did not fire, or a failing control, is nobody's damage."""
    base = seen(OK, "short", control="hang: no end", specs=["put_object cut@sent+5:fin"])
    assert judge(base).verdict is Verdict.HARNESS_ERROR
    passed = replace(base, control="pass", facts=Facts([], [], {0: ["passed"]}, [], 1))
    assert judge(passed).verdict is Verdict.HARNESS_ERROR
    assert judge(replace(base, control="pass", sink=WHOLE)).verdict is Verdict.NOT_REACHED


def test_several_objects_may_be_right() -> None:
    """Of two that are sent to one name, either; of one that grew, what it was or what it is."""
    expect = Expectation(generations=(1, 2), objects=((1, SIZE), (2, SIZE), (1, 2 * SIZE)))
    for state in ("whole", "other"):
        assert judge(seen(OK, state, expect=expect)).verdict is Verdict.PASS
    grown = Sink(True, 2 * SIZE, (Run(0, 2 * SIZE, 1),))
    assert judge(replace(seen(OK, "whole", expect=expect), sink=grown)).verdict is Verdict.PASS
    assert judge(seen(OK, "short", expect=expect)).verdict is Verdict.TRUNCATED


def test_checks_are_heard() -> None:
    """After a success and after a failure that is right, a finding decides; not over worse."""
    leak = Finding(Verdict.LEAK, "must", "left in the store: x")
    assert judge(seen(OK, "whole", findings=[leak])).verdict is Verdict.LEAK
    assert judge(seen(FAILED, "nothing", "failure", findings=[leak])).verdict is Verdict.LEAK
    assert judge(seen(OK, "short", findings=[leak])).verdict is Verdict.TRUNCATED


# --- the checks of uploads


def put(number: int, target: str = "/b/k", operation: str = "put_object", **more: object) -> Exchange:
    fields = {"status": 200, "received": SIZE, "declared": SIZE, "wire": 100, "end": "complete", **more}
    return Exchange(1, number, "PUT", target, operation, [], **fields)  # type: ignore[arg-type]


def check(name: str, *exchanges: Exchange, fired: int = 0, **more: object) -> Finding | None:
    facts = Facts(list(exchanges), [None] * fired, {}, [], 1)  # type: ignore[list-item]
    found: Finding | None = load("checks", name).check(seen(OK, "whole", facts=facts, **more))
    return found


def test_orphans() -> None:
    """What stays in the store is found, unless the scenario lets it."""
    assert check("orphans") is None
    found = check("orphans", orphans=["a", "b", "c", "d"])
    assert found
    assert found.text == "left in the store: a, b, c and 1 more"
    assert check("orphans", orphans=["a"], expect=Expectation(orphans=True)) is None


def test_resent() -> None:
    """The request that failed may be sent again, the others not; a fresh start may be what is wanted."""
    part = [put(n, f"/k?partNumber={n}", "upload_part", received=250, declared=250) for n in (1, 2, 3, 4)]
    assert check("resent", *part, part[0], fired=1) is None
    found = check("resent", *part, *part[:2], fired=1)
    assert found
    assert (found.verdict, found.level) == (Verdict.RESTARTED, "should")
    assert check("resent", *part, *part[:2], fired=1, expect=Expectation(restart=True)) is None
    begun = [put(n, "/k", "create_upload", declared=None, received=0) for n in (1, 3)]
    halves = [put(2, "/u/1", "append_upload", received=500), put(4, "/u/2", "append_upload")]
    assert check("resent", begun[0], halves[0], begun[1], halves[1], fired=1)
    assert check("resent", begun[0], halves[0], replace(halves[1], received=500), fired=1) is None


def test_same_bytes() -> None:
    """The same target announces the same length; where the object's size is in doubt nothing is said."""
    assert check("same-bytes", put(1), put(2)) is None
    found = check("same-bytes", put(1), put(2, declared=400))
    assert found
    assert found.text == "request 2 sends 400 bytes where request 1 sent 1,000"
    assert check("same-bytes", put(1), put(2, "/b/other", declared=400)) is None
    assert check("same-bytes", put(1), put(2, declared=400), expect=Expectation(objects=((1, 400),))) is None


def completion(*parts: int) -> Exchange:
    rows = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>x</ETag></Part>" for n in parts)
    return put(9, "/b/k?uploadId=u", "complete_upload", document=f"<C>{rows}</C>")


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((1, 2, 3), ""),
        ((1, 3), "leaves out parts that were sent: 2"),
        ((1, 2), "leaves out parts that were sent: 3"),
        ((2, 1, 3), "out of order or twice"),
        ((1, 2, 2, 3), "out of order or twice"),
        ((1, 2, 3, 5), "has no part 4 of 5"),
        ((), ""),
    ],
)
def test_part_list(parts: tuple[int, ...], text: str) -> None:
    """A completion lists each part that was stored, once, in order, without a gap."""
    sent = [put(n, f"/b/k?partNumber={n}&uploadId=u", "upload_part") for n in (1, 2, 3)]
    refused = put(4, "/b/k?partNumber=4&uploadId=u", "upload_part", status=503)
    other = put(5, "/b/k?partNumber=7&uploadId=other", "upload_part")
    found = check("part-list", *sent, refused, other, completion(*parts))
    assert text in found.text if found else not text, found


def test_manifest() -> None:
    """A manifest adds up to the object."""
    rows = '[{"path": "/c/1", "size_bytes": 600}, {"path": "/c/2", "size_bytes": %d}]'
    assert check("part-list", put(1, operation="put_manifest", document=rows % 400)) is None
    assert check("part-list", put(1, operation="put_manifest", document=rows % 300))
    assert check("part-list", put(1, operation="put_manifest", document="")) is None


def test_status_query() -> None:
    """After a failed append comes a question; one that fails is asked again, not answered by a new upload."""
    cut = put(1, "/u/1", "append_upload", status=0, wire=0, end="cut")
    asked = put(2, "/u/1", "upload_offset", declared=None, received=0)
    more = put(3, "/u/1", "append_upload")
    assert check("status-query", cut, asked, more) is None
    blind = check("status-query", cut, more)
    assert blind
    assert blind.text == "request 3 goes on without asking what became of request 1"
    told = replace(cut, status=409, wire=90, end="complete", answer={"upload-offset": "5"})
    assert check("status-query", told, more) is None
    failed = replace(asked, status=500)
    begun = put(3, "/k", "create_upload", declared=None, received=0)
    anew = check("status-query", cut, failed, begun)
    assert anew
    assert (anew.verdict, anew.level) == (Verdict.RESTARTED, "must")
    assert check("status-query", cut, failed, replace(asked, number=4), more) is None


DELETED = put(1, "/b/a%20k", "delete_object", status=204, declared=None, received=0)


def gap(*exchanges: Exchange, replaces: str = "/b/a k") -> Finding | None:
    return check("gap", *exchanges, replaces=replaces)


@pytest.mark.parametrize("operation", ["put_object", "put_manifest", "complete_upload"])
def test_deleted_before_the_new_one(operation: str) -> None:
    """Whatever makes the new object, the old one stays until then; what a client removes later is its own."""
    new = put(2, "/b/a%20k?x=1", operation)
    found = gap(DELETED, new)
    assert found
    assert (found.verdict, found.level) == (Verdict.UNSAFE, "must")
    assert found.text == "request 1 deletes the object that is there before the new one is"
    assert gap(replace(new, number=1), replace(DELETED, number=2)) is None
    assert gap(DELETED, new, replaces="") is None


@pytest.mark.parametrize(
    "stored",
    [
        put(1, "/b/a%20k", "put_object", status=0, wire=0, end="cut"),
        put(1, "/b/a%20k", "put_object", status=503, answered_by="fault"),
        put(1, "/uploads/1", "append_upload"),
    ],
    ids=["no answer", "an answer of ours", "a resumable upload"],
)
def test_what_may_have_been_stored_is_its_own(stored: Exchange) -> None:
    """A client that cannot know whether its object is there may remove it."""
    assert gap(stored, replace(DELETED, number=2)) is None


@pytest.mark.parametrize(
    "before",
    [
        put(1, "/b/a%20k", "put_object", whole=False),
        put(1, "/b/a%20k", "put_object", status=403),
        put(1, "/b/a%20k.tmp", "put_object"),
    ],
    ids=["broken off", "refused", "another name"],
)
def test_nothing_was_stored_before(before: Exchange) -> None:
    """A request that stored nothing under that name makes the deletion no better."""
    assert gap(before, replace(DELETED, number=2))


@pytest.mark.parametrize(
    "harmless",
    [
        replace(DELETED, status=404),
        replace(DELETED, target="/b_segments/a%20k/1"),
        replace(DELETED, target="/b/a%20k?uploadId=u", operation="abort_upload"),
        replace(DELETED, status=503, answered_by="fault"),
    ],
    ids=["nothing there", "a segment", "an abort", "refused"],
)
def test_deletions_that_leave_the_old_one(harmless: Exchange) -> None:
    """Segments, uploads that are given up, and what the store did not delete."""
    assert gap(harmless) is None
