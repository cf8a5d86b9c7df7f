"""The Tracker: which part of a message each byte belongs to, however the bytes come."""

from __future__ import annotations

import random

import pytest

from midstream._wire import (
    MAX_HEAD,
    OPEN_END,
    ContentRange,
    Framing,
    Place,
    Tracker,
    content_range,
    head_end,
    parse_head,
)
from midstream.testing.wire import Followed, tr

OK = b"HTTP/1.1 200 OK\r\n"
BODY = random.Random(3).randbytes(5000)


def places(followed: Followed) -> list[tuple[str, int, int, int]]:
    return [(s.place.value, s.start, s.end, s.body) for s in followed.spans]


@pytest.mark.parametrize("size", [1, 2, 15, 5000])
@pytest.mark.parametrize("seed", range(3))
def test_content_length(size: int, seed: int) -> None:
    """A body of a declared length is one span, and what follows is not taken."""
    head = OK + b"Content-Length: %d\r\n\r\n" % size
    f = tr(head + BODY[:size] + b"HTTP/1.1 200 left over", seed=seed)
    end = len(head)
    assert places(f) == [
        ("status-line", 0, 17, 0),
        ("headers", 17, end - 2, 0),
        ("blank", end - 2, end, 0),
        ("body", end, end + size, 0),
        ("end", end + size, end + size, size),
    ]
    assert (f.taken, f.body, f.complete, f.framing) == (end + size, size, True, Framing.LENGTH)


def test_a_body_is_announced_with_the_head() -> None:
    """The span of a Content-Length body is certain before its first byte comes."""
    spans, _ = Tracker("GET").feed(OK + b"Content-Length: 9\r\n\r\n")
    assert [s.place for s in spans] == [Place.STATUS_LINE, Place.HEADERS, Place.BLANK, Place.BODY]


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b'5\r\nhello\r\n00A ; name=value; q="a;b"\r\n' + BODY[:10] + b"\r\n3e8\r\n" + BODY[:1000] + b"\r\n"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("trailer", [b"", b"Checksum: 1\r\n", b"A: 1\r\nB: 2\r\n folded\r\n"])
def test_chunked_with_extensions_and_trailers(seed: int, trailer: bytes) -> None:
    """Size lines, data, chunk ends, last chunk and trailer are told apart."""
    f = tr(CHUNKED + CHUNKS + b"0;last\r\n" + trailer + b"\r\n" + b"more", seed=seed)
    at = len(CHUNKED)
    sizes = [(3, 5), (len(b'00A ; name=value; q="a;b"\r\n'), 10), (5, 1000)]
    want: list[tuple[str, int, int, int]] = []
    body = 0
    for line, size in sizes:
        want += [("chunk-header", at, at + line, body), ("body", at + line, at + line + size, body)]
        body += size
        at += line + size
        want += [("chunk-end", at, at + 2, body)]
        at += 2
    want += [("last-chunk", at, at + 8, body), ("trailer", at + 8, at + 10 + len(trailer), body)]
    at += 10 + len(trailer)
    assert places(f)[3:] == [*want, ("end", at, at, body)]
    assert (f.taken, f.body, f.complete) == (at, 1015, True)


def test_close_delimited() -> None:
    """Without a length the body lasts as long as the connection, and its end completes it."""
    f = tr(OK + b"Server: x\r\n\r\n" + BODY)
    assert places(f)[-1] == ("body", 30, OPEN_END, 0)
    assert (f.body, f.complete, f.closed, f.framing) == (5000, False, True, Framing.CLOSE)


