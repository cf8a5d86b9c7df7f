"""How much is sent twice."""

from __future__ import annotations

from typing import ClassVar

from midstream._verdict import Finding, Seen, Verdict, numbers
from midstream.checks import Check


class Resent(Check):
    """A failure costs the request it struck, not the parts before it (P33, a SHOULD).

    Counted are bytes that reached the store. A body that has to go in one request is sent again whole, so the
    largest request is what each fault may cost; a resumable upload begun a second time is a fresh start.
    """

    id: ClassVar[str] = "resent"
    summary: ClassVar[str] = "no more is sent again than the request that failed"
    properties: ClassVar[tuple[str, ...]] = ("P33",)

    def check(self, seen: Seen) -> Finding | None:
        if not seen.upload or seen.expect.restart or seen.outcome.said != "ok":
            return None
        sendings = seen.facts.sendings
        again = sum(e.received for e in sendings) - seen.whole
        largest = max((max(e.declared or 0, e.received) for e in sendings), default=0)
        if again > largest * max(1, len(seen.facts.fired)):
            return Finding(Verdict.RESTARTED, "should", f"{numbers(again)} bytes sent again")
        begun = [e for e in seen.facts.exchanges if e.operation == "create_upload" and 200 <= e.status < 300]
        resumable = any(e.operation == "append_upload" for e in sendings)
        if resumable and len(begun) > 1 and again > 0:
            return Finding(
                Verdict.RESTARTED, "should", f"begun {len(begun)} times, {numbers(again)} bytes sent again"
            )
        return None


MEMBER = Resent()
