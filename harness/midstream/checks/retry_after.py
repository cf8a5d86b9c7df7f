"""Waiting when told to."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import ClassVar

from midstream._evidence import Exchange
from midstream._verdict import Finding, Seen, Verdict
from midstream.checks import Check

# The clock starts when the answer is handed to the kernel; a driver may round down a little.
TOLERANCE = 0.05


class RetryAfter(Check):
    """The next object request comes no sooner than Retry-After says (RFC 9110 section 10.2.3), unless it is
    for another range, fetched at the same time.

    Only whole seconds are checked, and only a lower bound, so a busy machine cannot break it.
    """

    id: ClassVar[str] = "retry-after"
    summary: ClassVar[str] = "Retry-After is waited for"
    properties: ClassVar[tuple[str, ...]] = ("P30",)

    def check(self, seen: Seen) -> Finding | None:
        transfers = seen.facts.transfers
        for exchange, following in pairwise(transfers):
            value = exchange.retry_after or ""
            if exchange.status not in (429, 503) or not value.isdigit() or exchange.ended_at is None:
                continue
            waited = following.started_at - exchange.ended_at
            if waited < int(value) - TOLERANCE and not _apart(exchange, following):
                text = f"asked again before the {value} s of Retry-After were over"
                return Finding(Verdict.RETRY_STORM, "must", text)
        return None


def _apart(one: Exchange, other: Exchange) -> bool:
    """Whether they are for two of several ranges, fetched at once: the other may have been on its way."""
    a, b = one.range or "", other.range or ""
    return a != b and all(re.fullmatch(r"bytes=\d+-\d+", r) for r in (a, b))


MEMBER = RetryAfter()
