"""What the origin answers: conditional and range requests of RFC 9110, without any I/O.

`respond` is a pure function of the method, the object and the request's head.

Choices where the RFC leaves one: several ranges in one request are answered with the whole object (200), as
is a suffix range of an empty object, which no Content-Range can describe. An object shown with a weak
validator has no Last-Modified, so that nothing stronger is at hand. With `ranges` off, Accept-Ranges is left
out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime

from midstream._wire import Head
from midstream.stores import Traits

REASONS = {
    104: "Upload Resumption Supported",
    200: "OK",
    201: "Created",
    204: "No Content",
    206: "Partial Content",
    304: "Not Modified",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    412: "Precondition Failed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    416: "Range Not Satisfiable",
    431: "Request Header Fields Too Large",
    460: "Checksum Mismatch",
    505: "HTTP Version Not Supported",
}


@dataclass(frozen=True, slots=True)
class Digests:
    """Digests of a whole object, in base64 as the fields carry them."""

    md5: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Item:
    """An object as the origin holds it: `tag` is what its ETag quotes, `modified` seconds since the epoch."""

    size: int
    tag: str
    modified: int
    read: Callable[[int, int], bytes]
    traits: Traits = field(default_factory=Traits)
    digests: Callable[[], Digests] | None = None  # None when the object shows none

    @property
    def etag(self) -> str | None:
        """The ETag field's value, or None when the object shows none."""
        if self.traits.validator == "strong":
            return f'"{self.tag}"'
        return f'W/"{self.tag}"' if self.traits.validator == "weak" else None

    @property
    def last_modified(self) -> int | None:
        return self.modified if self.traits.validator in ("strong", "modified") else None


@dataclass(frozen=True, slots=True)
class Answer:
    """A response before it is framed: object bytes [first, first + length), or `text`, behind its fields."""

    status: int
    fields: list[tuple[str, str]] = field(default_factory=list)
    item: Item | None = None  # the object whose bytes follow
    first: int = 0
    length: int = 0
    text: bytes = b""
    close: bool = False


def plain(status: int, *fields: tuple[str, str], detail: str = "", close: bool = False) -> Answer:
    """An answer without an object, with a line that says what it is."""
    text = "" if status in (204, 304) else f"{status} {REASONS[status]}{': ' if detail else ''}{detail}\n"
    return Answer(status, list(fields), text=text.encode(), close=close)


def respond(method: str, item: Item | None, head: Head, now: float) -> Answer:
    """The answer to a GET or HEAD."""
    if item is None:  # preconditions count only for what would succeed without them (RFC 9110 13.2.1)
        return plain(404)
    if method == "HEAD" and not item.traits.head:
        return plain(405, ("Allow", "GET"))
    failed = precondition(method, item, head)
    if failed == 412:
        return plain(412)
    fields = _validators(item)
    if failed == 304:
        return plain(304, *fields)
    if item.traits.ranges:
        fields.append(("Accept-Ranges", "bytes"))
    fields.append(("Content-Type", "application/octet-stream"))
    if item.digests:
        fields.append(("Repr-Digest", f"sha-256=:{item.digests().sha256}:"))
    if (
        method == "GET"
        and item.traits.ranges
        and (wanted := head.get("range"))
        and _if_range(item, head, now)
    ):
        span = select(wanted, item.size)
        if span is not None:
            first, length = span
            if not length:
                return plain(416, ("Content-Range", f"bytes */{item.size}"), *_validators(item))
            fields.append(("Content-Range", f"bytes {first}-{first + length - 1}/{item.size}"))
            return Answer(206, fields, item, first, length)
    if item.digests:
        fields.append(("Content-MD5", item.digests().md5))
    return Answer(200, fields, item, 0, item.size)


def _validators(item: Item) -> list[tuple[str, str]]:
    fields = []
    if item.etag:
        fields.append(("ETag", item.etag))
    if item.last_modified is not None:
        fields.append(("Last-Modified", formatdate(item.last_modified, usegmt=True)))
    return fields


def precondition(method: str, item: Item | None, head: Head) -> int | None:
    """412 or 304 when a precondition fails, in the order of RFC 9110 13.2.2; None when all hold."""
    reads = method in ("GET", "HEAD")
    modified = item.last_modified if item else None
    if (value := head.get("if-match")) is not None:
        if not _any_match(value, item, strong=True):
            return 412
    elif _is_after(modified, head.get("if-unmodified-since")) is True:
        return 412
    if (value := head.get("if-none-match")) is not None:
        if _any_match(value, item, strong=False):
            return 304 if reads else 412
    elif reads and _is_after(modified, head.get("if-modified-since")) is False:
        return 304
    return None


_TAG = re.compile(r'(W/)?"([^"]*)"')


def _any_match(value: str, item: Item | None, *, strong: bool) -> bool:
    """Whether an entity-tag list names the object (RFC 9110 8.8.3.2); `*` names any that exists."""
    if value.strip() == "*":
        return item is not None
    if item is None or item.etag is None or (strong and item.traits.validator != "strong"):
        return False
    return any(tag == item.tag and not (strong and weak) for weak, tag in _TAG.findall(value))


def _is_after(modified: int | None, field_value: str | None) -> bool | None:
    """Whether the object changed after a date; None, and so no condition, when either is missing."""
    date = _date(field_value)
    return None if modified is None or date is None else modified > date


def _if_range(item: Item, head: Head, now: float) -> bool:
    """Whether If-Range lets the Range stand: strong comparison only (RFC 9110 13.1.5)."""
    value = head.get("if-range")
    if value is None:
        return True
    if '"' in value:
        return bool(_TAG.fullmatch(value.strip())) and _any_match(value, item, strong=True)
    # A date has to be the same, and is a strong validator only a second before the answer (8.8.2.2).
    modified = item.last_modified
    return modified is not None and _date(value) == modified and now - modified >= 1


def _date(value: str | None) -> int | None:
    """An HTTP-date in seconds since the epoch; None when absent or no date, which counts as absent."""
    if value is None:
        return None
    try:
        return int(parsedate_to_datetime(value).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


_RANGE = re.compile(r"\s*bytes\s*=[\s,]*(\d{0,40})\s*-\s*(\d{0,40})[\s,]*", re.IGNORECASE)


def select(value: str, size: int) -> tuple[int, int] | None:
    """The one range a Range field asks of an object: (first, length), length 0 when it cannot be satisfied.

    None when the field is to be ignored: malformed, another unit, several ranges (RFC 9110 14.2).
    """
    found = _RANGE.fullmatch(value)
    if not found or found.groups() == ("", ""):
        return None
    low, high = found.groups()
    if not low:
        length = min(int(high), size)
        return None if not size and int(high) else (size - length, length)
    first = int(low)
    if high and int(high) < first:
        return None
    last = min(int(high), size - 1) if high else size - 1
    return first, max(0, last - first + 1)
