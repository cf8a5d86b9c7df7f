"""What a retry sends."""

from __future__ import annotations

from typing import ClassVar

from midstream._evidence import Exchange
from midstream._verdict import Finding, Seen, Verdict, numbers
from midstream.checks import Check

WHOLE = frozenset({"put_object", "upload_part", "put_segment"})  # the target says which bytes these carry


class SameBytes(Check):
    """A request that is sent again announces as many bytes as before (P41; RFC 9110 section 9.2.2).

    A body that has been read already is shorter, or empty. Where the source changes meanwhile, or two drivers
    send, lengths prove nothing.
    """

    id: ClassVar[str] = "same-bytes"
    summary: ClassVar[str] = "a part that is sent again is as long as before"
    properties: ClassVar[tuple[str, ...]] = ("P41",)

    def check(self, seen: Seen) -> Finding | None:
        if not seen.upload or {size for _, size in seen.expect.objects} - {seen.object_size}:
            return None
        before: dict[str, Exchange] = {}
        for exchange in seen.facts.sendings:
            if exchange.operation not in WHOLE or exchange.declared is None:
                continue
            first = before.setdefault(exchange.target.partition("&X-Amz-")[0], exchange)
            if first.declared != exchange.declared:
                text = (
                    f"request {exchange.number} sends {numbers(exchange.declared)} bytes where request "
                    f"{first.number} sent {numbers(first.declared or 0)}"
                )
                return Finding(Verdict.UNSAFE, "must", text)
        return None


MEMBER = SameBytes()
