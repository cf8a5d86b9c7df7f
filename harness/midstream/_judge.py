"""From what was seen to what it proves: one pure function.

Nothing here reads a file, a clock or a socket. `judge` is given the expectation, the driver's own word, the
account of the sink and the folded evidence, and gives one verdict with its level and a diagnosis in words.
It suspects the harness first: a fault that did not fire, or trouble on our side of the wire, is never a
finding about the driver.
"""

from __future__ import annotations

import re

from midstream._damage import complete, name_damage, size_of
from midstream._evidence import Facts, redact_target
from midstream._verdict import ALWAYS_MUST, FINE, Judgement, Outcome, Seen, Verdict, numbers


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
        return Judgement(Verdict.HARNESS_ERROR, "harness", seen.control)
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
        size = size_of(state, seen.expect, seen.object_size)
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
        verdict, text = name_damage(sink, size_of(sink, expect, size), expect.generations)
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
