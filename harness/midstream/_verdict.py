"""From what was seen to what it proves: one pure function.

Nothing here reads a file, a clock or a socket. `judge` is given the expectation, the driver's own word, the
account of the sink and the folded evidence, and gives one verdict with its level and a diagnosis in words.
It suspects the harness first: a fault that did not fire, or trouble on our side of the wire, is never a
finding about the driver.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from midstream._content import FOREIGN, ZERO, Run
from midstream._evidence import Facts


class Verdict(StrEnum):
    """What a case proves. The docs define each in one sentence; `MEANING` holds them."""

    PASS = "pass"
    RESTARTED = "restarted"
    NEEDLESS_FAILURE = "needless_failure"
    CLEAN_FAILURE = "clean_failure"
    TRUNCATED = "truncated"
    DUPLICATED = "duplicated"
    HOLE = "hole"
    SHIFTED = "shifted"
    SPLICED = "spliced"
    FOREIGN = "foreign"
    CORRUPT = "corrupt"
    HANG = "hang"
    RETRY_STORM = "retry_storm"
    LEAK = "leak"
    CRASH = "crash"
    OBSERVED = "observed"
    NOT_APPLICABLE = "not_applicable"
    NOT_REACHED = "not_reached"
    HARNESS_ERROR = "harness_error"


MEANING: dict[Verdict, str] = {
    Verdict.PASS: "The driver reported success and its file is the object, byte for byte.",
    Verdict.RESTARTED: "The file is exact, but the driver fetched again more than it had to.",
    Verdict.NEEDLESS_FAILURE: "The driver gave a clean error where it could and should have completed.",
    Verdict.CLEAN_FAILURE: "The driver gave the error that was required and published nothing.",
    Verdict.TRUNCATED: "The driver reported success with only a first part of the object.",
    Verdict.DUPLICATED: "The driver reported success with some of the object's bytes twice.",
    Verdict.HOLE: "The driver reported success with a part of the object missing or zero, the rest in place.",
    Verdict.SHIFTED: "The driver reported success with bytes left out and what follows moved up.",
    Verdict.SPLICED: "The driver reported success with parts of two generations of the object in one file.",
    Verdict.FOREIGN: "The driver reported success with bytes in the file that no generation has.",
    Verdict.CORRUPT: "The driver reported success with single bytes of the object changed or out of order.",
    Verdict.HANG: "The driver neither finished nor failed before the deadline and was killed.",
    Verdict.RETRY_STORM: "The driver sent far more requests than any recovery needs.",
    Verdict.LEAK: "The driver left a partial object under the final name, or a temporary file after success.",
    Verdict.CRASH: "The driver's process died of a signal or without a word.",
    Verdict.OBSERVED: "The standards leave this open; what the driver did is recorded.",
    Verdict.NOT_APPLICABLE: "This store, driver or injector cannot take part in the scenario.",
    Verdict.NOT_REACHED: "The driver never made the request that the fault waits for, and did nothing wrong.",
    Verdict.HARNESS_ERROR: "The harness could not do what it promised; nothing is said about the driver.",
}
FINE = frozenset(
    {Verdict.PASS, Verdict.CLEAN_FAILURE, Verdict.OBSERVED, Verdict.NOT_APPLICABLE, Verdict.NOT_REACHED}
)
# These break a MUST whatever the scenario asks: wrong bytes under the final name are never all right.
ALWAYS_MUST = frozenset(
    {
        Verdict.TRUNCATED,
        Verdict.DUPLICATED,
        Verdict.HOLE,
        Verdict.SHIFTED,
        Verdict.SPLICED,
        Verdict.FOREIGN,
        Verdict.CORRUPT,
        Verdict.HANG,
        Verdict.LEAK,
        Verdict.CRASH,
    }
)


@dataclass(frozen=True)
class Expectation:
    """What the scenario asks for; see `midstream._scenario.Expect`."""

    kind: str = "must"
    outcome: str = "complete"
    restart: bool = False
    refetch: int = 1 << 20
    requests: int = 40
    generations: tuple[int, ...] = (1,)  # a complete object may be any one of these


@dataclass(frozen=True)
class Outcome:
    """The driver's own word: `said` is ok, failed, hang or crash; `error` its message."""

    said: str
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Sink:
    """What lies where the driver was to write.

    `runs` tell where each byte under the final name comes from (empty when there is no file); `leftovers` are
    names of other files beside it.
    """

    exists: bool
    size: int = 0
    runs: tuple[Run, ...] = ()
    leftovers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What one check has to say: a verdict it asks for, its level, and why."""

    verdict: Verdict
    level: str
    text: str


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    level: str  # must, should, observe, "" when nothing is broken, harness
    diagnosis: str

    @property
    def breaks_must(self) -> bool:
        return self.level == "must"


@dataclass(frozen=True)
class Seen:
    """Everything a verdict is computed from."""

    expect: Expectation
    outcome: Outcome
    sink: Sink
    facts: Facts
    object_size: int
    specs: Sequence[str] = ()
    control: str = "pass"  # how the control case without faults ended
    findings: Sequence[Finding] = field(default=())


def numbers(n: int) -> str:
    return f"{n:,}"


def _span(start: int, end: int) -> str:
    return f"byte {numbers(start)}" if end - start == 1 else f"bytes {numbers(start)}-{numbers(end - 1)}"


def exact(sink: Sink, size: int, generations: Sequence[int]) -> bool:
    """Whether the file is one whole generation."""
    if not sink.exists or sink.size != size:
        return False
    if size == 0:
        return True
    return len(sink.runs) == 1 and sink.runs[0] in [Run(0, size, g, 0) for g in generations]


def name_damage(sink: Sink, size: int, generations: Sequence[int]) -> tuple[Verdict, str]:
    """Name what is wrong with a file that is not exact."""
    if not sink.exists:
        return Verdict.TRUNCATED, "reported success, but there is no file"
    runs = sink.runs
    foreign = [r for r in runs if r.source == FOREIGN]
    zero = [r for r in runs if r.source == ZERO]
    own = [r for r in runs if r.source > 0]
    sources = sorted({r.source for r in own})
    if len(sources) > 1:
        second = next(r for r in own if r.source != own[0].source)
        return Verdict.SPLICED, (
            f"generation {own[0].source} up to {numbers(second.start)}, "
            f"generation {second.source} from {numbers(second.start)}"
        )
    if foreign and not own:
        return Verdict.FOREIGN, f"none of the {numbers(sink.size)} bytes are the object's"
    if zero and not foreign and all(r.start == r.origin for r in own):
        where = ", ".join(_span(r.start, r.end) for r in zero[:3])
        return Verdict.HOLE, f"{where} zero, {'the rest in place' if own else 'nothing else there'}"
    if foreign:
        first = foreign[0]
        realigned = all(r.start == r.origin for r in own) and sink.size == size
        if realigned and sum(r.length for r in foreign) <= 64:
            return Verdict.CORRUPT, f"{_span(first.start, first.end)} changed, length kept"
        return Verdict.FOREIGN, f"{_span(first.start, first.end)} of the file are not the object's"
    if not own:
        return Verdict.TRUNCATED, f"0 of {numbers(size)} bytes"
    if len(own) == 1 and own[0].start == own[0].origin == 0:
        if sink.size < size:
            return Verdict.TRUNCATED, f"{numbers(sink.size)} of {numbers(size)} bytes"
        if own[0].source not in generations:
            return Verdict.SPLICED, f"all of generation {own[0].source}, which was not to be had"
    return _misplaced(own, size)


def _misplaced(own: Sequence[Run], size: int) -> tuple[Verdict, str]:
    """One generation only, every byte the object's, but not in one piece."""
    reached = 0
    missing: list[str] = []
    for run in own:
        if run.origin < reached:
            twice = min(reached, run.origin + run.length)
            return Verdict.DUPLICATED, (
                f"{_span(run.origin, twice)} twice, the second time at {numbers(run.start)} of the file"
            )
        if run.origin > reached:
            missing.append(f"{_span(reached, run.origin)} missing at {numbers(run.start)} of the file")
        reached = run.origin + run.length
    if missing:
        return Verdict.SHIFTED, "; ".join(missing[:3])
    if reached < size:
        return Verdict.TRUNCATED, f"{numbers(reached)} of {numbers(size)} bytes"
    return Verdict.CORRUPT, "the bytes are the object's, but out of order"


