"""One version of one object, whose parts are fetched in any order.

A strong entity tag binds the parts together (RFC 9110 §15.3.7.3). Without one, or from a server that does not
answer ranges, parts of two versions could meet: then the whole is fetched once into an unnamed temporary
file, verified, and read there.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import IO

from reknit import stores
from reknit._errors import Changed, SinkError, StoreFault, Unranged
from reknit._options import Options, Stat
from reknit._ranges import Slice
from reknit._representation import Representation
from reknit._sink import MemorySink, StreamSink
from reknit._transfer import Transfer
from reknit.stores._shared import Shared
from reknit.stores.file import HeldFile


@dataclass(frozen=True, slots=True)
class Found:
    """A version, and the head that told of it."""

    version: Representation
    headers: Mapping[str, str]

    @property
    def binds(self) -> bool:
        """Whether parts can be bound to it."""
        return self.version.etag is not None and self.version.total is not None


def by_head(store: stores.Store) -> Found | None:
    """What a HEAD says, if it is answered: it is a shortcut, and only a GET has the last word."""
    try:
        head = store.stat()
    except StoreFault:
        return None
    head.close()
    found = Representation.read(head.headers, store.dialect)
    coded = found.coding and not store.dialect.stored_coding
    return None if head.status != 200 or coded else Found(found, head.headers)


class Pinned:
    """Safe to share between threads. The version is the first one that answers."""

    def __init__(self, store: stores.Store, options: Options) -> None:
        self._store: stores.Store = Shared(store, options)
        self._options = options
        self._lock = threading.RLock()
        self._version: Representation | None = None  # of what `_store` serves
        self._stat: Stat | None = None
        self._spooled: HeldFile | None = None
        self._used = False  # bytes of the version were handed out

    @property
    def size(self) -> int:
        """In bytes."""
        total = self._pin().total
        assert total is not None
        return total

    @property
    def stat(self) -> Stat:
        """What the store said of the version, without the head when only a GET could tell."""
        self._pin()
        assert self._stat is not None
        return self._stat

    def fetch(self, first: int, length: int) -> bytes:
        """The bytes of a range, fewer at the end."""
        part = Slice(first, max(0, min(length, self.size - first)))
        while part.length:
            sink = MemorySink()
            try:
                with closing(self._transfer(part, sink)) as transfer:
                    transfer.run()
                self._used = True
                return bytes(sink.data)
            except Unranged:
                self.spool()
        return b""

    def run(self, part: Slice) -> Run:
        """Begin to read a range within the object. It may raise Unranged: `spool`, and begin anew."""
        sink = StreamSink()
        return Run(self._transfer(part, sink), sink, part, self._hand_out)

    def spool(self) -> None:
        """Fetch the whole, once; raises Changed when that is another version than was read so far."""
        with self._lock:
            if self._spooled is not None:
                return
            seen, store = self._version, self._store
            file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by whoever holds it then
            try:
                sink = _SpoolSink(file)
                with closing(Transfer(store, sink, self._options)) as transfer:
                    transfer.run()
                    whole = transfer.representation
                file.flush()
                assert whole is not None
                same = seen is None or (whole.etag, sink.size) == (seen.etag, seen.total)
                # Of a version of which nothing was handed out but its size, that alone must stay.
                if not same and (self._used or seen is None or sink.size != seen.total):
                    raise Changed("the object changed: the whole is not what its parts were read from")
                self._stat = self._stat or _stat(whole.sized(sink.size), {})
                self._spooled = self._store = HeldFile(file)
                self._version = Representation.read(self._store.stat().headers, self._store.dialect)
            except BaseException:
                file.close()
                raise

    def close(self) -> None:
        """Give back the disk."""
        if self._spooled is not None:
            self._spooled.close()

    def _hand_out(self) -> None:
        self._used = True

    def _transfer(self, part: Slice, sink: MemorySink | StreamSink) -> Transfer:
        with self._lock:
            version = self._pin()
            return Transfer(self._store, sink, self._options, part=part, bound=version)

    def _pin(self) -> Representation:
        with self._lock:
            if self._version is not None:
                return self._version
            found = by_head(self._store) or self._from_first_byte()
            if found.binds:
                self._stat = _stat(found.version, found.headers)
                self._version = replace(found.version, digests=())
            else:
                self.spool()
            assert self._version is not None
            return self._version

    def _from_first_byte(self) -> Found:
        """What a GET says, asked again and again where that can help. Raises what a download would."""
        with closing(Transfer(self._store, MemorySink(), self._options, part=Slice(0, 1))) as transfer:
            transfer.run()
            found = transfer.representation
        assert found is not None
        return Found(found, {})


class Run:
    """A range that is read in sequence, out of one answer while it lasts."""

    def __init__(self, transfer: Transfer, sink: StreamSink, part: Slice, used: Callable[[], None]) -> None:
        assert part.length is not None
        self._used = used
        self._transfer, self._sink = transfer, sink
        self.asked, self.end = part.length, part.first + part.length
        self._block, self._from = memoryview(b""), part.first  # the bytes at hand, and where they lie

    def leads_to(self, at: int, stride: int) -> bool:
        """Whether `at` is at hand, or so near that reading on is cheaper than asking anew."""
        return self._from <= at < min(self.end, self._from + len(self._block) + stride)

    def take(self, at: int, view: memoryview) -> int:
        """Fill some of `view` from byte `at` on."""
        while at >= self._from + len(self._block):
            self._from += len(self._block)
            self._block = self._sink.pending = memoryview(b"")
            while not self._sink.pending and self._transfer.step():
                pass
            self._block = self._sink.pending
            assert self._block, "a bound range ends at its end"
            if self._from + len(self._block) == self.end:
                self._transfer.run()  # which lets go of the connection
        found = self._block[at - self._from :][: len(view)]
        view[: len(found)] = found
        self._used()
        return len(found)

    def close(self) -> None:
        """Drop the answer at hand."""
        self._transfer.close()


class _SpoolSink:
    """A file that can be begun anew."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.size = file, 0

    def pin(self, representation: Representation) -> None:
        pass

    def write(self, data: memoryview) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise SinkError(f"cannot write a temporary file: {error.strerror}", error) from error
        self.size += len(data)

    def truncate(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.size = 0

    def pause(self) -> None:
        pass


def _stat(version: Representation, headers: Mapping[str, str]) -> Stat:
    digests = {digest.algorithm: digest.value for digest in version.digests}
    return Stat(version.total, version.etag, version.modified, version.media, headers, digests)
