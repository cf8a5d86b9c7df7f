"""What is asked before a resumable upload goes on."""

from __future__ import annotations

from typing import ClassVar

from midstream._evidence import Exchange
from midstream._verdict import Finding, Seen, Verdict
from midstream.checks import Check


class StatusQuery(Check):
    """After a failed append the server is asked for its offset, again if need be, before more is sent (P47).

    An answer that names the offset (Upload-Offset, as a 409 of tus may) has been asked. A query that fails is
    no reason for a new upload.
    """

    id: ClassVar[str] = "status-query"
    summary: ClassVar[str] = "a resumable upload goes on where the server says, and is not begun anew"
    properties: ClassVar[tuple[str, ...]] = ("P47",)

    def check(self, seen: Seen) -> Finding | None:
        if not seen.upload:
            return None
        doubt: dict[str, Exchange] = {}  # by upload: the append of which nobody knows what came of it
        failed: Exchange | None = None  # a query that was not answered
        for e in seen.facts.exchanges:
            heard = bool(e.wire) and e.end != "cut" and 200 <= e.status < 300
            if e.operation == "append_upload":
                if before := doubt.get(e.target):
                    text = f"request {e.number} goes on without asking what became of request {before.number}"
                    return Finding(Verdict.UNSAFE, "must", text)
                if not heard and (e.end == "cut" or "upload-offset" not in e.answer):
                    doubt[e.target] = e
            elif e.operation == "upload_offset":
                answered = heard or 400 <= e.status < 500
                failed = None if answered else e
                if answered:
                    doubt.pop(e.target, None)
            elif e.operation == "create_upload" and failed and not seen.expect.restart:
                text = f"request {e.number} begins anew after request {failed.number}, a query that failed"
                return Finding(Verdict.RESTARTED, "must", text)
        return None


MEMBER = StatusQuery()
