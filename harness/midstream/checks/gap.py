"""What is taken away before it is replaced."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import unquote, urlsplit

from midstream._evidence import Exchange
from midstream._operations import APPEARS
from midstream._verdict import Finding, Seen, Verdict
from midstream.checks import Check

_IN_ITS_NAME = frozenset({"put_object", "put_manifest", "complete_upload"})


class Gap(Check):
    """An object that is there stays until the new one is: PUT replaces in one step (RFC 9110 section 9.3.4).

    A client that deletes it first leaves readers without one for as long as it sends, and for good when it
    fails. Only a deletion that the store carried out counts, and none behind a request that may have stored
    the new object: what a client removes then is its own.
    """

    id: ClassVar[str] = "gap"
    summary: ClassVar[str] = "an object that is to be replaced is not deleted before the new one is there"
    properties: ClassVar[tuple[str, ...]] = ("P42",)

    def check(self, seen: Seen) -> Finding | None:
        if not seen.replaces:
            return None
        for exchange in seen.facts.exchanges:
            here = _path(exchange.target) == unquote(seen.replaces)
            if exchange.operation in APPEARS and (here or exchange.operation not in _IN_ITS_NAME):
                if _may_have_stored(exchange):
                    return None
            elif exchange.operation == "delete_object" and here and 200 <= exchange.status < 300:
                text = f"request {exchange.number} deletes the object that is there before the new one is"
                return Finding(Verdict.UNSAFE, "must", text)
        return None


def _path(target: str) -> str:
    return unquote(urlsplit(target).path)


def _may_have_stored(exchange: Exchange) -> bool:
    """Unless it broke off, or the store itself refused it."""
    return exchange.whole and not (exchange.answered_by == "store" and exchange.status >= 400)


MEMBER = Gap()
