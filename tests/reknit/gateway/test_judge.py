"""Conditions and ranges as one table: every combination of what each field can say."""

from __future__ import annotations

from itertools import product

import pytest

from reknit._ranges import WHOLE, Slice
from reknit._representation import Representation
from reknit.gateway._judge import Decision, Wanted, conditional, judge, wanted_range, writable

THEN, BEFORE, AFTER = (f"Tue, 10 Nov 2026 10:00:0{n} GMT" for n in (5, 4, 6))
HERE = Representation(total=100, etag='"a"', modified=THEN)

# For each field: what it may say, and what that is worth (None: as if it were not there).
IF_MATCH = {None: None, '"a"': True, '"b", "a"': True, "*": True, '"b"': False, 'W/"a"': False, "a": False}
IF_UNMODIFIED = {None: None, THEN: True, AFTER: True, BEFORE: False, "soon": None}
IF_NONE_MATCH = {None: None, '"a"': False, 'W/"a"': False, "*": False, '"b", W/"c"': True, "": True}
IF_MODIFIED = {None: None, BEFORE: True, THEN: False, AFTER: False, "soon": None, "0": None}
RANGE = {
    None: None,
    "bytes=0-9": Slice(0, 10),
    "BYTES = 90-": Slice(90, 10),
    "bytes=-7": Slice(93, 7),
    "bytes=99-1000": Slice(99, 1),
    "bytes=-1000": Slice(0, 100),
    "bytes=100-": 416,
    "bytes=-0": 416,
    "bytes=9-0": None,
    "bytes=0-1,5-6": None,
    "lines=0-9": None,
}
IF_RANGE = {None: True, '"a"': True, '"b"': False, 'W/"a"': False, THEN: False}


def told(*values: str | None) -> dict[str, str]:
    names = ("if-match", "if-unmodified-since", "if-none-match", "if-modified-since", "range", "if-range")
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def expected(method: str, match, unmodified, none_match, modified, part, if_range) -> Decision:
    """RFC 9110 §13.2.2 over truth values."""
    if match is False or (match is None and unmodified is False):
        return Decision(412)
    if none_match is False or (none_match is None and modified is False):
        return Decision(304)
    if method == "GET" and part is not None and if_range:
        return Decision(416) if part == 416 else Decision(206, part)
    return Decision(200, WHOLE)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_combination(method: str) -> None:
    """The first field that decides, decides, in the order of the RFC; all combinations."""
    tables = (IF_MATCH, IF_UNMODIFIED, IF_NONE_MATCH, IF_MODIFIED, RANGE, IF_RANGE)
    count = 0
    for says in product(*tables):
        worth = [table[one] for table, one in zip(tables, says, strict=True)]
        assert judge(method, told(*says), HERE) == expected(method, *worth), says
        count += 1
    assert count == 7 * 5 * 6 * 6 * 11 * 5


def test_without_validators() -> None:
    """What has no tag matches none, and what has no date cannot be newer than one."""
    bare = Representation(total=10)
    assert judge("GET", {"if-match": '"a"'}, bare).status == 412
    assert judge("GET", {"if-match": "*"}, bare).status == 200
    assert judge("GET", {"if-none-match": '"a"'}, bare).status == 200
    assert judge("GET", {"if-unmodified-since": BEFORE, "if-modified-since": AFTER}, bare).status == 200
    assert judge("GET", {"range": "bytes=0-1", "if-range": '"a"'}, bare) == Decision(200, WHOLE)
    assert judge("GET", {"range": "bytes=0-1"}, bare) == Decision(206, Slice(0, 2))


def test_a_weak_tag() -> None:
    """It may say that nothing has changed, and never binds a range or a write (§8.8.3.2)."""
    weak = Representation(total=10, weak='W/"a"')
    assert judge("GET", {"if-none-match": '"a"'}, weak).status == 304
    assert judge("GET", {"if-match": 'W/"a"'}, weak).status == 412
    assert judge("GET", {"range": "bytes=0-1", "if-range": 'W/"a"'}, weak) == Decision(200, WHOLE)


def test_empty_and_unsized() -> None:
    """An empty object has no range but the last bytes of it; one of unknown size has none."""
    empty, unsized = Representation(total=0, etag='"a"'), Representation(etag='"a"')
    assert judge("GET", {"range": "bytes=0-"}, empty) == Decision(416)
    assert judge("GET", {"range": "bytes=-5"}, empty) == Decision(200, WHOLE)
    assert judge("GET", {"range": "bytes=0-5"}, unsized) == Decision(200, WHOLE)


@pytest.mark.parametrize(
    "value",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=1-2-3", "bytes=+1-2"),
        *("bytes=1 - 2", "bytes=0-1,", "bytes=" + "9" * 40 + "-", "bytes=1-2;x", "bits=1-2", "bytes=\u0661-"),
    ],
)
def test_what_is_no_range(value: str) -> None:
    """An invalid one is ignored, never guessed at; an empty list member says nothing (RFC 9110 §5.6.1)."""
    assert wanted_range({"range": value}) == (Wanted(0, 1) if value == "bytes=0-1," else None)


@pytest.mark.parametrize("total", range(8))
def test_ranges_hold_what_they_say(total: int) -> None:
    """Over small objects, each range is exactly the bytes that Python's slicing gives."""
    data = bytes(range(total))
    for first, last in product(range(10), [None, *range(10)]):
        wanted = Wanted(first, last)
        part = wanted.resolve(total)
        right = data[first:] if last is None else data[first : last + 1]
        assert (data[part.first : part.first + part.size(total)] if part else b"") == right
        assert part is None or part.size(total) == wanted.guess().size(total)
    for suffix in range(10):
        part = Wanted(suffix=suffix).resolve(total)
        assert (data[part.first :] if part else b"") == (data[-suffix:] if suffix else b"")


def test_conditional() -> None:
    """If-Range asks for content in any case; the others may do without."""
    assert conditional({"if-none-match": "*"})
    assert not conditional({"if-range": '"a"', "range": "bytes=0-1"})


@pytest.mark.parametrize(
    ("headers", "new", "old"),
    [
        ({}, True, True),
        ({"if-none-match": "*"}, True, False),
        ({"if-none-match": '"a"'}, True, False),
        ({"if-none-match": '"b"'}, True, True),
        ({"if-match": "*"}, False, True),
        ({"if-match": '"a"'}, False, True),
        ({"if-match": '"b"'}, False, False),
        ({"if-match": '"a"', "if-none-match": "*"}, False, False),
    ],
)
def test_writes(headers: dict[str, str], new: bool, old: bool) -> None:
    """Whether a PUT may go ahead where nothing is, and where something is (§13.1.1, §13.1.2)."""
    assert (writable(headers, None), writable(headers, HERE)) == (new, old)
