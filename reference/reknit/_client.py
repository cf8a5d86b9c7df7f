"""The ways to use the package: a file, a stream, a part, random access, and a question."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path
from typing import Any

from reknit import stores
from reknit._checksums import offered
from reknit._errors import CallerError, Exhausted, Refused, StoreFault
from reknit._filesink import Disk, FileSink
from reknit._options import Options, Report, Stat
from reknit._parallel import fill
from reknit._ranges import WHOLE, Slice
from reknit._reader import Reader
from reknit._representation import content_length, media_type, refusal
from reknit._sink import MemorySink, StreamSink
from reknit._transfer import ProgressCallback, Transfer
from reknit._url import shown
from reknit._validators import strong_etag


def download(
    url: str,
    dest: str | Path,
    *,
    first: int = 0,
    length: int | None = None,
    options: Options | None = None,
    progress: ProgressCallback | None = None,
    _disk: Disk | None = None,
) -> Report:
    """Fetch `url` into the file `dest`, which appears whole and verified or not at all.

    With `first` and `length`, that slice alone: as much of it as the object has. What an earlier call for the
    same left behind is continued. Raises ReknitError: Exhausted when the store kept failing (call again to
    continue), Refused for a final answer and for a slice that begins beyond the end, Integrity when the bytes
    are not proved to be the object, Changed when it was replaced too often, SinkError for the local disk,
    CallerError for the call.
    """
    options = options or Options()
    part = _slice(first, length, options)
    store = stores.open_store(url, options)
    identity = store.identity if part.whole else f"{store.identity} bytes {first}+{length}"
    with FileSink(Path(dest), identity, options, _disk, shown(url)) as sink:
        report = fill(store, sink, options, progress, part)
        sink.publish()
        return report


def stat(url: str, *, options: Options | None = None) -> Stat:
    """What the store says about the object, in one request. Raises Refused, Exhausted and CallerError."""
    store = stores.open_store(url, options or Options())
    try:
        head = store.stat()
    except StoreFault as fault:
        raise Exhausted(str(fault), fault.__cause__ or fault) from fault
    head.close()
    headers = head.headers
    if head.status != 200:
        raise Refused(refusal(head.status, headers), head.status)
    return Stat(
        content_length(headers),
        strong_etag(headers),
        headers.get("last-modified", ""),
        media_type(headers),
        headers,
        {d.algorithm: d.value for d in offered(headers, etag_is_md5=store.dialect.etag_is_md5(headers))},
    )


def open_stream(
    url: str,
    *,
    first: int = 0,
    length: int | None = None,
    options: Options | None = None,
    progress: ProgressCallback | None = None,
) -> Stream:
    """Open `url`, or the slice of it, for reading as one unbroken stream. No traffic before the first read.

    Raises CallerError now, and the errors of `download` while reading. Bytes handed out cannot be taken
    back, so an object that changes after the first of them raises Changed.
    """
    options = options or Options()
    part = _slice(first, length, options)
    return Stream(stores.open_store(url, options), options, progress, part)


def open_reader(url: str, *, options: Options | None = None) -> Reader:
    """Open `url` for random access: `reknit.open`. No traffic before it is needed.

    Raises CallerError now. The version is that of the first answer; Changed is raised when it was replaced
    later, for what was read cannot be taken back.
    """
    options = options or Options()
    return Reader(stores.open_store(url, options), options)


def read_range(url: str, offset: int, length: int, *, options: Options | None = None) -> bytes:
    """The `length` bytes of `url` from `offset` on, all of one version; fewer only at its end.

    Raises the errors of `download`.
    """
    options = options or Options()
    part = _slice(offset, length, options)
    sink = MemorySink()
    try:
        with closing(Transfer(stores.open_store(url, options), sink, options, part=part)) as transfer:
            transfer.run()
    except Refused as error:
        if error.status == 416:
            return b""  # like a file, it has no bytes behind its end
        raise
    return bytes(sink.data)


class Stream(io.RawIOBase):
    """The reader `open_stream` returns. It ends only after the whole object came and was verified."""

    def __init__(
        self,
        store: stores.Store,
        options: Options,
        progress: ProgressCallback | None = None,
        part: Slice = WHOLE,
    ) -> None:
        super().__init__()
        self._sink = StreamSink()
        self._transfer = Transfer(store, self._sink, options, progress, part=part, rewindable=False)
        self._more = True
        self._error: BaseException | None = None

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill some of `buffer`; 0 at the end. What has failed keeps failing: no error turns into an end."""
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
        super().close()


def _slice(first: int, length: int | None, options: Options) -> Slice:
    part = Slice(first, length)
    if first < 0 or (length is not None and length < 0):
        raise CallerError(f"not a slice: {length} bytes from byte {first}")
    if options.expect is not None and not part.whole:
        raise CallerError("`expect` is the digest of the whole object, and a slice was asked for")
    return part
