"""The three ways to use the package: a file, a stream, and a question."""

from __future__ import annotations

import io
from pathlib import Path
from types import TracebackType
from typing import Any

from reknit import stores
from reknit._checksums import Digest, wanted
from reknit._errors import Exhausted, Refused, StoreFault
from reknit._filesink import Disk, FileSink
from reknit._machine import Machine
from reknit._options import Options, Report, Stat
from reknit._representation import Representation, content_length, media_type
from reknit._sink import StreamSink
from reknit._transfer import ProgressCallback, Transfer
from reknit._validators import strong_etag


def download(
    url: str,
    dest: str | Path,
    *,
    options: Options | None = None,
    progress: ProgressCallback | None = None,
    _disk: Disk | None = None,
) -> Report:
    """Fetch `url` into the file `dest`, which appears whole and verified or not at all.

    What an earlier call to the same pair left behind is continued. Raises ReknitError: Exhausted when the
    store kept failing (call again to continue), Refused for a final answer, Integrity when the bytes are
    not proved to be the object, Changed when it was replaced too often, SinkError for the local disk,
    CallerError for the call.
    """
    options = options or Options()
    expect = options.expected

    def choose(known: Representation) -> tuple[Digest, ...]:
        return wanted(known.digests, verify=options.verify, expect=expect)

    store = stores.open_store(url, options)
    try:
        with FileSink(Path(dest), store.identity, choose, options.checkpoint_bytes, _disk) as sink:
            machine = _machine(store, options, known=sink.representation, held=sink.held)
            transfer = Transfer(store, machine, sink, options, progress)
            try:
                while transfer.step():
                    pass
            finally:
                transfer.close()
            sink.publish()
            return transfer.report()
    finally:
        store.close()


def stat(url: str, *, options: Options | None = None) -> Stat:
    """What the store says about the object, in one request. Raises Refused, StoreFault's cause as
    Exhausted.
    """
    options = options or Options()
    store = stores.open_store(url, options)
    try:
        head = store.stat()
        head.close()
    except StoreFault as fault:
        raise Exhausted(str(fault), fault.__cause__ or fault) from fault
    finally:
        store.close()
    if head.status != 200:
        reason = head.headers.get("x-reknit-reason", "")
        raise Refused(
            f"the store answered status {head.status}{f' ({reason})' if reason else ''}", head.status
        )
    headers = head.headers
    return Stat(
        content_length(headers),
        strong_etag(headers),
        headers.get("last-modified", ""),
        media_type(headers),
        headers,
    )


def open_stream(
    url: str, *, options: Options | None = None, progress: ProgressCallback | None = None
) -> Stream:
    """Open `url` for reading as one unbroken stream. No traffic before the first read.

    Raises CallerError now, and the errors of `download` while reading. Bytes handed out cannot be taken
    back, so an object that changes after the first of them raises Changed.
    """
    options = options or Options()
    return Stream(stores.open_store(url, options), options, progress)


class Stream(io.RawIOBase):
    """The reader `open_stream` returns. The end is signalled only after the whole object came and was
    verified.
    """

    def __init__(self, store: stores.Store, options: Options, progress: ProgressCallback | None) -> None:
        super().__init__()
        self._store, self._sink = store, StreamSink()
        machine = _machine(store, options, rewindable=False)
        self._transfer = Transfer(store, machine, self._sink, options, progress)
        self._more = True
        self._error: BaseException | None = None

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill some of `buffer`; 0 at the end. A stream that has failed keeps failing: no error turns into
        an end.
        """
        if self.closed:
            raise ValueError("read of a closed stream")
        if self._error is not None:
            raise self._error
        target = memoryview(buffer).cast("B")
        try:
            while self._more and not self._sink.pending and target:
                self._more = self._transfer.step()
        except BaseException as error:
            self._error = error
            raise
        size = min(len(target), len(self._sink.pending))
        target[:size] = self._sink.pending[:size]
        self._sink.pending = self._sink.pending[size:]
        return size

    def report(self) -> Report:
        """What it took so far."""
        return self._transfer.report()

    def close(self) -> None:
        """Give up the rest."""
        if not self.closed:
            self._transfer.close()
            self._store.close()
        super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _machine(
    store: stores.Store,
    options: Options,
    *,
    rewindable: bool = True,
    known: Representation | None = None,
    held: int = 0,
) -> Machine:
    return Machine(
        store.dialect,
        options.limits,
        options.roll,
        rewindable=rewindable,
        verify=options.verify,
        expect=options.expected,
        known=known,
        held=held,
    )
