"""The running digests of one object."""

from __future__ import annotations

from collections.abc import Iterable

from reknit._behind import Behind
from reknit._checksums import Digest, Hasher


class Hashing:
    """All digests of `wanted`, over what `update` was given. A hash waits for no network and the network for
    no hash: a large block is hashed while the next one is received and written.
    """

    def __init__(self, wanted: Iterable[Digest] = ()) -> None:
        self._hashers = {digest.algorithm: Hasher(digest.algorithm) for digest in wanted}
        self._quick = all(hasher.quick for hasher in self._hashers.values())
        self._behind = Behind(self._take)

    def __bool__(self) -> bool:
        return bool(self._hashers)

    def update(self, data: memoryview | bytes) -> None:
        """Take the next bytes. They may be read until the next call of any method returns."""
        if self._hashers:
            self._behind.take(data, quick=self._quick)

    def wrong(self, digests: Iterable[Digest]) -> Digest | None:
        """The first of `digests` that what was taken so far does not have."""
        self._behind.settle()
        return next((d for d in digests if self._hashers[d.algorithm].hexdigest() != d.value), None)

    def close(self) -> None:
        """End the thread, if there is one."""
        self._behind.close()

    def _take(self, data: memoryview | bytes) -> None:
        for hasher in self._hashers.values():
            hasher.update(data)
