"""Answers that will not change by asking again."""

from __future__ import annotations

from typing import ClassVar

from midstream._evidence import Exchange
from midstream._verdict import Finding, Seen, Verdict
from midstream.checks import Check

FINAL = frozenset({400, 403, 404, 405, 406, 410, 412, 416})
ALLOWED = 2  # the request itself, and one more: after a renewal, or from another start


def _same_question(exchange: Exchange) -> tuple[str | None, ...]:
    return (exchange.target, exchange.range, exchange.field("if-match"), exchange.field("if-range"))


class FinalAnswers(Check):
    """The very request that got a final answer is not sent over and over (RFC 9110 section 15.5)."""

    id: ClassVar[str] = "final-answers"
    summary: ClassVar[str] = "a request with a final answer is not repeated unchanged"
    properties: ClassVar[tuple[str, ...]] = ("P24", "P32")

    def check(self, seen: Seen) -> Finding | None:
        asked: dict[tuple[str | None, ...], int] = {}
        for exchange in seen.facts.sendings if seen.upload else seen.facts.transfers:
            if exchange.status in FINAL:
                key = (*_same_question(exchange), str(exchange.status))
                asked[key] = asked.get(key, 0) + 1
        most = max(asked, key=lambda key: asked[key], default=None)
        if most is None or asked[most] <= ALLOWED:
            return None
        text = f"asked {asked[most]} times for what was answered by {most[-1]}"
        return Finding(Verdict.RETRY_STORM, "must", text)


MEMBER = FinalAnswers()
