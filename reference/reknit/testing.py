"""A scripted store and a sink in memory, so that a test reads as a transcript and needs no network.

store = ScriptedStore([
    Reply(200, {"content-length": "6", "etag": '"a"'}, [b"abc"], StoreFault("reset", "RST")),
    Reply(206, {"content-range": "bytes 3-5/6", "etag": '"a"'}, [b"def"]),
])
assert fetch(store).data == b"abcdef"
assert store.asked == ["GET", 'GET 3- if "a"']
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace

from reknit._client import Stream
from reknit._errors import ReknitError, StoreFault
from reknit._options import Options, Report
from reknit._ranges import WHOLE, Slice
from reknit._representation import Dialect
from reknit._sink import MemorySink
from reknit._transfer import Transfer
from reknit.stores import Response

__all__ = [
    "MemorySink",
    "Outcome",
    "Reply",
    "ScriptedStore",
    "Server",
    "StoreFault",
    "cut",
    "fetch",
    "read_stream",
]


@dataclass
class Reply:
    """One answer: the head, the body as the network delivers it, and the fault that ends it, if any."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: list[bytes] = field(default_factory=list)
    fault: StoreFault | None = None
    closed: bool = False

    def read(self, limit: int) -> bytes:
        """See Response.read."""
        assert not self.closed, "read after close"
        assert limit > 0, "an empty read"
        if not self.body:
            if self.fault is not None:
                raise self.fault
            return b""
        chunk = self.body.pop(0)
        if len(chunk) > limit:
            self.body.insert(0, chunk[limit:])
        return chunk[:limit]

    def close(self) -> None:
        """See Response.close."""
        self.closed = True


Play = Callable[[str, int, int | None, str | None], Reply | StoreFault]
"""Method, first, last and condition of a request, and what becomes of it."""


class ScriptedStore:
    """Plays replies in order, or asks a function for each. `asked` is the transcript, one line per request.

    A StoreFault in place of a reply breaks the request before any answer. `renewals` says what each `renew`
    finds.
    """

    def __init__(
        self,
        script: Iterable[Reply | StoreFault] | Play,
        *,
        dialect: Dialect | None = None,
        renewals: Iterable[bool] = (),
    ) -> None:
        self.identity = "scripted"
        self.dialect = dialect or Dialect("If-Range")
        self.asked: list[str] = []
        self._renewals = list(renewals)
        self._play = script if callable(script) else _in_order(script)

    def stat(self) -> Response:
        """See Store.stat."""
        self.asked.append("HEAD")
        return self._reply("HEAD", 0, None, None)

    def open_range(self, first: int, last: int | None, etag: str | None) -> Response:
        """See Store.open_range."""
        words = ["GET"]
        if first or last is not None:
            words.append(f"{first}-{'' if last is None else last}")
        if etag is not None:
            words.append(f"if {etag}")
        self.asked.append(" ".join(words))
        return self._reply("GET", first, last, etag)

    def renew(self) -> bool:
        """See Store.renew."""
        self.asked.append("RENEW")
        return self._renewals.pop(0) if self._renewals else False

    def _reply(self, method: str, first: int, last: int | None, etag: str | None) -> Reply:
        reply = self._play(method, first, last, etag)
        if isinstance(reply, StoreFault):
            raise reply
        return reply


def _in_order(script: Iterable[Reply | StoreFault]) -> Play:
    replies = iter(script)
    return lambda *_: next(replies, StoreFault("connect", "the script is over"))


class Server:
    """An honest server of one object, in memory, for a ScriptedStore: `server.store`.

    Bodies come in blocks of `block` bytes. `etag` may be weak or empty, `ranges` and `head` say whether it
    answers those; all of it may change at any time. `trouble` gets the number of a GET, from 1 on, and its
    honest answer, and returns what is sent instead.
    """

    def __init__(self, data: bytes, *, block: int = 10_000) -> None:
        self.data, self.block, self.etag, self.ranges, self.head = data, block, '"a"', True, True
        self.trouble: Callable[[int, Reply], Reply | StoreFault] = lambda number, reply: reply
        self._numbers = itertools.count(1)
        self.store = ScriptedStore(self._answer)

    def get(self, first: int, last: int | None, etag: str | None) -> Reply:
        """The honest answer to a GET."""
        headers = {"etag": self.etag} if self.etag else {}
        total = len(self.data)
        ranged = self.ranges and (first > 0 or last is not None) and etag in (None, self.etag)
        if ranged and first >= total:
            return Reply(416, {"content-range": f"bytes */{total}"})
        start, end = (first, total if last is None else min(total, last + 1)) if ranged else (0, total)
        headers["content-length"] = str(end - start)
        if ranged:
            headers["content-range"] = f"bytes {start}-{end - 1}/{total}"
        body = [self.data[i : min(end, i + self.block)] for i in range(start, end, self.block)]
        return Reply(206 if ranged else 200, headers, body)

    def _answer(self, method: str, first: int, last: int | None, etag: str | None) -> Reply | StoreFault:
        if method == "GET":
            return self.trouble(next(self._numbers), self.get(first, last, etag))
        headers = {"etag": self.etag} if self.etag else {}
        return Reply(200, headers | {"content-length": str(len(self.data))}) if self.head else Reply(405)


def cut(after: int, kind: str = "reset") -> Callable[[Reply], Reply]:
    """A change to a reply: its body ends after so many bytes with a fault of that kind."""

    def end(reply: Reply) -> Reply:
        body = b"".join(reply.body)
        return replace(reply, body=[body[:after]] if after else [], fault=StoreFault(kind, kind))

    return end


@dataclass
class Outcome:
    """How a run ended: `error` is None for success. `waits` are the seconds it would have slept."""

    data: bytes
    error: ReknitError | None
    report: Report
    waits: list[float]


def fetch(store: ScriptedStore, options: Options | None = None, *, part: Slice = WHOLE) -> Outcome:
    """Run a download from `store` into memory; time stands still. Errors that are not ours are raised."""
    waits: list[float] = []
    sink = MemorySink()
    transfer = Transfer(store, sink, replace(options or Options(), sleep=waits.append), part=part)
    error: ReknitError | None = None
    with closing(transfer):
        try:
            while transfer.step():
                pass
        except ReknitError as caught:
            error = caught
    return Outcome(bytes(sink.data), error, transfer.report(), waits)


def read_stream(
    store: ScriptedStore, options: Options | None = None, size: int = 1 << 16, *, part: Slice = WHOLE
) -> Outcome:
    """Read `store` as a stream in steps of `size`; `data` is what was delivered before any error."""
    waits: list[float] = []
    data, error = bytearray(), None
    with Stream(store, replace(options or Options(), sleep=waits.append), part=part) as stream:
        try:
            while chunk := stream.read(size):
                data += chunk
        except ReknitError as caught:
            error = caught
        return Outcome(bytes(data), error, stream.report(), waits)
