"""Validators that prove nothing byte for byte."""

from __future__ import annotations

from typing import ClassVar

from midstream._verdict import Finding, Seen, Verdict
from midstream.checks import Check


class WeakValidator(Check):
    """A weak ETag is not sent in If-Range or, for a range, in If-Match (RFC 9110 sections 13.1.1, 13.1.5)."""

    id: ClassVar[str] = "weak-validator"
    summary: ClassVar[str] = "no range is made conditional on a weak ETag"
    properties: ClassVar[tuple[str, ...]] = ("P11",)

    def check(self, seen: Seen) -> Finding | None:
        for exchange in seen.facts.transfers:
            for name in ("if-range", "if-match"):
                value = exchange.field(name) or ""
                if exchange.range and value.startswith("W/"):
                    text = f"request {exchange.number} relies on a weak ETag: {name} {value}"
                    return Finding(Verdict.UNSAFE, "must", text)
        return None


MEMBER = WeakValidator()
