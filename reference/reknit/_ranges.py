"""Range and Content-Range (RFC 9110 §14): the arithmetic that keeps two answers from being misjoined."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CONTENT_RANGE = re.compile(r"bytes[ \t]+(?:(\d+)-(\d+)|\*)/(\d+|\*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Slice:
    """What a caller wants of an object: `length` bytes from `first` on, or all to its end (None)."""

    first: int = 0
    length: int | None = None

    @property
    def whole(self) -> bool:
        """Whether it is the whole of any object."""
        return self.first == 0 and self.length is None

    @property
    def last(self) -> int | None:
        """The last position, inclusive."""
        return None if self.length is None else self.first + self.length - 1

    def size(self, total: int | None) -> int | None:
        """How many of an object's `total` bytes it holds; None while that cannot be told."""
        room = None if total is None else max(0, total - self.first)
        return min((n for n in (room, self.length) if n is not None), default=None)


WHOLE = Slice()


@dataclass(frozen=True, slots=True)
class ContentRange:
    """`first`..`last` inclusive of `total` bytes; `first` and `last` are -1 in the answer to a bad range."""

    first: int
    last: int
    total: int | None

    @property
    def size(self) -> int:
        """How many body bytes the range announces."""
        return self.last - self.first + 1


def parse_content_range(value: str | None) -> ContentRange | None:
    """Read a Content-Range value; None when it is missing, malformed, inverted or of another unit.

    RFC 9110 §14.4: a range whose last position is below its first, or not below the total, is invalid and
    the recipient MUST NOT try to recombine the content with what it holds.
    """
    match = _CONTENT_RANGE.fullmatch(value.strip()) if value else None
    if match is None:
        return None
    first, last, total = match.groups()
    length = None if total == "*" else int(total)
    if first is None:
        return None if length is None else ContentRange(-1, -1, length)
    span = ContentRange(int(first), int(last), length)
    if span.last < span.first or (length is not None and span.last >= length):
        return None
    return span


def range_header(first: int, last: int | None = None) -> str:
    """Ask for `first`..`last` inclusive, or to the end (RFC 9110 §14.1.2).

    Raises ValueError for an empty or inverted range: a server may answer it with anything.
    """
    if first < 0 or (last is not None and last < first):
        raise ValueError(f"not a range: {first}-{last}")
    return f"bytes={first}-{'' if last is None else last}"
