"""Positions: their text, and the wire byte they mean in a message of any framing."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream._positions import PLACES, BadPosition, Message, Position, locate
from midstream._wire import Tracker, content_range

PARTIAL = (
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1000-1009/5000\r\n"
    b"Content-Length: 10\r\n\r\n0123456789"
)
TAIL = PARTIAL.replace(b"1000-1009", b"4990-4999")
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6;x\r\n456789\r\n0\r\nA: 1\r\n\r\n"
)
CLOSE = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n0123456789"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
EMPTY_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
BARE = b"HTTP/1.1 200 OK\r\n\r\n0123456789"


def at(
    position: str, sample: bytes, total: int | None = 10, before: int = 0, base: int | None = 0
) -> int | None:
    """The wire byte of `sample` a position lies at, all spans seen in order; checked to be seen once only."""
    tracker = Tracker("GET")
    spans, _ = tracker.feed(sample)
    if not tracker.complete and tracker.close():
        spans.append(tracker.end_span())
    assert tracker.head
    declared = content_range(tracker.head.get("content-range"))
    if declared and base is not None:
        base, total = declared.first, declared.total
    message = Message(tracker.head, base, total, before)
    found = [n for span in spans if (n := locate(Position.parse(position), span, message)) is not None]
    return found[0] if found else None


@given(
    st.one_of(
        st.integers(0, 1 << 62).map(str),
        st.decimals(0, 100, allow_nan=False, places=None).map(lambda d: f"{d:f}%"),
        st.tuples(st.sampled_from(["body", "wire"]), st.integers(0, 1 << 62)).map(lambda t: f"{t[0]}+{t[1]}"),
        st.sampled_from(sorted(PLACES)),
    ),
    st.integers(-(1 << 40), 1 << 40),
)
def test_text_round_trips(text: str, delta: int) -> None:
    """Whatever parses is written so that it parses back to the same position."""
    for form in (text, f"{text}{delta:+d}"):
        try:
            position = Position.parse(form)
        except BadPosition:
            assert delta
            continue
        assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text",
    ["0", "1048576", "50%", "0.5%", "0.0000001%", "body+0", "wire+512", "50%-1", "end-1", "head", "accept"],
)
def test_text_is_kept(text: str) -> None:
    """The usual forms are written as they were read."""
    assert str(Position.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("5+1", "6"), ("5-1", "4"), ("body+5-5", "body+0"), ("wire+0+3", "wire+3"), ("7+0", "7")],
)
def test_offsets_are_added_up(text: str, value: str) -> None:
    """A delta on a number is part of the number."""
    assert str(Position.parse(text)) == value


@pytest.mark.parametrize(
    "text",
    ["", " 5", "-1", "5.5", "body", "body-1", "wire", "%", "x%", "1e3", "middle", "end+x", "5++1", "٣"],
)
def test_other_text_is_refused(text: str) -> None:
    """What is no position is refused with the forms there are."""
    with pytest.raises(
        BadPosition, match=r"use an object offset, N%, body\+N, wire\+N, sent\+N or one of accept,"
    ):
        Position.parse(text)


@pytest.mark.parametrize("text", ["0-1", "5-6", "body+0-1", "wire+3-4", "0%-1"])
def test_nothing_lies_before_the_first_byte(text: str) -> None:
    """A position before the first byte is refused."""
    with pytest.raises(BadPosition, match="before the first byte"):
        Position.parse(text)


@pytest.mark.parametrize("text", ["101%", "100.001%", "100%+1"])
def test_nothing_lies_behind_the_last_byte(text: str) -> None:
    """A percentage beyond the object is refused."""
    with pytest.raises(BadPosition, match="behind the last byte"):
        Position.parse(text)


@pytest.mark.parametrize("text", ["head-1", "end+1"])
def test_nothing_lies_outside_the_response(text: str) -> None:
    """A place and a delta that no response can have are refused."""
    with pytest.raises(BadPosition, match="outside the response"):
        Position.parse(text)


@pytest.mark.parametrize(
    ("text", "size", "want"),
    [
        ("50%", 11, 5),
        ("100%", 11, 11),
        ("0%", 11, 0),
        ("50%+1", 10, 6),
        ("50%-9", 10, 0),
        ("33.3%", 1000, 333),
    ],
)
def test_percentages_become_offsets(text: str, size: int, want: int) -> None:
    """Aimed at an object, a percentage is the offset at or before it, never below 0."""
    assert Position.parse(text).aim(size) == Position("object", want)


def test_aiming_leaves_the_rest() -> None:
    """Other positions, and percentages of an unknown size, stay as they are."""
    for text in ("5", "body+5", "wire+5", "end-1", "50%"):
        position = Position.parse(text)
        assert position.aim(None) == position
        assert text == "50%" or position.aim(100) == position
    assert Position.parse("12.5%").value == Decimal("12.5")


@pytest.mark.parametrize(
    ("text", "want"), [("end-5", 5), ("end", 0), ("headers+3", 0), ("5", 0), ("50%-3", 0), ("body+9", 0)]
)
def test_lookback(text: str, want: int) -> None:
    """Only a place with -n is known too late, so only there bytes are held back."""
    assert Position.parse(text).lookback == want


H = {LENGTH: 39, CLOSE: 30, CHUNKED: 47, PARTIAL: len(PARTIAL) - 10, TAIL: len(TAIL) - 10}


@pytest.mark.parametrize("sample", [LENGTH, CLOSE])
@pytest.mark.parametrize("kind", ["", "body+"])
def test_payload_offsets_in_one_piece(sample: bytes, kind: str) -> None:
    """Offset k of the payload is byte head+k; the size itself is behind the last byte; more is nowhere."""
    for k in range(11):
        assert at(f"{kind}{k}", sample) == H[sample] + k
    # A body without a declared end may still have a byte there.
    assert at(f"{kind}11", sample) == (None if sample is LENGTH else H[sample] + 11)
    assert at(f"{kind}4+1", sample) == H[sample] + 5
    assert at(f"{kind}4-1", sample) == H[sample] + 3


@pytest.mark.parametrize(
    ("k", "want"),
    [(0, 50), (1, 51), (3, 53), (4, 61), (5, 62), (9, 66)],
)
def test_payload_offsets_in_chunks(k: int, want: int) -> None:
    """Offset k is its byte in whichever chunk has it: at a boundary behind the next size line."""
    assert CHUNKED[want : want + 1] == b"%d" % k
    assert at(str(k), CHUNKED) == at(f"body+{k}", CHUNKED) == want


def test_all_of_a_chunked_payload() -> None:
    """Behind the payload: as a body before the last chunk, as an object after the last byte."""
    assert at("body+10", CHUNKED) == CHUNKED.index(b"0\r\nA") == 69
    assert at("10", CHUNKED) == at("100%", CHUNKED) == len(CHUNKED)
    assert at("10", CHUNKED, total=None) is None
    assert at("body+11", CHUNKED) is None


def test_a_partial_response_has_a_base() -> None:
    """Object offsets count from Content-Range; body offsets do not."""
    head = H[PARTIAL]
    assert at("1000", PARTIAL) == at("body+0", PARTIAL) == head
    assert at("1009", PARTIAL) == at("body+9", PARTIAL) == head + 9
    assert at("999", PARTIAL) is None
    assert at("1010", PARTIAL) is None  # the next byte comes in another response
    assert at("20.1%", PARTIAL) == head + 5
    assert at("5000", PARTIAL) is None


def test_the_end_of_the_object_in_the_last_part() -> None:
    """The offset behind the last object byte belongs to the response that delivers that byte."""
    assert at("5000", TAIL) == at("100%", TAIL) == at("end", TAIL) == len(TAIL)
    assert at("100%-1", TAIL) == len(TAIL) - 1
    assert at("4990", TAIL) == H[TAIL]


def test_responses_without_object_bytes() -> None:
    """An error page has body offsets and places, but no object offsets."""
    for text in ("0", "5", "10", "50%", "100%"):
        assert at(text, LENGTH, base=None) is None
    assert at("body+5", LENGTH, base=None) == 44
    assert at("end", LENGTH, base=None) == 49


@pytest.mark.parametrize(
    ("sample", "want"),
    [(EMPTY, len(EMPTY)), (EMPTY_CHUNKED, len(EMPTY_CHUNKED)), (NO_CONTENT, len(NO_CONTENT))],
)
def test_empty_bodies(sample: bytes, want: int) -> None:
    """An empty object has one offset, 0, behind the last byte."""
    assert at("0", sample, total=0) == at("0%", sample, total=0) == at("100%", sample, total=0) == want
    assert at("1", sample, total=0) is None
    assert at("end", sample, total=0) == want
    assert at("body+0", sample, total=0) == (47 if sample is EMPTY_CHUNKED else want)


@pytest.mark.parametrize(
    ("sample", "place", "want"),
    [
        *[(s, "head", 0) for s in (LENGTH, CHUNKED, CLOSE, EMPTY, NO_CONTENT, BARE)],
        *[(s, "status-line", 8) for s in (LENGTH, CHUNKED, CLOSE, BARE)],
        *[(s, "end", len(s)) for s in (LENGTH, CHUNKED, CLOSE, EMPTY, NO_CONTENT, BARE)],
        (LENGTH, "headers", 37),
        (PARTIAL, "headers", PARTIAL.index(b"Content-Length")),
        (BARE, "headers", None),
        (LENGTH, "last-header", 37),
        (PARTIAL, "last-header", H[PARTIAL] - 2),
        (BARE, "last-header", 17),
        (CHUNKED, "chunk-header", 57),
        (CHUNKED, "chunk-boundary", 56),
        (CHUNKED, "last-chunk", 69),
        (CHUNKED, "trailer", 72),
        (EMPTY_CHUNKED, "chunk-header", None),
        (EMPTY_CHUNKED, "chunk-boundary", None),
        (EMPTY_CHUNKED, "last-chunk", 47),
        (EMPTY_CHUNKED, "trailer", 50),
        *[(LENGTH, p, None) for p in ("chunk-header", "chunk-boundary", "last-chunk", "trailer", "accept")],
        *[(CLOSE, p, None) for p in ("chunk-header", "chunk-boundary", "last-chunk", "trailer", "accept")],
    ],
)
def test_places(sample: bytes, place: str, want: int | None) -> None:
    """Each place is one byte of each message that has it, and plus or minus n lie beside it."""
    assert at(place, sample) == want
    if place not in ("head", "accept"):
        assert at(f"{place}-1", sample) == (None if want is None else want - 1)
    if place != "end":
        assert at(f"{place}+1", sample) == (None if want is None else want + 1)


def test_the_only_chunk_is_followed_by_the_last() -> None:
    """With a single chunk the size line that follows payload is that of the last chunk."""
    sample = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n"
    assert at("chunk-header", sample) == sample.rindex(b"0\r\n\r\n") + 1
    assert at("chunk-boundary", sample) == at("last-chunk", sample) == at("body+10", sample)


@pytest.mark.parametrize(("before", "want"), [(0, 100), (60, 40), (100, 0), (101, -1)])
def test_wire_bytes_count_over_the_connection(before: int, want: int) -> None:
    """`wire+n` counts from the connection's first response byte, whatever message it falls into."""
    assert at("wire+100", LENGTH, before=before) == want


def test_wire_bytes_are_certain_with_the_first_span() -> None:
    """A wire position is known before any byte of the message has to be sent."""
    tracker = Tracker("GET")
    spans, _ = tracker.feed(LENGTH)
    assert tracker.head
    message = Message(tracker.head, 0, 10)
    assert [locate(Position.parse("wire+5"), span, message) for span in spans] == [5] + [None] * (
        len(spans) - 1
    )
