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

from midstream._content import FOREIGN, RECORD, ZERO, Run
from midstream._evidence import Facts, redact_target


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
    UNSAFE = "unsafe"
    OBSERVED = "observed"
    NOT_APPLICABLE = "not_applicable"
    NOT_REACHED = "not_reached"
    HARNESS_ERROR = "harness_error"


MEANING: dict[Verdict, str] = {
    Verdict.PASS: "The driver reported success and its file is the object, byte for byte.",
    Verdict.RESTARTED: "The file is exact, but the driver fetched again more than it had to.",
    Verdict.NEEDLESS_FAILURE: "The driver gave a clean error where it could and should have completed.",
    Verdict.CLEAN_FAILURE: "The driver gave an error that is right here, and published nothing wrong.",
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
    Verdict.UNSAFE: "The result is right this time, but a request broke a rule that protects it.",
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
    orphans: bool = False  # whether unfinished uploads may stay
    objects: tuple[tuple[int, int], ...] = ()  # and has one of these (generation, size); () : object_size


@dataclass(frozen=True)
class Outcome:
    """The driver's own word: `said` is ok, failed, hang or crash; `error` its message.

    `not run` stands in results of cases that never came to the driver.
    """

    said: str
    error: str = ""
    seconds: float = 0.0
    peak_kib: int = 0  # the driver's peak resident memory during the job; 0: not measured


@dataclass(frozen=True)
class Sink:
    """What lies where the driver was to write.

    `runs` tell where each byte under the final name comes from (empty when there is no file); `leftovers` are
    names of other files beside it. `lost` says that what was under the final name before the case is gone,
    `unreadable` why a store has an object there that it cannot give.
    """

    exists: bool
    size: int = 0
    runs: tuple[Run, ...] = ()
    leftovers: tuple[str, ...] = ()
    lost: bool = False
    unreadable: str = ""


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
    harmed: bool = False  # a fault ends servers behind the store: from then on its errors are asked for
    upload: bool = False  # `sink` is then what the store holds under the object's name
    published: Sequence[Sink] = ()  # and this what it held each time it said that it had published one
    orphans: Sequence[str] = ()  # and this what uploads left there that belongs to no object
    total: int = -1  # the whole object's size, where `object_size` is that of the part asked for

    @property
    def whole(self) -> int:
        """The size of the whole object, the largest of those it had."""
        return max([self.object_size, self.total, *(size for _, size in self.expect.objects)])


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


def complete(sink: Sink, expect: Expectation, size: int) -> bool:
    """Whether the file is one of the objects that may be delivered."""
    return any(exact(sink, s, (g,)) for g, s in _wanted(expect, size))


def _wanted(expect: Expectation, size: int) -> list[tuple[int, int]]:
    return [(g, s) for g, s in expect.objects if g in expect.generations] or [
        (g, size) for g in expect.generations
    ]


def _size_of(sink: Sink, expect: Expectation, size: int) -> int:
    """How long the object would be that the file begins with."""
    first = next((r.source for r in sink.runs if r.source > 0), 0)
    sizes = [s for g, s in expect.objects if g == first]
    return size if not sizes or size in sizes else sizes[0]


def name_damage(sink: Sink, size: int, generations: Sequence[int]) -> tuple[Verdict, str]:
    """Name what is wrong with a file that is not exact."""
    if not sink.exists:
        return Verdict.TRUNCATED, "reported success, but there is no file"
    own = [r for r in sink.runs if r.source > 0]
    zero = [r for r in sink.runs if r.source == ZERO]
    foreign = [r for r in sink.runs if r.source == FOREIGN]
    if second := next((r for r in own if r.source != own[0].source), None):
        return Verdict.SPLICED, (
            f"generation {own[0].source} up to {numbers(second.start)}, "
            f"generation {second.source} from {numbers(second.start)}"
        )
    in_place = all(r.start == r.origin for r in own)
    if zero and not foreign and in_place and sink.size <= size:
        where = ", ".join(_span(r.start, r.end) for r in zero[:3])
        return Verdict.HOLE, f"{where} zero, {'the rest in place' if own else 'nothing else there'}"
    if foreign or zero:
        return _not_ours(own, sorted([*foreign, *zero], key=lambda r: r.start), sink.size, size, in_place)
    if not own:
        return Verdict.TRUNCATED, f"0 of {numbers(size)} bytes"
    if len(own) == 1 and in_place and sink.size >= size and own[0].source not in generations:
        return Verdict.SPLICED, f"all of generation {own[0].source}, which was not to be had"
    return _misplaced(own, size)


def _not_ours(
    own: Sequence[Run], other: Sequence[Run], length: int, size: int, in_place: bool
) -> tuple[Verdict, str]:
    """Bytes in the file that the object does not have there."""
    if not own:
        return Verdict.FOREIGN, f"none of the {numbers(length)} bytes are the object's"
    first = other[0]
    # A few changed bytes with everything else where it belongs are damage, not somebody else's text.
    if in_place and length == size and sum(r.length for r in other) <= 64:
        return Verdict.CORRUPT, f"{_span(first.start, first.end)} changed, length kept"
    return Verdict.FOREIGN, f"{_span(first.start, first.end)} of the file are not the object's"


def _misplaced(own: Sequence[Run], size: int) -> tuple[Verdict, str]:
    """One generation only, every byte the object's, but not in one piece."""
    had: list[tuple[int, int]] = []
    for run in own:
        start, end = run.origin, run.origin + run.length
        twice = [(max(start, a), min(end, b)) for a, b in had if a < end and start < b]
        # Records begin alike, so a run may take a few bytes more than it should where another joins it. Only
        # what follows directly tells exactly.
        twice = [(a, b) for a, b in twice if b - a >= RECORD or b == had[-1][1]]
        if twice:
            a, b = min(twice)
            at = numbers(run.start + a - start)
            return Verdict.DUPLICATED, f"{_span(a, b)} twice, the second time at {at} of the file"
        had.append((start, end))
    if had != sorted(had):
        return Verdict.CORRUPT, "the bytes are the object's, but out of order"
    missing: list[str] = []
    reached = 0
    for run in own:
        if run.origin > reached:
            missing.append(f"{_span(reached, run.origin)} missing at {numbers(run.start)} of the file")
        reached = run.origin + run.length
    if not missing:
        if reached < size:
            return Verdict.TRUNCATED, f"{numbers(reached)} of {numbers(size)} bytes"
        return (
            Verdict.FOREIGN,
            f"{numbers(reached)} bytes, {numbers(reached - size)} more than the object has",
        )
    if reached < size:
        missing.append(f"{_span(reached, size)} missing at the end")
    return Verdict.SHIFTED, "; ".join(missing[:3])


def refetched(facts: Facts, size: int) -> int:
    """Payload bytes sent more than once, over all responses that carried object bytes."""
    spans = sorted(
        (min(e.base, size), min(e.base + e.sent, size))
        for e in facts.transfers
        if e.base is not None and e.sent
    )
    covered = reached = 0
    for start, end in spans:
        covered += max(0, end - max(start, reached))
        reached = max(reached, end)
    return sum(end - start for start, end in spans) - covered


def tidy(text: str) -> str:
    """A driver's message on one line, without secrets and what differs from run to run."""
    text = re.sub(r"127\.0\.0\.1:\d+|localhost:\d+", "HOST", redact_target(" ".join(text.split())))
    text = re.sub(r"(?i)host='?(?:127\.0\.0\.1|localhost)'?, port=\d+", "HOST", text)
    text = re.sub(r"\b(?:localhost|127\.0\.0\.1)(?: \([^)]*\))? port \d+", "HOST", text)
    text = re.sub(r"\bafter \d[\d.]* ?(ms|milliseconds|seconds|s)\b", r"after ... \1", text)
    text = re.sub(r"0x[0-9a-fA-F]{6,}", "0x...", text)
    text = re.sub(r"(?<![\w./:])/(?:[\w.+-]+/)+", "", text)
    return text if len(text) <= 300 else text[:297] + "..."


def _fine(verdict: Verdict, text: str) -> Judgement:
    return Judgement(verdict, "", text)


def judge(seen: Seen) -> Judgement:
    """The verdict of a case; pure and total."""
    facts, expect, outcome = seen.facts, seen.expect, seen.outcome
    if seen.control != "pass":
        return Judgement(Verdict.HARNESS_ERROR, "harness", f"the control case without faults: {seen.control}")
    if facts.trouble:
        return Judgement(Verdict.HARNESS_ERROR, "harness", "; ".join(list(dict.fromkeys(facts.trouble))[:3]))
    if problem := _ours(seen):
        return Judgement(Verdict.HARNESS_ERROR, "harness", problem)
    judgement = _of_driver(seen)
    if facts.dropped and judgement.verdict is not Verdict.RETRY_STORM:
        return Judgement(Verdict.HARNESS_ERROR, "harness", f"{facts.dropped} events too many to be kept")
    if judgement.verdict not in FINE and (problem := _failing_store(seen)):
        return Judgement(Verdict.HARNESS_ERROR, "harness", problem)
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
        if "absent" in reasons and not _bounded(seen.facts):
            return f"{spec}: no such position in the response, so the fault cannot fire"
    return ""


def _bounded(facts: Facts) -> bool:
    """Whether the driver says where ranges end: then how long a response is, is its own choice."""
    return any(re.fullmatch(r"bytes=\d+-\d+", e.range or "") for e in facts.exchanges)


def _failing_store(seen: Seen) -> str:
    """An error of the store itself, which no fault asked for: what follows from it is not the driver's."""
    facts = seen.facts
    if seen.harmed and facts.fired:
        return ""
    failed = [e for e in facts.exchanges if e.answered_by == "store" and e.status in (500, 502, 503, 504)]
    return f"the store itself answered request {failed[0].number} with {failed[0].status}" if failed else ""


def _not_reached(seen: Seen) -> str:
    fired = {f.rule for f in seen.facts.fired}
    waiting = [spec for index, spec in enumerate(seen.specs) if index not in fired]
    return f"{waiting[0]}: never reached" if waiting else ""


def _of_driver(seen: Seen) -> Judgement:
    outcome, expect, sink = seen.outcome, seen.expect, seen.sink
    thing = "object in the store" if seen.upload else "file"
    if seen.upload and (wrong := _published_wrong(seen)):
        return wrong
    if outcome.said == "crash":
        return Judgement(Verdict.CRASH, "must", tidy(outcome.error) or "the process died")
    if outcome.said == "hang":
        had = f"; {numbers(sink.size)} bytes under the final name" if sink.exists else ""
        return Judgement(Verdict.HANG, "must", f"{outcome.error or 'no end'}{had}")
    if outcome.said == "ok":
        return _of_success(seen)
    if complete(sink, expect, seen.object_size) and expect.outcome == "either":
        return _worst(seen, _fine(Verdict.CLEAN_FAILURE, f"the {thing} is complete; {tidy(outcome.error)}"))
    if complete(sink, expect, seen.object_size) and expect.outcome != "failure":
        return Judgement(
            Verdict.NEEDLESS_FAILURE, expect.kind, f"the {thing} is complete, yet: {tidy(outcome.error)}"
        )
    if sink.lost:
        gone = f"failed, and what was under the final name before is gone: {tidy(outcome.error)}"
        return Judgement(Verdict.LEAK, "must", gone)
    storm = _storm(seen)
    if storm:
        return storm
    if expect.outcome == "complete" and (expect.kind == "must" or not sink.exists):
        partial = f"; {numbers(sink.size)} bytes left under the final name" if sink.exists else ""
        return Judgement(Verdict.NEEDLESS_FAILURE, expect.kind, f"{tidy(outcome.error)}{partial}")
    if sink.exists:
        text = f"failed and left {numbers(sink.size)} bytes under the final name: {tidy(outcome.error)}"
        return Judgement(Verdict.LEAK, "must", text)
    return _worst(seen, _fine(Verdict.CLEAN_FAILURE, tidy(outcome.error)))


def _published_wrong(seen: Seen) -> Judgement | None:
    """An object in the store that is none the driver had to send, for however long, whatever it says."""
    for state in (*seen.published, seen.sink):
        if not state.exists or complete(state, seen.expect, seen.object_size):
            continue
        if state.unreadable:
            return Judgement(Verdict.HOLE, "must", f"published, and cannot be read: {tidy(state.unreadable)}")
        size = _size_of(state, seen.expect, seen.object_size)
        verdict, text = name_damage(state, size, seen.expect.generations)
        last = (state.size, state.runs) == (seen.sink.size, seen.sink.runs)
        when = "" if last else ", replaced later"
        said = "" if seen.outcome.said == "ok" else f"; the driver {_ended(seen.outcome)}"
        return Judgement(verdict, "must", f"published: {text}{when}{said}")
    return None


def _storm(seen: Seen) -> Judgement | None:
    found = next((f for f in seen.findings if f.verdict is Verdict.RETRY_STORM), None)
    return Judgement(found.verdict, found.level, found.text) if found else None


def _of_success(seen: Seen) -> Judgement:
    expect, sink, size = seen.expect, seen.sink, seen.object_size
    if seen.upload and not sink.exists:
        return Judgement(Verdict.TRUNCATED, "must", "reported success, but there is no object")
    if not complete(sink, expect, size):
        verdict, text = name_damage(sink, _size_of(sink, expect, size), expect.generations)
        return Judgement(verdict, "must", text + _stopped_at_redirect(seen.facts))
    return _worst(seen, _fine(Verdict.PASS, ""))


def _stopped_at_redirect(facts: Facts) -> str:
    """Where to look, when the driver took a redirect for its last answer; `curl` without -L does."""
    last = facts.transfers[-1] if facts.transfers else None
    if last is None or last.status not in (301, 302, 303, 307, 308):
        return ""
    return f"; the last answer was a {last.status} redirect, and nothing was asked here after it"


def _worst(seen: Seen, otherwise: Judgement) -> Judgement:
    """The gravest finding of the checks, if graver than what is known so far."""
    order = {"must": 0, "should": 1, "observe": 2, "": 3}
    candidates = [Judgement(f.verdict, f.level, f.text) for f in seen.findings if f.level in order]
    return min([otherwise, *candidates], key=lambda j: order[j.level])
