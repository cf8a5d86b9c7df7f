"""The HTTP store against an origin that cuts where it is told."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace

import pytest

from reknit import CallerError, Exhausted, Integrity, Options, Refused, download, open_stream, stat
from reknit._errors import StoreFault
from reknit.stores import open_store

DATA = bytes(range(256)) * 40
CHUNKED = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: "a"\r\n\r\n'


def read_all(url: str, options: Options) -> bytes:
    with open_stream(url, options=options) as stream:
        return stream.read() or b""


@pytest.mark.parametrize("end", ["fin", "rst", "hold"])
@pytest.mark.parametrize("at", [0, 1, 5000, len(DATA) - 1])
def test_cut(origin, whole, say, fast, tmp_path, end, at) -> None:
    """T1-T3: FIN, reset and silence after exactly so many bytes, which are all kept."""
    wire = whole(DATA)
    origin.script = [say(wire[: len(wire) - len(DATA) + at], end)]
    origin.then = lambda asked: say(whole(DATA, asked))
    report = download(origin.url(), tmp_path / "dest", options=replace(fast, idle_timeout=0.2))
    assert (tmp_path / "dest").read_bytes() == DATA
    assert report.bytes_refetched == 0
    assert (f"Range: bytes={at}-" in origin.asked[1]) is bool(at)


def test_reset_after_the_last_byte(origin, whole, say, fast) -> None:
    """T9, P8: complete is complete."""
    origin.script = [say(whole(DATA), "rst")]
    assert read_all(origin.url(), fast) == DATA
    origin.script = [say(whole(DATA), "hold")]
    assert read_all(origin.url(), fast) == DATA


def test_every_byte_of_the_head(origin, whole, say, fast) -> None:
    """A head cut anywhere is no answer, even where http.client would parse what came."""
    wire = whole(DATA[:10])
    origin.then = lambda asked: say(whole(DATA[:10], asked)) if "HEAD" not in asked else say(whole(b"")[:-10])
    head = len(wire) - 10
    for at in range(head):
        origin.script = [say(wire[:at])]
        origin.then = lambda asked: say(
            whole(DATA[:10], asked)[:head] if asked[:4] == "HEAD" else whole(DATA[:10], asked)
        )
        assert read_all(origin.url(), fast) == DATA[:10], wire[:at]


def chunks(data: bytes, size: int) -> bytes:
    parts = [data[i : i + size] for i in range(0, len(data), size)]
    return b"".join(b"%05x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_every_byte_of_a_chunked_body(origin, whole, say, fast) -> None:
    """T5, P2: cut inside sizes (with leading zeros), data, separators and before the last chunk."""
    data = DATA[:16]
    wire = chunks(data, 7)
    origin.then = lambda asked: say(whole(data, asked)[: 1 << 20 if asked[:3] == "GET" else -len(data)])
    for at in range(len(wire)):
        origin.asked.clear()
        origin.script = [say(CHUNKED + wire[:at])]
        assert read_all(origin.url(), fast) == data, wire[:at]
        assert len(origin.asked) > 1, "taken for whole without a second question"


def test_a_cut_chunk_size_is_no_last_chunk(origin, whole, say, fast) -> None:
    """P2: "0", "00" of a cut "00007"; where nobody names a size, nothing else would tell."""
    data = DATA[:14]
    no = b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n"
    origin.then = lambda asked: say(no if asked[:4] == "HEAD" else whole(data, asked))
    wire = chunks(data, 7)
    for at in range(14, 20):  # the second size line
        origin.script = [say(CHUNKED + wire[:at])]
        assert read_all(origin.url(), fast) == data, wire[:at]


def test_a_chunked_body_is_delivered_as_it_comes(origin, say, fast) -> None:
    """The whole of it, without a second GET."""
    origin.script = [say(CHUNKED + chunks(DATA, 1000)), say(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n")]
    assert read_all(origin.url(), fast) == DATA
    assert [line[:4] for line in origin.asked] == ["GET ", "HEAD"]


def test_a_body_without_length_is_not_proved(origin, say, fast) -> None:
    """T6, P5."""
    origin.script = [
        say(b"HTTP/1.1 200 OK\r\n\r\n" + DATA),
        say(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n"),
    ]
    with pytest.raises(Integrity, match="without a length"):
        read_all(origin.url(), fast)


def test_identity_is_asked_for_always(origin, whole, say, fast) -> None:
    """P14: on the first request, the resume and HEAD."""
    wire = whole(DATA)
    origin.script = [say(wire[:-10]), say(whole(DATA, f"Range: bytes={len(DATA) - 10}-\r\n"))]
    read_all(origin.url(), fast)
    origin.script = [say(wire[: -len(DATA)])]
    stat(origin.url(), options=fast)
    assert len(origin.asked) == 3
    assert all("Accept-Encoding: identity\r\n" in asked for asked in origin.asked)


def test_coded_answers_are_refused_undecoded(origin, whole, say, fast) -> None:
    """The library below does not decode behind our back."""
    origin.script = [say(whole(b"\x1f\x8b\x08", extra="Content-Encoding: gzip\r\n"))]
    with pytest.raises(Refused, match="gzip"):
        read_all(origin.url(), fast)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_from_the_start_each_time(origin, whole, say, fast, status) -> None:
    """H9: the target may expire, so the resume begins at the URL that was given."""
    hop = say(b"HTTP/1.1 %d Hop\r\nLocation: /target?sig=1\r\nContent-Length: 0\r\n\r\n" % status, "keep")
    wire = whole(DATA)
    origin.script = [hop, say(wire[:-10]), hop, say(whole(DATA, f"Range: bytes={len(DATA) - 10}-\r\n"))]
    assert read_all(origin.url(), fast) == DATA
    assert [line.split()[1] for line in origin.asked] == ["/object", "/target?sig=1"] * 2


def test_credentials_stay_with_their_host(origin, other_origin, whole, say, fast) -> None:
    """Custom headers, user information: sent to the origin and on a hop inside it, not to another port or
    host.
    """
    origin.script = [
        say(b"HTTP/1.1 302 Hop\r\nLocation: /inside\r\nContent-Length: 0\r\n\r\n", "keep"),
        say(
            b"HTTP/1.1 302 Hop\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % other_origin.url("/x").encode()
        ),
    ]
    other_origin.script = [say(whole(DATA))]
    url = origin.url().replace("http://", "http://user:pass%20word@")
    assert read_all(url, replace(fast, headers={"X-Auth-Token": "secret"})) == DATA
    for asked in origin.asked:
        assert "X-Auth-Token: secret" in asked
        assert "Authorization: Basic dXNlcjpwYXNzIHdvcmQ=" in asked
    assert "secret" not in other_origin.asked[0]
    assert "Authorization" not in other_origin.asked[0]


def test_redirects_without_end(origin, say, fast) -> None:
    """P32: bounded, and a loop is an answer that asking again would not change."""
    origin.then = lambda asked: say(
        b"HTTP/1.1 302 Hop\r\nLocation: /object\r\nContent-Length: 0\r\n\r\n", "keep"
    )
    with pytest.raises(Refused, match="30"):
        read_all(origin.url(), replace(fast, attempts=1))
    assert len(origin.asked) == 11


def test_a_redirect_to_another_scheme_is_final(origin, say, fast) -> None:
    """P32: an unfollowed 3xx names itself."""
    origin.script = [say(b"HTTP/1.1 302 Hop\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n")]
    with pytest.raises(Refused, match="302"):
        read_all(origin.url(), fast)


def test_a_fresh_link_goes_on_where_the_old_one_ended(origin, whole, say, fast) -> None:
    """P27, B147: the expired link is asked once, the fresh one at the same offset."""
    wire = whole(DATA)
    origin.script = [say(wire[:-10]), say(b"HTTP/1.1 403 Expired\r\nContent-Length: 0\r\n\r\n")]
    origin.then = lambda asked: say(whole(DATA, asked))
    options = replace(fast, renew=lambda: origin.url("/object?sig=2"))
    assert read_all(origin.url("/object?sig=1"), options) == DATA
    assert [line.split()[1][-1] for line in origin.asked] == ["1", "1", "2"]
    assert f"Range: bytes={len(DATA) - 10}-" in origin.asked[2]


def test_silence_is_bounded_and_named(origin, say, fast) -> None:
    """P31: an origin that accepts and never answers."""
    origin.then = lambda asked: say(b"", "hold")
    began = time.monotonic()
    with pytest.raises(Exhausted, match="timeout"):
        read_all(origin.url(), replace(fast, idle_timeout=0.1, attempts=1))
    assert time.monotonic() - began < 3


def test_a_slow_consumer_is_not_silence(origin, whole, say, fast) -> None:
    """P31, T4b: the reader may take longer than the idle timeout between two reads."""
    origin.script = [say(whole(DATA))]
    with open_stream(origin.url(), options=replace(fast, idle_timeout=0.05, buffer=4096)) as stream:
        data = stream.read(100)
        time.sleep(0.12)
        assert data + stream.readall() == DATA
    assert len(origin.asked) == 1


def test_nobody_there(fast) -> None:
    """A refused connection is retried, then named."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Exhausted, match="connect") as caught:
        read_all(f"http://127.0.0.1:{port}/", fast)
    assert caught.value.cause is not None


