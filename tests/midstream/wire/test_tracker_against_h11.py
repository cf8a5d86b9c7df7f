"""The Tracker against h11: generated messages, the same body and the same end."""

from __future__ import annotations

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream._wire import Framing
from midstream.testing.wire import tr

TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ-", min_size=1, max_size=12).filter(
    lambda name: (
        name.lower() not in ("content-length", "transfer-encoding", "expect", "connection", "upgrade")
    )
)
VALUE = st.text('abc XYZ019;="/,*', max_size=30).map(str.strip)
FIELDS = st.lists(st.tuples(TOKEN, VALUE), max_size=6)
DATA = st.binary(max_size=3000)


def spelled(name: str, casing: int) -> str:
    return "".join(c.upper() if casing >> i & 1 else c.lower() for i, c in enumerate(name))


@st.composite
def framed(draw: st.DrawFn, framings: tuple[str, ...]) -> tuple[list[tuple[str, str]], bytes, int]:
    """Framing fields, the wire bytes of a body and how many of them are payload."""
    kind = draw(st.sampled_from(framings))
    casing = draw(st.integers(0, (1 << 18) - 1))
    if kind == "none":
        return [], b"", 0
    if kind == "length":
        data = draw(DATA)
        return [(spelled("content-length", casing), str(len(data)))], data, len(data)
    if kind == "close":
        data = draw(DATA)
        return [], data, len(data)
    wire, payload = b"", 0
    for data in draw(st.lists(st.binary(min_size=1, max_size=900), max_size=5)):
        size = b"%0*x" % (draw(st.integers(0, 5)), len(data))
        size = size.upper() if draw(st.booleans()) else size
        extension = draw(st.sampled_from([b"", b";a", b";a=b", b';a="b c"']))
        wire += size + extension + b"\r\n" + data + b"\r\n"
        payload += len(data)
    trailer = draw(st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: 1\r\nB: 2\r\n"]))
    wire += b"0" * draw(st.integers(1, 4)) + b"\r\n" + trailer + b"\r\n"
    return (
        [(spelled("transfer-encoding", casing), draw(st.sampled_from(["chunked", "Chunked"])))],
        wire,
        payload,
    )


def fields_of(fields: list[tuple[str, str]], pad: str) -> bytes:
    return "".join(f"{name}:{pad}{value}\r\n" for name, value in fields).encode()


def body_of(connection: h11.Connection, data: bytes) -> tuple[int, bool]:
    """Payload bytes and whether the message came to its end, by h11."""
    connection.receive_data(data)
    body = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA or event is h11.PAUSED:
            return body, False
        if isinstance(event, h11.Data):
            body += len(event.data)
        if isinstance(event, h11.EndOfMessage):
            return body, True


@given(
    method=st.sampled_from(["GET", "HEAD", "PUT"]),
    status=st.sampled_from([200, 204, 206, 304, 404, 503]),
    others=FIELDS,
    body=framed(("length", "chunked", "close")),
    pad=st.sampled_from(["", " ", "\t "]),
    left=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\0\xff junk"]),
    cut=st.integers(0, 400),
    seed=st.integers(0, 1000),
)
@settings(max_examples=200, deadline=None)
def test_responses(
    method: str,
    status: int,
    others: list[tuple[str, str]],
    body: tuple[list[tuple[str, str]], bytes, int],
    pad: str,
    left: bytes,
    cut: int,
    seed: int,
) -> None:
    """A response has the same payload and ends at the same byte for both, whole or cut short."""
    framing, wire, _ = body
    head = b"HTTP/1.1 %d Some Words\r\n" % status + fields_of(others + framing, pad) + b"\r\n"
    without = method == "HEAD" or status in (204, 304)
    message = head + (b"" if without else wire)
    closes = not framing and not without
    stream = message if closes else message + left

    ours = tr(stream, method, seed)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    payload, ended = body_of(client, stream)
    assert ours.body == payload
    assert ours.complete is ended
    assert closes is (ours.framing is Framing.CLOSE)
    if ended:
        assert client.trailing_data[0] == stream[ours.taken :]

    short = message[: max(1, len(message) - cut)]
    ours = tr(short, method, seed)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    payload, ended = body_of(client, short)
    assert (ours.body, ours.complete) == (payload, ended)


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE"]),
    others=FIELDS,
    body=framed(("none", "length", "chunked")),
    left=st.sampled_from([b"", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=200, deadline=None)
def test_requests(
    method: str,
    others: list[tuple[str, str]],
    body: tuple[list[tuple[str, str]], bytes, int],
    left: bytes,
    seed: int,
) -> None:
    """A request has the same payload and ends at the same byte for both."""
    framing, wire, payload = body
    head = f"{method} /a?b HTTP/1.1\r\nHost: x\r\n".encode() + fields_of(others + framing, " ") + b"\r\n"
    ours = tr(head + wire + left, None, seed)
    server = h11.Connection(h11.SERVER)
    got, ended = body_of(server, head + wire + left)
    assert ended
    assert ours.complete
    assert ours.body == got == payload
    assert server.trailing_data[0] == (head + wire + left)[ours.taken :] == left
