"""What a request asks for of the version at hand. Pure: RFC 9110 §13.2.2 in its order, then §14."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from reknit._ranges import WHOLE, Slice
from reknit._representation import Representation

_TAGS = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_INT_RANGE = re.compile(r"([0-9]{1,30})-([0-9]{0,30})")
_SUFFIX = re.compile(r"-([0-9]{1,30})")


@dataclass(frozen=True, slots=True)
class Decision:
    """The status of the answer, and which part of the object is its content (None: nothing)."""

    status: int
    part: Slice | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One range as it was asked for: from `first` to `last` (None: the end), or the last `suffix` bytes."""

    first: int = 0
    last: int | None = None
    suffix: int | None = None

    def resolve(self, total: int) -> Slice | None:
        """The bytes that it is of an object of `total`; None when there are none (§14.1.1)."""
        if self.suffix is not None:
            return Slice(max(0, total - self.suffix), min(self.suffix, total)) if self.suffix else None
        if self.first >= total:
            return None
        end = total if self.last is None else min(self.last + 1, total)
        return Slice(self.first, end - self.first)

    def guess(self) -> Slice | None:
        """What to ask a store for before the size is known; None when that takes the size."""
        if self.suffix is not None:
            return None
        return Slice(self.first, None if self.last is None else self.last + 1 - self.first)


def wanted_range(headers: Mapping[str, str]) -> Wanted | None:
    """The single valid range of a request; None when there is none to be honoured.

    A server MAY ignore a Range (§14.2): an invalid one and other units are, and several ranges are, too:
    the whole is a good answer to each of them.
    """
    unit, separator, text = headers.get("range", "").partition("=")
    specs = [spec.strip(" \t") for spec in text.split(",") if spec.strip(" \t")]
    if not separator or unit.strip(" \t").lower() != "bytes" or len(specs) != 1:
        return None
    if found := _SUFFIX.fullmatch(specs[0]):
        return Wanted(suffix=int(found[1]))
    found = _INT_RANGE.fullmatch(specs[0])
    if found is None:
        return None
    first, last = int(found[1]), int(found[2]) if found[2] else None
    return None if last is not None and last < first else Wanted(first, last)


def conditional(headers: Mapping[str, str]) -> bool:
    """Whether an answer without content is likely enough to ask the store for the head first."""
    names = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
    return any(name in headers for name in names)


def judge(method: str, headers: Mapping[str, str], about: Representation) -> Decision:
    """The answer to GET or HEAD for an object that is there."""
    tag = about.etag or about.weak
    modified = _date(about.modified)
    if "if-match" in headers:  # step 1
        if not _matches(headers["if-match"], tag, strong=True):
            return Decision(412)
    elif "if-unmodified-since" in headers:  # step 2
        limit = _date(headers["if-unmodified-since"])
        if limit is not None and modified is not None and modified > limit:
            return Decision(412)
    if "if-none-match" in headers:  # step 3
        if _matches(headers["if-none-match"], tag, strong=False):
            return Decision(304)
    elif "if-modified-since" in headers:  # step 4
        limit = _date(headers["if-modified-since"])
        if limit is not None and modified is not None and modified <= limit:
            return Decision(304)
    return _ranged(method, headers, about)


def _ranged(method: str, headers: Mapping[str, str], about: Representation) -> Decision:
    """Step 5, and the rest of §14.2. Only GET has ranges; without a length none can be told."""
    wanted = wanted_range(headers)
    if method != "GET" or wanted is None or about.total is None:
        return Decision(200, WHOLE)
    if "if-range" in headers and not _same(headers["if-range"].strip(), about.etag):
        return Decision(200, WHOLE)
    if wanted.suffix and not about.total:
        return Decision(200, WHOLE)  # satisfiable (§14.1.2), but no Content-Range can say so
    part = wanted.resolve(about.total)
    return Decision(416) if part is None else Decision(206, part)


def writable(headers: Mapping[str, str], about: Representation | None) -> bool:
    """Whether the conditions of a PUT hold; `about` is None when nothing is there yet (§13.1.1, §13.1.2)."""
    tag = "" if about is None else about.etag or about.weak
    there = about is not None
    if "if-match" in headers:
        value = headers["if-match"]
        if not (there and (value.strip() == "*" or _matches(value, tag, strong=True))):
            return False
    if "if-none-match" in headers:
        value = headers["if-none-match"]
        return not (there and (value.strip() == "*" or _matches(value, tag, strong=False)))
    return True


def _matches(value: str, tag: str, *, strong: bool) -> bool:
    """Whether a list of entity tags, or `*`, holds that of the version at hand (§8.8.3.2)."""
    if value.strip() == "*":
        return True
    if strong:
        return any(_same(one, tag) for one in _TAGS.findall(value))
    opaque = tag.removeprefix("W/")
    return bool(opaque) and any(one.removeprefix("W/") == opaque for one in _TAGS.findall(value))


def _same(one: str, other: str | None) -> bool:
    """Strong comparison. A date in If-Range is never equal: we cannot tell that it is a strong one
    (§8.8.2.2), and the whole is always a right answer.
    """
    return one == other and one.startswith('"')


def _date(value: str) -> float | None:
    """An HTTP-date in epoch seconds; None for what is none, which §13.1.3 tells to ignore."""
    try:
        return parsedate_to_datetime(value.strip()).timestamp() if value.strip() else None
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
