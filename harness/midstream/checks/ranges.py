"""Ranges that make no sense."""

from __future__ import annotations

import re
from typing import ClassVar

from midstream._verdict import Finding, Seen, Verdict
from midstream.checks import Check


class Ranges(Check):
    """No empty, inverted or past-end range is asked for once the size is known (RFC 9110 section 14.1.1)."""

    id: ClassVar[str] = "ranges"
    summary: ClassVar[str] = "no empty, inverted or past-end range is requested"
    properties: ClassVar[tuple[str, ...]] = ("P15",)

    def check(self, seen: Seen) -> Finding | None:
        told = False  # whether the driver has seen a response that tells the size
        for exchange in seen.facts.exchanges:
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", exchange.range or "")
            if found and exchange.operation == "get_object":
                first, last = int(found[1]), int(found[2]) if found[2] else None
                if last is not None and last < first:
                    return self._finding(seen, exchange.number, exchange.range)
                if told and first >= seen.whole > 0:
                    return self._finding(seen, exchange.number, exchange.range)
            whole = exchange.status == 200 and exchange.length == seen.whole
            told = told or whole or (exchange.status == 206 and exchange.base is not None)
        return None

    @staticmethod
    def _finding(seen: Seen, number: int, value: str | None) -> Finding:
        text = f"request {number} asked for {value} of {seen.whole:,} bytes"
        return Finding(Verdict.UNSAFE, "must", text)


MEMBER = Ranges()
