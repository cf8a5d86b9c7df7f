"""One object to be handed on: its head, and its body as a transfer bound to what was told of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from reknit import stores
from reknit._errors import Exhausted, Integrity, Refused, StoreFault
from reknit._options import Options, Report
from reknit._ranges import WHOLE, Slice, parse_content_range
from reknit._representation import Representation, refusal
from reknit._retry import RENEWABLE, RETRYABLE, backoff, retry_after, times
from reknit._sink import StreamSink
from reknit._transfer import Transfer

About = tuple[Representation, Mapping[str, str]]
"""A version, and the head it was read from."""


def head(store: stores.Store, options: Options) -> About:
    """What the store says of the object, asked until it answers. Raises Refused and Exhausted."""
    failures, renewed = 0, False
    while True:
        after, why, cause = 0.0, "", None
        try:
            answer = store.stat()
        except StoreFault as fault:
            why, cause = str(fault), fault
        else:
            answer.close()
            if answer.status == 200:
                return Representation.read(answer.headers, store.dialect), answer.headers
            why = refusal(answer.status, answer.headers)
            if answer.status in RENEWABLE and not renewed and store.renew():
                renewed = True
                continue
            if answer.status not in RETRYABLE:
                raise Refused(why, answer.status)
            after = min(retry_after(answer.headers, time.time()), options.retry_after_cap)
        failures += 1
        if failures > options.attempts:
            raise Exhausted(f"gave up after {times(failures)}: {why}", cause)
        wait = backoff(failures, options.backoff_base, options.backoff_cap, options.roll())
        options.sleep(max(wait, after))


class Body:
    """The bytes of `part`, all of one version. `open` first; close it in any case."""

    def __init__(self, store: stores.Store, options: Options, part: Slice = WHOLE) -> None:
        self.part = part
        self._noting = _Noting(store)
        self._sink = StreamSink()
        self._transfer = Transfer(self._noting, self._sink, options, part=part, rewindable=False)
        self._more = True

    def open(self) -> About:
        """Fetch until the first block is there, or there is none. Raises ReknitError.

        Only then is anything promised: a head that was cut short, or an object replaced behind its head, is
        still no business of anybody downstream.
        """
        while self._more and not self._sink.pending:
            self._more = self._transfer.step()
        pinned = self._transfer.representation
        assert pinned is not None, "a transfer ends with a version, or an error"
        headers = self._noting.headers
        # The transfer drops the digests of the whole for a part; downstream they are of use.
        span = parse_content_range(headers.get("content-range"))
        theirs = Representation.read(headers, self._noting.dialect, span)
        return theirs.sized(pinned.total), headers

    def blocks(self, size: int | None) -> Iterator[memoryview]:
        """The body: `size` bytes (None: until it ends) of the version that `open` told. Raises ReknitError.

        The last block comes only after the transfer has verified all of them, so that a body which is not
        the object never comes to its promised end.
        """
        sent = 0
        while True:
            block, self._sink.pending = self._sink.pending, memoryview(b"")
            if block:
                if sent + len(block) == size:
                    while self._more:
                        self._more = self._transfer.step()
                sent += len(block)
                yield block
            elif self._more:
                self._more = self._transfer.step()
            elif size not in (None, sent):
                raise Integrity(f"the body ended after {sent} of {size} bytes")
            else:
                return

    def report(self) -> Report:
        """What it took."""
        return self._transfer.report()

    def close(self) -> None:
        """Drop what is under way."""
        self._transfer.close()


class _Noting:
    """A store that keeps the head of the last answer of the object's bytes."""

    def __init__(self, store: stores.Store) -> None:
        self._store = store
        self.identity, self.dialect = store.identity, store.dialect
        self.headers: Mapping[str, str] = {}

    def stat(self) -> stores.Response:
        return self._store.stat()

    def open_range(self, first: int, last: int | None, etag: str | None) -> stores.Response:
        answer = self._store.open_range(first, last, etag)
        if answer.status in (200, 206):
            self.headers = answer.headers
        return answer

    def renew(self) -> bool:
        return self._store.renew()
