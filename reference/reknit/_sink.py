"""Where bytes go, as a transfer sees it, and the sink that a reader empties."""

from __future__ import annotations

from typing import Protocol

from reknit._checksums import Digest, Hasher
from reknit._representation import Representation


class Sink(Protocol):
    """What a transfer writes to."""

    def pin(self, representation: Representation, wanted: tuple[Digest, ...]) -> None:
        """The bytes from here on belong to this version; these digests will be asked for."""

    def write(self, data: memoryview) -> None:
        """Append. When it returns, the bytes are in the sink."""

    def truncate(self) -> None:
        """Empty the sink, the hashes included."""

    def pause(self) -> None:
        """Nothing will be written for a while."""

    def wrong(self, digests: tuple[Digest, ...]) -> Digest | None:
        """The first digest that does not fit what is in the sink."""


class Hashes:
    """The running digests of what is in a sink, rolled back with it."""

    def __init__(self) -> None:
        self._running: dict[str, Hasher] = {}

    def start(self, wanted: tuple[Digest, ...]) -> None:
        """Begin at zero with the algorithms of `wanted`."""
        self._running = {digest.algorithm: Hasher(digest.algorithm) for digest in wanted}

    def update(self, data: memoryview | bytes) -> None:
        """Take what was written."""
        for hasher in self._running.values():
            hasher.update(data)

    def wrong(self, digests: tuple[Digest, ...]) -> Digest | None:
        """See Sink.wrong."""
        return next((d for d in digests if self._running[d.algorithm].hexdigest() != d.value), None)


class StreamSink:
    """Holds the bytes of one read until a reader takes them."""

    def __init__(self) -> None:
        self.pending = memoryview(b"")
        self.representation: Representation | None = None
        self._hashes = Hashes()
        self._fresh = True

    def pin(self, representation: Representation, wanted: tuple[Digest, ...]) -> None:
        """See Sink.pin."""
        if self._fresh:
            self._hashes.start(wanted)
        self.representation = representation

    def write(self, data: memoryview) -> None:
        """See Sink.write: handed on is kept."""
        self._hashes.update(data)
        self._fresh = False
        self.pending = data

    def truncate(self) -> None:
        """The machine empties a stream only before its first byte."""
        self._hashes.start(())

    def pause(self) -> None:
        """Nothing to keep."""

    def wrong(self, digests: tuple[Digest, ...]) -> Digest | None:
        """See Sink.wrong."""
        return self._hashes.wrong(digests)