@pytest.mark.parametrize(
    "junk", [b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"\0" * 100, b""]
)
def test_junk_is_a_fault_not_a_crash(origin, say, fast, junk) -> None:
    """Whatever comes back, the error is one of ours."""
    origin.then = lambda asked: say(junk)
    with pytest.raises(Exhausted):
        read_all(origin.url(), fast)


@pytest.mark.parametrize(
    "url", ["http://", "http:///x", "nope", "gopher://x/", "http://host:port/", "http://[::1/"]
)
def test_bad_urls_are_the_callers(url, fast) -> None:
    """Said before any traffic."""
    with pytest.raises(CallerError) as caught:
        read_all(url, fast)
    assert str(caught.value).count("not an http URL") <= 1


def test_stat(origin, say, fast) -> None:
    """Size, tag and type from one HEAD; a final answer raises."""
    origin.script = [
        say(b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\nETag: "x"\r\nContent-Type: a/b; c=d\r\n\r\n')
    ]
    found = stat(origin.url(), options=fast)
    assert (found.size, found.etag, found.media_type) == (7, '"x"', "a/b")
    origin.script = [say(b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n")]
    with pytest.raises(Refused, match="404"):
        stat(origin.url(), options=fast)
    origin.script = [say(b"")]
    with pytest.raises(Exhausted):
        stat(origin.url(), options=fast)


def test_the_store_asks_once(origin, say, fast) -> None:
    """One layer retries: a store does not."""
    origin.script = [say(b"")]
    store = open_store(origin.url(), fast)
    with pytest.raises(StoreFault):
        store.open_range(0, None, None)
    assert len(origin.asked) == 1


def test_a_stream_that_failed_keeps_failing(origin, say, fast, whole) -> None:
    """P7: no second read turns the error into an end."""
    wire = whole(DATA)
    origin.script = [say(wire[:-10])]
    origin.then = lambda asked: say(b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n")
    with open_stream(origin.url(), options=fast) as stream:
        for _ in range(2):
            with pytest.raises(Refused):
                stream.readall()


def test_many_at_once(origin, whole, say, fast, tmp_path) -> None:
    """Downloads in threads share nothing that matters."""
    wire = whole(DATA)
    origin.then = lambda asked: say(whole(DATA, asked) if "Range" in asked else wire[:-77])
    threads = [
        threading.Thread(target=download, args=(origin.url(), tmp_path / str(i)), kwargs={"options": fast})
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {path.name: path.read_bytes() == DATA for path in tmp_path.iterdir()} == {
        str(i): True for i in range(8)
    }


@pytest.mark.parametrize(("first", "length"), [(0, 100), (1, None), (5000, 300), (len(DATA) - 1, 9), (7, 0)])
def test_a_slice(origin, whole, say, fast, tmp_path, first, length) -> None:
    """P16: as a file and as a stream, through a cut, only what was asked for crosses the wire."""
    wanted = DATA[first:][:length]

    def answer(asked: str):
        wire = whole(DATA, asked)
        return say(wire[:-1] if len(origin.asked) % 2 else wire)

    origin.then = answer
    report = download(origin.url(), tmp_path / "dest", first=first, length=length, options=fast)
    assert (tmp_path / "dest").read_bytes() == wanted
    assert (report.bytes, report.bytes_refetched, report.verified) == (len(wanted), 0, None)
    origin.asked.clear()
    with open_stream(origin.url(), first=first, length=length, options=fast) as stream:
        assert stream.read() == wanted
    last = "" if length is None else first + length - 1
    assert all(f"-{last}\r\n" in asked for asked in origin.asked)
    assert len(origin.asked) == 2 * bool(wanted)


@pytest.mark.parametrize(("first", "length"), [(-1, None), (0, -1)])
def test_no_slice(origin, fast, tmp_path, first, length) -> None:
    """Negative numbers are the caller's."""
    with pytest.raises(CallerError):
        download(origin.url(), tmp_path / "dest", first=first, length=length, options=fast)
    with pytest.raises(CallerError):
        open_stream(origin.url(), first=first, length=length, options=fast)


def test_the_digest_of_the_whole_does_not_fit_a_slice(origin, fast) -> None:
    """P6: rather said than left unverified."""
    with pytest.raises(CallerError, match="expect"):
        open_stream(origin.url(), length=5, options=replace(fast, expect="md5:" + "0" * 32))
