"""How much is fetched twice."""

from __future__ import annotations

from typing import ClassVar

from midstream._evidence import refetched
from midstream._verdict import Finding, Seen, Verdict, numbers
from midstream.checks import Check


class Refetch(Check):
    """A drop costs at most one buffer, not a fresh start (P33, a SHOULD)."""

    id: ClassVar[str] = "refetch"
    summary: ClassVar[str] = "what was already delivered is not fetched again"
    properties: ClassVar[tuple[str, ...]] = ("P9", "P33")

    def check(self, seen: Seen) -> Finding | None:
        if seen.expect.restart or seen.outcome.said != "ok":
            return None
        again = refetched(seen.facts, seen.whole)
        allowed = seen.expect.refetch * max(1, len(seen.facts.fired))
        if again <= allowed and not _from_scratch(seen):
            return None
        text = f"{numbers(again)} bytes fetched again after they had been delivered"
        return Finding(Verdict.RESTARTED, "should", text)


def _from_scratch(seen: Seen) -> bool:
    """Whether a response that a fault ended was fetched again from the object's first byte to its last.

    A small object is fetched again in less than one allowance, so its second start is what counts. A probe
    of the first bytes, and a retry of one part of several, are no second start.
    """
    struck = {f.exchange for f in seen.facts.fired}
    had = 0
    for e in seen.facts.transfers:
        if e.base != 0:
            continue
        if had and e.sent >= had and (e.length is None or e.length >= seen.whole):
            return True
        if e.number in struck:
            had = max(had, e.sent)
    return False


MEMBER = Refetch()
