"""What a ranged request says it would take."""

from __future__ import annotations

import re
from typing import ClassVar

from midstream._verdict import Finding, Seen, Verdict
from midstream.checks import Check


class Codings(Check):
    """A continuation invites no content coding: its range would count other bytes (RFC 9110 section 14.1.2).

    Silence is not held against a driver, an explicit invitation (gzip, br, *) is.
    """

    id: ClassVar[str] = "codings"
    summary: ClassVar[str] = "no continuation invites a content coding"
    properties: ClassVar[tuple[str, ...]] = ("P14",)

    def check(self, seen: Seen) -> Finding | None:
        for exchange in seen.facts.transfers:
            offered = exchange.field("accept-encoding") or ""
            names = {re.split(r"[;\s]", part.strip())[0] for part in offered.lower().split(",")}
            if exchange.range and names - {"", "identity"}:
                text = f"request {exchange.number} asks for a range and invites {offered}"
                return Finding(Verdict.UNSAFE, "should", text)
        return None


MEMBER = Codings()
