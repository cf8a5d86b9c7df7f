"""Payload transformers alone: re-chunking never matters, and each does exactly what it says."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream._schedule import BadSpec, Rule
from midstream._verbs import Context, Payload
from midstream._wire import Head
from midstream.faults._payload import Cutoff, Patch, count, same_head, shorter_head

BODIES = st.binary(max_size=300)
CUTS = st.lists(st.integers(0, 300), max_size=12)


def fed(make: Callable[[], Payload], body: bytes, cuts: list[int]) -> bytes:
    """The body through a transformer, in the pieces that the cuts make of it."""
    one, edges = make(), sorted({0, len(body), *(c for c in cuts if c < len(body))})
    out = b""
    for start, end in itertools.pairwise(edges):
        out += one.feed(body[start:end])
        if one.over:
            return out
        one.feed(b"")  # nothing is something a stream may give
    return out + one.end()


def of(line: str, size: int, at: int) -> Callable[[], Payload]:
    (rewrite,) = Rule.parse(f"* {line}").rewrites
    assert rewrite.payload
    head = Head("HTTP/1.1 200 OK", [("Content-Length", str(size))])
    make = rewrite.payload
    return lambda: make(Context(head, 0, size, size, at))


@given(BODIES, CUTS, st.integers(0, 320), st.integers(0, 100))
def test_patch(body: bytes, cuts: list[int], at: int, length: int) -> None:
    """A patch hands over its stretch once and whole, as far as there is one, and passes all else."""
    seen: list[bytes] = []

    def change(piece: bytes) -> bytes:
        seen.append(piece)
        return b"<" + piece + b">"

    got = fed(lambda: Patch(at, length, change), body, cuts)
    stretch = body[at : at + length]
    assert seen == ([stretch] if stretch else [])
    assert got == (body[:at] + b"<" + stretch + b">" + body[at + length :] if stretch else body)


@given(BODIES, CUTS, st.integers(0, 100))
def test_patch_tells_what_it_changed(body: bytes, cuts: list[int], at: int) -> None:
    """`touched` is for a byte that differs, not for one that was looked at."""
    same, other = Patch(at, 10, lambda b: b), Patch(at, 10, lambda b: b"")
    assert fed(lambda: same, body, cuts) == body
    fed(lambda: other, body, cuts)
    assert not same.touched
    assert other.touched == (len(body) > at)


@given(BODIES, CUTS, st.integers(0, 320))
def test_cutoff(body: bytes, cuts: list[int], length: int) -> None:
    """A cutoff lets so many bytes through and is over with the last of them."""
    one = Cutoff(length)
    assert fed(lambda: one, body, cuts) == body[:length]
    assert one.over == one.touched == (len(body) >= length and bool(body))


@given(st.binary(min_size=1, max_size=300), CUTS, st.integers(0, 299), st.integers(0, 7))
def test_flip(body: bytes, cuts: list[int], at: int, bit: int) -> None:
    """One bit of one byte; the rest and the length stay."""
    at %= len(body)
    got = fed(of(f"flip@0:{bit}", len(body), at), body, cuts)
    assert got == body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :]


@given(BODIES, CUTS, st.integers(0, 320), st.integers(1, 200))
def test_swap(body: bytes, cuts: list[int], at: int, n: int) -> None:
    """Two neighbouring stretches change places; the second may be cut short by the end. Length kept."""
    got = fed(of(f"swap@0:{n}", len(body), at), body, cuts)
    assert got == body[:at] + body[at + n : at + 2 * n] + body[at : at + n] + body[at + 2 * n :]
    assert len(got) == len(body)


@given(BODIES, CUTS, st.integers(0, 320), st.integers(1, 200))
def test_duplicate(body: bytes, cuts: list[int], at: int, n: int) -> None:
    """A stretch is written over the one behind it, as far as there is room. Length kept."""
    got = fed(of(f"duplicate@0:{n}", len(body), at), body, cuts)
    want = body[: at + n] + body[at : at + n] + body[at + 2 * n :]
    assert got == (want[: len(body)] if at + n < len(body) else body)
    assert len(got) == len(body)


@given(BODIES, CUTS, st.integers(0, 320), st.integers(1, 200))
def test_drop(body: bytes, cuts: list[int], at: int, n: int) -> None:
    """A stretch is left out, and the head declares what is left."""
    (rewrite,) = Rule.parse(f"* drop@0:{n}").rewrites
    got = fed(of(f"drop@0:{n}", len(body), at), body, cuts)
    assert got == body[:at] + body[at + n :]
    head = Head("HTTP/1.1 200 OK", [("Content-Length", str(len(body)))])
    new = rewrite.head(Context(head, 0, len(body), len(body), at if at < len(body) else None))
    assert (new is None) == (at >= len(body))
    assert new is None or new.get("content-length") == str(len(got))


@given(st.binary(max_size=2000).map(lambda b: b * 50), st.lists(st.integers(0, 100_000), max_size=12))
def test_gzip(body: bytes, cuts: list[int]) -> None:
    """The coded bytes are the same in whatever pieces the payload comes, and unpack to it."""
    whole = fed(of("gzip@head", len(body), 0), body, [])
    assert fed(of("gzip@head", len(body), 0), body, cuts) == whole
    assert zlib.decompress(whole, 31) == body
    assert fed(of("gzip@head:cut", len(body), 0), body, cuts) == whole[:-8]


@given(BODIES, CUTS)
def test_multipart(body: bytes, cuts: list[int]) -> None:
    """The wrapping stands around the payload once, also around none, and the declared length fits."""
    (rewrite,) = Rule.parse("* multipart@head").rewrites
    assert rewrite.payload
    field = ("Content-Range", f"bytes 0-{max(0, len(body) - 1)}/999")
    context = Context(Head("HTTP/1.1 206 P", [field]), 0, len(body), 999)
    make = rewrite.payload
    got = fed(lambda: make(context), body, cuts)
    new = rewrite.head(context)
    assert new
    assert new.get("content-length") == str(len(got))
    before, found, after = got.partition(b"\r\n\r\n")
    assert found
    assert after == body + b"\r\n--midstream-part--\r\n"
    assert before.endswith(b": ".join(f.encode() for f in field))


@pytest.mark.parametrize(
    ("fault", "at", "length", "applies"),
    [
        ("swap@0:10", 89, 100, True),
        ("swap@0:10", 90, 100, False),
        ("duplicate@0:10", 89, 100, True),
        ("duplicate@0:10", 90, 100, False),
        ("swap@0:10", 90, None, True),
        ("flip@0", 99, 100, True),
        ("drop@0:500", 99, 100, True),
    ],
)
def test_nothing_would_change(fault: str, at: int, length: int | None, applies: bool) -> None:
    """A fault that would change no byte at the end of a payload does not count as one that fires."""
    (rewrite,) = Rule.parse(f"* {fault}").rewrites
    assert (rewrite.head(Context(Head("HTTP/1.1 200 OK"), 0, length, length, at)) is not None) == applies


def test_heads() -> None:
    """Without an offset in an object's payload there is no head to give."""
    head = Head("HTTP/1.1 200 OK", [("Content-Length", "10")])
    assert same_head(Context(head, 0, 10, 10, 0)) is head
    assert same_head(Context(head, 0, 10, 10, None)) is None
    assert same_head(Context(head, None, 10, 10, 0)) is None
    assert shorter_head(Context(head, 0, None, 10, 0), 1) is None
    shorter = shorter_head(Context(head, 0, 10, 10, 0), 3)
    assert shorter
    assert shorter.fields == [("Content-Length", "7")]


