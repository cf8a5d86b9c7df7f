"""Helpers for tests of what happens on the wire: a sample in every chunking, scripted peers, an event log."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from midstream._evidence import Event
from midstream._wire import Framing, Head, Span, Tracker, framing_of, head_end, parse_head

WAIT = 30.0  # seconds until something that has to happen counts as not happening


@dataclass(frozen=True)
class Followed:
    """What a Tracker made of one sample; the same however the sample was cut up."""

    spans: tuple[Span, ...]
    taken: int
    wire: int
    body: int
    framing: Framing
    fields: tuple[tuple[str, str], ...] | None
    complete: bool  # before the connection ended
    closed: bool  # after it
    broken: bool


def merge(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same stretches with neighbours of one place joined."""
    merged: list[Span] = []
    for span in spans:
        if merged and merged[-1].place is span.place and merged[-1].end == span.start:
            merged[-1] = replace(merged[-1], end=span.end)
        else:
            merged.append(span)
    return tuple(merged)


def follow(pieces: Iterable[bytes], method: str | None) -> Followed:
    """Feed the pieces to a Tracker, checking after each that no byte is lost or counted twice."""
    tracker = Tracker(method)
    spans: list[Span] = []
    taken = 0
    for piece in pieces:
        found, n = tracker.feed(piece)
        spans += found
        taken += n
        assert taken == tracker.wire + tracker.held, "each byte taken is accounted for or held"
        assert n == len(piece) or tracker.complete, "bytes are left only behind the end"
    complete = tracker.complete
    fields = tuple(tracker.head.fields) if tracker.head else None
    return Followed(
        merge(spans),
        taken,
        tracker.wire,
        tracker.body,
        tracker.framing,
        fields,
        complete,
        tracker.close(),
        tracker.broken,
    )


def split(sample: bytes, seed: int) -> Iterator[bytes]:
    """The sample in pieces of sizes drawn from the seed, empty ones among them."""
    draw = random.Random(seed)
    at = 0
    while at < len(sample):
        n = draw.choice((0, 1, 2, 3, 7, 64, 1000, 20_000))
        yield sample[at : at + n]
        at += n


def tr(sample: bytes, method: str | None = "GET", seed: int = 0) -> Followed:
    """Follow a sample whole, byte by byte and split by a seed; all three must say the same.

    `method` is that of the request the sample answers, None when the sample is a request.
    """
    whole = follow([sample], method)
    assert follow((sample[i : i + 1] for i in range(len(sample))), method) == whole, "byte by byte"
    assert follow(split(sample, seed), method) == whole, f"split by seed {seed}"
    return whole


@dataclass(frozen=True)
class Received:
    """What came until the end, and which end it was: eof or reset."""

    data: bytes
    ending: str


class Peer:
    """One end of a connection, read by messages or by bytes. A read that takes `WAIT` seconds fails."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        sock.settimeout(WAIT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def more(self) -> bool:
        """Wait for bytes; False at the end."""
        data = self.sock.recv(1 << 18)
        self.buffer += data
        return bool(data)

    def take(self, n: int) -> bytes:
        """Exactly n bytes, fewer only at the end."""
        while len(self.buffer) < n and self.more():
            pass
        data = bytes(self.buffer[:n])
        del self.buffer[:n]
        return data

    def head(self) -> Head | None:
        """The next message head; None when the connection ends before it is complete."""
        while (end := head_end(self.buffer)) < 0:
            if not self.more():
                return None
        return parse_head(self.take(end))

    def body(self, head: Head, method: str | None = None) -> bytes:
        """The wire bytes of the body after `head`, framing included."""
        framing, length = framing_of(head, method)
        if framing is Framing.LENGTH:
            return self.take(length)
        if framing is Framing.CLOSE:
            return self.rest().data
        data = b""
        while framing is Framing.CHUNKED and not data.endswith(b"\r\n0\r\n\r\n") and data != b"0\r\n\r\n":
            size = self.line()
            data += size
            n = int(size.split(b";")[0], 16)
            data += self.take(n) + self.line()
        return data

    def line(self) -> bytes:
        while (end := self.buffer.find(b"\n")) < 0:
            if not self.more():
                break
        return self.take(end + 1)

    def rest(self, piece: int = 1 << 20) -> Received:
        """Everything until the end, read at most `piece` bytes at a time."""
        parts, self.buffer = [bytes(self.buffer)], bytearray()
        try:
            while data := self.sock.recv(piece):
                parts.append(data)
        except ConnectionResetError:
            return Received(b"".join(parts), "reset")
        return Received(b"".join(parts), "eof")

    def quiet(self) -> bool:
        """Whether the connection is open and nothing at all has come."""
        self.sock.setblocking(False)
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return not self.buffer
        finally:
            self.sock.settimeout(WAIT)
        return False

    def reset(self) -> None:
        """Close with a reset, whatever is unsent."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


Script = Callable[[Peer], None]


class ScriptedOrigin:
    """A server on loopback whose every connection is played by `script`, in a thread of its own.

    A connection that the other side ends is nothing special; any other exception of the script is raised when
    the origin stops.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.failures: list[Exception] = []
        self.accepted = 0
        self._open: set[Peer] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            thread = threading.Thread(target=self._play, args=(Peer(sock),), daemon=True)
            self._threads = [t for t in self._threads if t.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _play(self, peer: Peer) -> None:
        self._open.add(peer)
        try:
            self.script(peer)
        except OSError:
            pass
        except Exception as error:
            self.failures.append(error)
        finally:
            peer.close()
            self._open.discard(peer)

    def settle(self) -> None:
        """Wait until every connection so far has been played to its end."""
        for thread in self._threads:
            thread.join(WAIT)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(WAIT)
        for peer in list(self._open):
            try:
                peer.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.settle()
        if self.failures:
            raise self.failures[0]


@contextmanager
def origin(script: Script) -> Iterator[ScriptedOrigin]:
    running = ScriptedOrigin(script)
    try:
        yield running
    finally:
        running.stop()


@dataclass
class Watch:
    """A listener for events that a test can wait on."""

    events: list[Event] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def until(self, kind: str, count: int = 1) -> Event:
        """Wait until so many events of a kind have come; gives the last of them."""

        def found() -> list[Event]:
            return [e for e in self.events if e.kind == kind]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, WAIT), f"no {kind} within {WAIT} s"
            return found()[count - 1]
