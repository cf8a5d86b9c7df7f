"""Running digests over what is in a sink, taken behind the transfer's back where that saves time.

Receiving and hashing cost about the same, and a second core can do one of them. What is hashed there is read
back out of the file, so no buffer is shared and no copy is kept: memory stays one block, and it is truly what
is in the sink that is hashed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

from reknit._checksums import Hasher
from reknit._errors import SinkError

Reread = Callable[[int, memoryview], int]
"""Read what the sink holds from an offset on; how many bytes were read."""

_BLOCK = 1 << 20

# A thread takes its time to begin: less than this is hashed at once, in passing.
_WORTH = 4 << 20


class Hashing:
    """`algorithms` over a sink from its first byte on. With `reread`, in a thread once there is enough."""

    def __init__(self, algorithms: Iterable[str], reread: Reread | None = None) -> None:
        self._hashers = {name: Hasher(name) for name in algorithms}
        self._reread = reread if len(os.sched_getaffinity(0)) > 1 else None
        self._changed = threading.Condition()  # guards everything below
        self._at = self._upto = 0
        self._hurry = self._over = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def update(self, data: memoryview | bytes) -> None:
        """These bytes follow in the sink."""
        if not self._hashers:
            return
        self._upto += len(data)
        if self._thread is None and (self._reread is None or self._upto < _WORTH):
            self._take(data)
        else:
            self._behind()

    def hexdigest(self, algorithm: str) -> str:
        """The digest of all that came. Raises what reading the sink raised."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            while self._thread is not None and self._at < self._upto and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
        return self._hashers[algorithm].hexdigest()

    def close(self) -> None:
        """End the thread: the sink is not read after this."""
        if self._thread is not None:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            self._thread.join()
            self._thread, self._over = None, False

    def _behind(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="reknit-hash", daemon=True)
            self._thread.start()
        elif self._upto - self._at >= _BLOCK:
            with self._changed:
                self._changed.notify_all()

    def _work(self) -> None:
        assert self._reread is not None
        block = memoryview(bytearray(_BLOCK))
        try:
            while self._due():
                size = self._reread(self._at, block[: self._upto - self._at])
                if not size:
                    raise SinkError("the partial is shorter than what was written to it")
                self._take(block[:size])
        except BaseException as error:
            self._error = error
        with self._changed:
            self._changed.notify_all()

    def _due(self) -> bool:
        """Wait for a block's worth, or for the last bytes; False when it is over."""
        with self._changed:
            self._changed.notify_all()
            while not self._over:
                left = self._upto - self._at
                if left >= _BLOCK or (left and self._hurry):
                    return True
                self._changed.wait()
            return False

    def _take(self, data: memoryview | bytes) -> None:
        for hasher in self._hashers.values():
            hasher.update(data)
        self._at += len(data)
