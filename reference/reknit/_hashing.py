"""The running digests of one object, kept by a thread of their own once the blocks are large."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from reknit._checksums import Digest, Hasher

# To hand a block over takes about 0.1 ms, in which SHA-256 gets through some 100 KiB.
_WORTH = 256 << 10


class Hashing:
    """All digests of `wanted`, over what `update` was given. A hash waits for no network and the network for
    no hash: a large block is hashed while the next one is received and written.
    """

    def __init__(self, wanted: Iterable[Digest] = ()) -> None:
        self._hashers = {digest.algorithm: Hasher(digest.algorithm) for digest in wanted}
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: Future[None] | None = None

    def __bool__(self) -> bool:
        return bool(self._hashers)

    def update(self, data: memoryview | bytes) -> None:
        """Take the next bytes. They may be read until the next call of any method returns."""
        self._settle()
        if self._hashers and len(data) >= _WORTH:
            self._thread = self._thread or ThreadPoolExecutor(1, "reknit-hash")
            self._under_way = self._thread.submit(self._take, data)
        else:
            self._take(data)

    def wrong(self, digests: Iterable[Digest]) -> Digest | None:
        """The first of `digests` that what was taken so far does not have."""
        self._settle()
        return next((d for d in digests if self._hashers[d.algorithm].hexdigest() != d.value), None)

    def close(self) -> None:
        """End the thread; another `update` would begin a new one."""
        self._settle()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _take(self, data: memoryview | bytes) -> None:
        for hasher in self._hashers.values():
            hasher.update(data)

    def _settle(self) -> None:
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            under_way.result()