def test_count() -> None:
    """Counts are whole and positive; nothing is the default."""
    assert count(None, 64, "swap") == 64
    assert count("007", 64, "swap") == 7
    for bad in ("0", "", "-1", "1.5", "²"):
        with pytest.raises(ValueError, match="swap takes a number of bytes"):
            count(bad, 64, "swap")


NAMES = st.sampled_from(["ETag", "X-Odd!#", ":status"])
VALUES = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=12)


@given(st.lists(st.tuples(NAMES, VALUES | st.none()), min_size=1, max_size=4))
def test_header_values_read_back(edits: list[tuple[str, str | None]]) -> None:
    """Whatever a field is set to, the rule's text says it again; a line break is refused."""
    from midstream.faults.header import Header

    fault = Header(tuple((n, "418" if n == ":status" else v) for n, v in edits))
    line = f"GET#1 header@head:{fault.value}"
    assert Rule.parse(line).fault == fault
    assert str(Rule.parse(line)) == line


@pytest.mark.parametrize("value", ["ETag=a%0D%0AX: b", "A=%00", "A=b%0a"])
def test_header_values_stay_one_field(value: str) -> None:
    """A value that would become two fields is refused."""
    with pytest.raises(BadSpec, match="would not stay one header field"):
        Rule.parse(f"GET header@head:{value}")
