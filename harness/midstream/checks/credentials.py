"""Where credentials go."""

from __future__ import annotations

from typing import ClassVar

from midstream._verdict import Finding, Seen, Verdict
from midstream.checks import Check

_SECRET = (
    "authorization",
    "x-auth-token",
    "x-auth-key",
    "x-auth-user",
    "cookie",
    "x-amz-security-token",
)


class Credentials(Check):
    """Credentials meant for one host are not sent to another it redirects to (RFC 9110 section 15.4)."""

    id: ClassVar[str] = "credentials"
    summary: ClassVar[str] = "credentials do not follow a redirect to another host"
    properties: ClassVar[tuple[str, ...]] = ("P27",)

    def check(self, seen: Seen) -> Finding | None:
        for exchange in seen.facts.exchanges:
            host = (exchange.field("host") or "").partition(":")[0]
            sent = [name for name in _SECRET if exchange.field(name)]
            if host == "localhost" and sent:
                text = f"request {exchange.number} carried {', '.join(sent)} to another host"
                return Finding(Verdict.UNSAFE, "must", text)
        return None


MEMBER = Credentials()
