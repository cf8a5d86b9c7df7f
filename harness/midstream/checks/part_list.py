"""What an upload is completed with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from midstream._evidence import Exchange
from midstream._verdict import Finding, Seen, Verdict, numbers
from midstream.checks import Check


class PartList(Check):
    """The list that completes an upload is dense: each part that was sent, once and in order (P44).

    Held against the requests that were seen: parts that an earlier run sent count too. A Swift manifest has
    to add up to the object.
    """

    id: ClassVar[str] = "part-list"
    summary: ClassVar[str] = "an upload is completed with every part, once and in order"
    properties: ClassVar[tuple[str, ...]] = ("P44",)

    def check(self, seen: Seen) -> Finding | None:
        for exchange in seen.facts.exchanges if seen.upload else ():
            wrong = ""
            if exchange.operation == "complete_upload":
                wrong = _listed_wrong(exchange, seen.facts.exchanges)
            elif exchange.operation == "put_manifest":
                wrong = _adds_up(exchange, {size for _, size in seen.expect.objects} or {seen.object_size})
            if wrong:
                return Finding(Verdict.UNSAFE, "must", f"request {exchange.number} {wrong}")
        return None


def _query(exchange: Exchange, name: str) -> str:
    return parse_qs(urlsplit(exchange.target).query).get(name, [""])[0]


def _listed_wrong(complete: Exchange, exchanges: Iterable[Exchange]) -> str:
    listed = [int(n) for n in re.findall(r"<PartNumber>\s*(\d{1,9})\s*</PartNumber>", complete.document)]
    if not listed:
        return ""  # not kept, or in a form unknown here
    if listed != sorted(set(listed)):
        return f"lists its parts out of order or twice: {_shown(listed)}"
    upload = _query(complete, "uploadId")
    sent = {
        int(_query(e, "partNumber") or 0)
        for e in exchanges
        if e.operation == "upload_part"
        and e.number < complete.number
        and 200 <= e.status < 300
        and _query(e, "uploadId") == upload
        and unquote(urlsplit(e.target).path) == unquote(urlsplit(complete.target).path)
    }
    lacking = sorted(sent - set(listed))
    if lacking:
        return f"leaves out parts that were sent: {_shown(lacking)}"
    missing = sorted(set(range(1, listed[-1] + 1)) - set(listed))
    return f"has no part {_shown(missing)} of {listed[-1]}" if missing else ""


def _shown(found: list[int]) -> str:
    return ", ".join(map(str, found[:5])) + ("..." if len(found) > 5 else "")


def _adds_up(manifest: Exchange, sizes: set[int]) -> str:
    """A static large object's list: its sizes, where it gives them."""
    try:
        rows = json.loads(manifest.document)
        total = sum(int(row["size_bytes"]) for row in rows)
    except (ValueError, KeyError, TypeError):
        return ""  # a dynamic one, or without sizes
    return "" if total in sizes else f"lists segments of {numbers(total)} bytes in all"


MEMBER = PartList()
