"""What an upload leaves in the store."""

from __future__ import annotations

from typing import ClassVar

from midstream._verdict import Finding, Seen, Verdict
from midstream.checks import Check


class Orphans(Check):
    """No part, segment or unfinished upload stays of no object, but what is left to expire (P43).

    Looked up in the store itself after the driver has ended. A scenario in which nobody could remove them
    says so.
    """

    id: ClassVar[str] = "orphans"
    summary: ClassVar[str] = "no parts, segments or unfinished uploads stay in the store"
    properties: ClassVar[tuple[str, ...]] = ("P43",)

    def check(self, seen: Seen) -> Finding | None:
        if not seen.upload or seen.expect.orphans or not seen.orphans:
            return None
        more = f" and {len(seen.orphans) - 3} more" if len(seen.orphans) > 3 else ""
        text = f"left in the store: {', '.join(_plain(name) for name in seen.orphans[:3])}{more}"
        return Finding(Verdict.LEAK, "must", text)


def _plain(name: str) -> str:
    """One line, whatever a driver calls its segments."""
    return " ".join(name.split())


MEMBER = Orphans()
