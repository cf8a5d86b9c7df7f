"""How much is fetched twice."""

from __future__ import annotations

from typing import ClassVar

from midstream._verdict import Finding, Seen, Verdict, numbers, refetched
from midstream.checks import Check


class Refetch(Check):
    """A drop costs at most one buffer, not a fresh start (P33, a SHOULD)."""

    id: ClassVar[str] = "refetch"
    summary: ClassVar[str] = "what was already delivered is not fetched again"
    properties: ClassVar[tuple[str, ...]] = ("P9", "P33")

    def check(self, seen: Seen) -> Finding | None:
        if seen.expect.restart or seen.outcome.said != "ok":
            return None
        again = refetched(seen.facts, seen.object_size)
        allowed = seen.expect.refetch * max(1, len(seen.facts.fired))
        # A small object is fetched again in less than one allowance: then a second start is what counts.
        starts = [e for e in seen.facts.transfers if e.base == 0 and e.sent]
        from_zero = sum(e.sent for e in starts) - max((e.sent for e in starts), default=0)
        if again <= allowed and (len(starts) < 2 or from_zero == 0):
            return None
        return Finding(
            Verdict.RESTARTED, "should", f"{numbers(again)} bytes fetched again after they had been delivered"
        )


MEMBER = Refetch()
