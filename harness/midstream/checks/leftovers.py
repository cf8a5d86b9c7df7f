"""What a driver leaves behind."""

from __future__ import annotations

from typing import ClassVar

from midstream._verdict import Finding, Seen, Verdict
from midstream.checks import Check


class Leftovers(Check):
    """After success there is the object and nothing else (P36, P43); a failure may keep its partial."""

    id: ClassVar[str] = "leftovers"
    summary: ClassVar[str] = "no temporary file stays after success"
    properties: ClassVar[tuple[str, ...]] = ("P36", "P43")

    def check(self, seen: Seen) -> Finding | None:
        if seen.outcome.said != "ok" or not seen.sink.leftovers:
            return None
        text = f"left behind after success: {', '.join(seen.sink.leftovers[:3])}"
        return Finding(Verdict.LEAK, "must", text)


MEMBER = Leftovers()
