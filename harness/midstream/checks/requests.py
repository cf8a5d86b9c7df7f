"""How many requests a recovery takes."""

from __future__ import annotations

from typing import ClassVar

from midstream._schedule import TCP
from midstream._verdict import Finding, Seen, Verdict
from midstream.checks import Check


class Requests(Check):
    """Retries are bounded: more object requests than the scenario allows are a storm (P29)."""

    id: ClassVar[str] = "requests"
    summary: ClassVar[str] = "object requests stay within what the scenario allows"
    properties: ClassVar[tuple[str, ...]] = ("P29", "P30")

    def check(self, seen: Seen) -> Finding | None:
        exchanges = seen.facts.exchanges
        heads = sum(e.operation == "head_object" for e in exchanges)
        # A connection that never came to a request is an attempt too.
        silent = seen.facts.connections - len({e.connection for e in exchanges})
        asked = seen.facts.sendings if seen.upload else seen.facts.transfers
        made, what = max(
            (len(asked) + max(0, silent), "object requests"),
            (heads, "requests for the object's size"),
            (sum(e.method == TCP for e in exchanges), "connections"),
        )
        if made <= seen.expect.requests:
            return None
        text = f"{made} {what}, {seen.expect.requests} allowed"
        return Finding(Verdict.RETRY_STORM, seen.expect.kind, text)


MEMBER = Requests()
