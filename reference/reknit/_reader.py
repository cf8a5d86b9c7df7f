"""Random access to one version of an object, over as many connections as it takes."""

from __future__ import annotations

import io
import os
import threading
from typing import Any

from reknit import stores
from reknit._errors import CallerError, Unranged
from reknit._options import Options, Stat
from reknit._pinned import Pinned, Run
from reknit._ranges import Slice

# What a read fetches at least, as an operating system reads ahead of a program; and at most at once in a
# sequence, so that a reader who leaves wastes little, and one who stays hardly waits between ranges.
LEAST, MOST = 64 << 10, 32 << 20


def ahead(wanted: int, before: int) -> int:
    """How many bytes to ask for when `wanted` are read; `before`: in a sequence, what was asked for last."""
    return max(wanted, min(MOST, max(LEAST, before * 2)))


class Reader(io.RawIOBase):
    """What `reknit.open` returns: seekable, safe to share between threads, and all of one version.

    `read`, `readinto`, `seek` and `tell` share one position; `read_range` needs none, and any number of
    threads may be in it at once. A read is short only at the end of the object. Drops are healed; Changed
    is raised when the object was replaced after the reader saw it, and keeps being raised.
    """

    def __init__(self, store: stores.Store, options: Options) -> None:
        super().__init__()
        self._object = Pinned(store, options)
        self._lock = threading.RLock()
        self._at = 0
        self._run: Run | None = None
        if options.expect is not None:  # last: what is refused is closed by the collector all the same
            raise CallerError("`expect` is the digest of the whole object, and a reader reads parts")

    @property
    def size(self) -> int:
        """How many bytes the object has; one request when nothing has been read yet."""
        self._check()
        return self._object.size

    @property
    def stat(self) -> Stat:
        """What is known of the version being read."""
        self._check()
        return self._object.stat

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position of the next byte."""
        self._check()
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; from the end, the size is asked for. Behind the end there is nothing to read."""
        with self._lock:
            self._check()
            if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
                raise ValueError(f"invalid whence: {whence}")
            base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
            target = offset + (self.size if base is None else base)
            if target < 0:
                raise ValueError(f"negative position: {target}")
            self._at = target
            return target

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`, up to the end of the object."""
        view = memoryview(buffer).cast("B")
        with self._lock:
            self._check()
            wanted = min(len(view), max(0, self.size - self._at)) if view else 0
            done = 0
            while done < wanted:
                done += self._some(self._at + done, view[done:wanted])
            self._at += done
            return done

    def read(self, size: int | None = -1) -> bytes:
        """Read `size` bytes, or all that is left."""
        with self._lock:
            self._check()
            left = max(0, self.size - self._at)
            buffer = bytearray(left if size is None or size < 0 else min(size, left))
            self.readinto(buffer)
            return bytes(buffer)

    def readall(self) -> bytes:
        """All that is left."""
        return self.read()

    def read_range(self, offset: int, length: int) -> bytes:
        """Read `length` bytes from `offset` on, fewer only at the end. The position stays where it is."""
        self._check()
        if offset < 0 or length < 0:
            raise CallerError(f"not a range: {length} bytes from byte {offset}")
        return self._object.fetch(offset, length)

    pread = read_range

    def close(self) -> None:
        """Drop the connection and what was spooled."""
        with self._lock:
            if not self.closed:
                self._leave()
                self._object.close()
            super().close()

    def _some(self, at: int, view: memoryview) -> int:
        """Some bytes from `at` on, out of the answer at hand if it leads there."""
        try:
            if self._run is not None and self._run.leads_to(at, LEAST):
                return self._run.take(at, view)
            before = self._run.asked if self._run is not None and at == self._run.end else 0
            self._leave()
            self._run = self._object.run(Slice(at, min(ahead(len(view), before), self.size - at)))
            return self._run.take(at, view)
        except Unranged:
            self._leave()
            self._object.spool()
            return 0
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        if self._run is not None:
            self._run.close()
            self._run = None

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed reader")