def refetched(facts: Facts, size: int) -> int:
    """Payload bytes sent more than once, over all responses that carried object bytes."""
    spans = sorted((e.base, e.base + e.sent) for e in facts.transfers if e.base is not None and e.sent)
    covered = reached = 0
    for start, end in spans:
        start, end = min(start, size), min(end, size)
        covered += max(0, end - max(start, reached))
        reached = max(reached, end)
    return sum(end - start for start, end in spans) - covered


def tidy(text: str) -> str:
    """A driver's message on one line, without what differs from run to run (ports, addresses, paths)."""
    text = re.sub(r"127\.0\.0\.1:\d+|localhost:\d+", "HOST", " ".join(text.split()))
    text = re.sub(r"0x[0-9a-f]{6,}", "0x...", text)
    text = re.sub(r"(?<![\w.])/(?:[\w.+-]+/)+", "", text)
    return text if len(text) <= 300 else text[:297] + "..."


def _fine(verdict: Verdict, text: str) -> Judgement:
    return Judgement(verdict, "", text)


def judge(seen: Seen) -> Judgement:
    """The verdict of a case; pure and total."""
    facts, expect, outcome = seen.facts, seen.expect, seen.outcome
    if seen.control != "pass":
        return Judgement(Verdict.HARNESS_ERROR, "harness", f"the control case without faults: {seen.control}")
    if facts.trouble:
        return Judgement(Verdict.HARNESS_ERROR, "harness", "; ".join(facts.trouble[:3]))
    if problem := _ours(seen):
        return Judgement(Verdict.HARNESS_ERROR, "harness", problem)
    judgement = _of_driver(seen)
    if judgement.verdict in FINE and (problem := _not_reached(seen)):
        return _fine(Verdict.NOT_REACHED, f"{problem}; the driver {_ended(outcome)}")
    if expect.outcome == "observe" and judgement.verdict not in ALWAYS_MUST:
        return _fine(Verdict.OBSERVED, judgement.diagnosis or f"the driver {_ended(outcome)}")
    return judgement