@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", 200), ("GET", 204), ("GET", 304), ("GET", 100), ("PUT", 102), ("HEAD", 404)],
)
@pytest.mark.parametrize("framing", [b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_messages_without_a_body(method: str, status: int, framing: bytes) -> None:
    """HEAD, 1xx, 204 and 304 end with their head, whatever their fields say (RFC 9112 section 6.3)."""
    head = b"HTTP/1.1 %d X\r\n%s\r\n" % (status, framing)
    f = tr(head + b"HTTP/1.1 200 OK\r\n", method)
    assert (f.taken, f.body, f.complete, f.spans[-1].place) == (len(head), 0, True, Place.END)


@pytest.mark.parametrize("seed", range(5))
def test_interim_responses_are_messages_of_their_own(seed: int) -> None:
    """A tracker stops after each 1xx; a new one goes on with what was left."""
    stream = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    final = OK + b"Content-Length: 3\r\n\r\nabc"
    rest = stream + final
    statuses = []
    for _ in range(3):
        tracker = Tracker("PUT")
        _, taken = tracker.feed(rest)
        assert tracker.complete
        assert tracker.head
        statuses.append(tracker.head.status)
        assert tr(rest, "PUT", seed).taken == taken
        rest = rest[taken:]
    assert statuses == [100, 103, 200]
    assert not rest


@pytest.mark.parametrize("name", [b"content-length", b"CONTENT-LENGTH", b"cOnTeNt-LeNgTh"])
@pytest.mark.parametrize("value", [b"5", b" 5 ", b"\t5", b"5, 5", b"005"])
def test_casing_and_blanks(name: bytes, value: bytes) -> None:
    """Field names have no case and values no outer blanks."""
    head = OK + name + b":" + value + b"\r\n\r\n"
    f = tr(head + b"helloX")
    assert (f.taken, f.body, f.complete) == (len(head) + 5, 5, True)


@pytest.mark.parametrize("coding", [b"Chunked", b"CHUNKED ", b"gzip, chunked"])
def test_transfer_codings(coding: bytes) -> None:
    """Chunked counts when it is the last coding, in any case, and overrides Content-Length."""
    head = OK + b"Content-Length: 2\r\nTransfer-Encoding: " + coding + b"\r\n\r\n"
    f = tr(head + b"3\r\nabc\r\n0\r\n\r\n")
    assert (f.framing, f.body, f.complete) == (Framing.CHUNKED, 3, True)


def test_a_coding_that_is_not_chunked_lasts_to_the_end() -> None:
    """Such a response ends with the connection, also beside a Content-Length (RFC 9112 section 6.3)."""
    f = tr(OK + b"Transfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\nabcdef")
    assert (f.framing, f.body, f.complete, f.closed) == (Framing.CLOSE, 6, False, True)


@pytest.mark.parametrize("value", [b"", b"x", b"-1", b"+5", b"5 6", b"\xb2", b"1e3", b"9" * 30, b"0x10"])
def test_a_length_that_is_none(value: bytes) -> None:
    """A Content-Length that does not read leaves a close-delimited response, and never raises."""
    f = tr(OK + b"Content-Length: " + value + b"\r\n\r\nabc")
    assert (f.framing, f.body, f.closed) == (Framing.CLOSE, 3, True)


def test_folded_fields_are_unfolded() -> None:
    """A continuation line belongs to the field before it (RFC 9112 section 5.2)."""
    f = tr(OK + b"X-A: one\r\n  two\r\n\tthree\r\nContent-Length:\r\n 4\r\n\r\nabcdEF")
    assert f.fields == (("X-A", "one two three"), ("Content-Length", "4"))
    assert f.body == 4


def test_bare_line_feeds() -> None:
    """LF alone ends lines, mixed with CRLF as it comes, in heads and in chunks."""
    f = tr(b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\r\n\n3\nabc\n2\r\nde\r\n0\n\n", "GET")
    assert (f.body, f.complete, f.framing) == (5, True, Framing.CHUNKED)
    f = tr(b"GET / HTTP/1.1\nHost: x\n\r\nGET", None)
    assert (f.taken, f.complete) == (25, True)


def test_empty_lines_before_a_start_line() -> None:
    """A stray CRLF after a body belongs to the head that follows (RFC 9112 section 2.2)."""
    for stray in (b"\r\n", b"\n", b"\r\n\r\n\n"):
        f = tr(stray + b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", None)
        assert f.complete
        assert f.fields == (("Host", "x"),)
        assert places(f)[0] == ("status-line", 0, 17 + len(stray), 0)
        assert head_end(stray) == -1


def test_heads_without_fields() -> None:
    """A head may be its start line alone."""
    f = tr(OK + b"\r\nabc")
    assert places(f)[:3] == [("status-line", 0, 17, 0), ("blank", 17, 19, 0), ("body", 19, OPEN_END, 0)]


@pytest.mark.parametrize(
    "line",
    [
        b"xyz\r\n",
        b"-5\r\n",
        b"\r\n5\r\n",
        b"5 6\r\n",
        b"0x5\r\n",
        b"1" * 16 + b"\r\n",
        b";ext\r\n",
        b"5;" + b"e" * 5000 + b"\r\n",
        b"e" * 5000,
    ],
)
def test_a_broken_chunk_header(line: bytes) -> None:
    """Framing that cannot be followed passes on as one body, and every byte of it."""
    sample = CHUNKED + b"3\r\nabc\r\n" + line + BODY[:700]
    f = tr(sample)
    assert f.broken
    assert (f.taken, f.wire) == (len(sample), len(sample))
    start = len(CHUNKED) + 8
    assert places(f)[-1] == ("body", start, OPEN_END, 3)
    assert f.body == 3 + len(sample) - start


@pytest.mark.parametrize("end", [b"XX\r\n", b"X\n", b"\rX", b"a", b"\r\r\n"])
def test_a_broken_chunk_end(end: bytes) -> None:
    """More data than the size line said is noticed at the chunk's end, in every chunking."""
    f = tr(CHUNKED + b"3\r\nabc" + end + b"\r\n0\r\n\r\n")
    assert f.broken
    assert f.taken == f.wire == len(CHUNKED) + 6 + len(end) + 7


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_huge_heads(over: int) -> None:
    """A head of MAX_HEAD is followed, a longer one passes on as one body; chunking does not matter."""
    frame = OK + b"X: \r\nContent-Length: 2\r\n\r\n"
    head = OK + b"X: " + b"y" * (MAX_HEAD + over - len(frame)) + b"\r\nContent-Length: 2\r\n\r\n"
    assert len(head) == MAX_HEAD + over
    f = tr(head + b"ab")
    assert f.broken is (over > 0)
    assert f.taken == f.wire == len(head) + 2
    assert f.complete is (over <= 0)


def test_an_endless_head_passes_on() -> None:
    """Bytes that never make a head are given up on, not collected for ever."""
    tracker = Tracker("GET")
    tracker.feed(b"x" * (MAX_HEAD + 1))
    assert tracker.broken
    assert tracker.held == 0


@pytest.mark.parametrize("seed", range(3))
def test_pipelined_requests_are_left(seed: int) -> None:
    """Each request is taken alone, the next ones stay."""
    one = b"PUT /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"
    two = b"PUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    three = b"GET /c HTTP/1.1\r\n\r\n"
    stream = one + two + three
    for request in (one, two, three):
        f = tr(stream, None, seed)
        assert (f.taken, f.complete) == (len(request), True)
        stream = stream[f.taken :]


@pytest.mark.parametrize("sample", [OK + b"Content-Length: 0\r\n\r\n", CHUNKED + b"0\r\n\r\n"])
def test_zero_length(sample: bytes) -> None:
    """An empty body completes at once."""
    f = tr(sample + b"x")
    assert (f.taken, f.body, f.complete) == (len(sample), 0, True)


@pytest.mark.parametrize("cut", [0, 1, 5, 16, 20, 45, 50])
def test_an_end_in_the_middle_completes_nothing(cut: int) -> None:
    """A chunked or counted message that ends early is not complete."""
    for sample in (CHUNKED + CHUNKS + b"0\r\n\r\n", OK + b"Content-Length: 5000\r\n\r\n" + BODY):
        f = tr(sample[:cut])
        assert not f.closed
        assert f.taken == cut


def test_nothing_is_nothing() -> None:
    """Feeding no bytes changes nothing and takes nothing, in any state."""
    tracker = Tracker("GET")
    for piece in (b"", OK, b"", b"Content-Length: 2\r\n\r\n", b"", b"a", b"", b"b", b""):
        spans, taken = tracker.feed(piece)
        assert taken == len(piece)
        assert piece or not spans
    assert tracker.complete


@pytest.mark.parametrize("seed", range(4))
def test_payload_may_be_skipped(seed: int) -> None:
    """Bytes counted with `skip` and bytes fed come to the same."""
    draw = random.Random(seed)
    head = OK + b"Content-Length: 5000\r\n\r\n"
    tracker = Tracker("GET")
    spans, _ = tracker.feed(head)
    left = BODY
    while left:
        assert tracker.bulk == len(left)
        n = min(len(left), draw.randint(1, 900))
        if draw.random() < 0.5:
            tracker.skip(n, spans)
        else:
            spans += tracker.feed(left[:n])[0]
        left = left[n:]
    assert tracker.complete
    assert spans == list(tr(head + BODY).spans)


def test_start_lines() -> None:
    """Status, method and target are read leniently; a line that is neither says so."""
    assert parse_head(b"HTTP/1.1 206 Partial Content\r\n\r\n").status == 206
    assert parse_head(b"HTTP/1.0 404\r\n\r\n").status == 404
    assert parse_head(b"HTTP/2 200\r\n\r\n").status == 0
    assert parse_head(b"ICY 200 OK\r\n\r\n").status == 0
    assert parse_head(b"GET /a?b HTTP/1.1\r\n\r\n").request == ("GET", "/a?b")
    assert parse_head(b"nonsense\r\n\r\n").request == ("nonsense", "")


def test_fields_of_one_name_are_joined() -> None:
    """Values of one field name come joined by commas, in order, or not at all."""
    head = parse_head(b"HTTP/1.1 200 OK\r\nVary: a\r\nvary: b\r\nX\r\n\r\n")
    assert head.get("VARY") == "a, b"
    assert head.get("x") == ""
    assert head.get("etag") is None


@pytest.mark.parametrize(
    ("value", "want"),
    [
        ("bytes 0-9/10", ContentRange(0, 9, 10)),
        (" Bytes  5-5/* ", ContentRange(5, 5, None)),
        ("bytes */10", ContentRange(None, None, 10)),
        ("bytes 9-5/10", None),
        ("bytes 0-9", None),
        ("lines 0-9/10", None),
        ("bytes -9/10", None),
        ("", None),
        (None, None),
    ],
)
def test_content_range(value: str | None, want: ContentRange | None) -> None:
    """Content-Range reads as RFC 9110 section 14.4 has it, or not at all."""
    assert content_range(value) == want
