"""How many requests a recovery takes."""

from __future__ import annotations

import re
from typing import ClassVar

from midstream._schedule import TCP
from midstream._verdict import Finding, Seen, Verdict
from midstream.checks import Check


class Requests(Check):
    """Retries are bounded: more object requests than the scenario allows are a storm (P29).

    To a driver that fetches several ranges, each whose end it says, as much is allowed for each.
    """

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
        allowed = seen.expect.requests * max(1, len(_starts(seen)))
        if made <= allowed:
            return None
        text = f"{made} {what}, {allowed} allowed"
        return Finding(Verdict.RETRY_STORM, seen.expect.kind, text)


def _starts(seen: Seen) -> set[str]:
    """Where the ranges begin whose ends the driver says: each has its own recovery."""
    found = (re.fullmatch(r"bytes=(\d+)-\d+", e.range or "") for e in seen.facts.transfers)
    return {match[1] for match in found if match}


MEMBER = Requests()