def _ended(outcome: Outcome) -> str:
    return {"ok": "completed", "failed": f"failed: {tidy(outcome.error)}"}.get(outcome.said, outcome.said)


def _ours(seen: Seen) -> str:
    """A fault that could have fired and did not, or never could: an error of ours, not the driver's."""
    for rule, reasons in sorted(seen.facts.unfired.items()):
        spec = seen.specs[rule] if rule < len(seen.specs) else f"rule {rule + 1}"
        if "passed" in reasons:
            return f"{spec}: its byte went by and the fault did not fire"
        if "absent" in reasons:
            return f"{spec}: no such position in the response, so the fault cannot fire"
    return ""


def _not_reached(seen: Seen) -> str:
    fired = {f.rule for f in seen.facts.fired}
    waiting = [spec for index, spec in enumerate(seen.specs) if index not in fired]
    return f"{waiting[0]}: never reached" if waiting else ""


def _of_driver(seen: Seen) -> Judgement:
    outcome, expect, sink = seen.outcome, seen.expect, seen.sink
    if outcome.said == "crash":
        return Judgement(Verdict.CRASH, "must", tidy(outcome.error) or "the process died")
    if outcome.said == "hang":
        had = f"; {numbers(sink.size)} bytes under the final name" if sink.exists else ""
        return Judgement(Verdict.HANG, "must", f"no end after {outcome.seconds:.0f} s{had}")
    if outcome.said == "ok":
        return _of_success(seen)
    if exact(sink, seen.object_size, expect.generations) and expect.outcome != "failure":
        return Judgement(
            Verdict.NEEDLESS_FAILURE, expect.kind, f"the file is complete, yet: {tidy(outcome.error)}"
        )
    storm = _storm(seen)
    if storm:
        return storm
    partial = f"; {numbers(sink.size)} bytes left under the final name" if sink.exists else ""
    if expect.outcome == "complete":
        return Judgement(Verdict.NEEDLESS_FAILURE, expect.kind, f"{tidy(outcome.error)}{partial}")
    if sink.exists:
        text = f"failed and left {numbers(sink.size)} bytes under the final name: {tidy(outcome.error)}"
        return Judgement(Verdict.LEAK, "must", text)
    return _worst(seen, _fine(Verdict.CLEAN_FAILURE, tidy(outcome.error)))


def _storm(seen: Seen) -> Judgement | None:
    found = next((f for f in seen.findings if f.verdict is Verdict.RETRY_STORM), None)
    return Judgement(found.verdict, found.level, found.text) if found else None


def _of_success(seen: Seen) -> Judgement:
    expect, sink, size = seen.expect, seen.sink, seen.object_size
    if not exact(sink, size, expect.generations):
        verdict, text = name_damage(sink, size, expect.generations)
        return Judgement(verdict, "must", text)
    return _worst(seen, _fine(Verdict.PASS, ""))


def _worst(seen: Seen, otherwise: Judgement) -> Judgement:
    """The gravest finding of the checks, if graver than what is known so far."""
    order = {"must": 0, "should": 1, "observe": 2, "": 3}
    candidates = [Judgement(f.verdict, f.level, f.text) for f in seen.findings]
    return min([otherwise, *candidates], key=lambda j: order[j.level])
