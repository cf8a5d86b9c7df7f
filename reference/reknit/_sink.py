"""Where bytes go, as a transfer sees it, and the sink that a reader empties."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from reknit._representation import Representation


class Sink(Protocol):
    """What a transfer writes to."""

    def pin(self, representation: Representation) -> None:
        """The bytes from here on belong to this version."""

    def write(self, data: memoryview) -> None:
        """Append. When it returns, the bytes are in the sink."""

    def truncate(self) -> None:
        """Empty the sink."""

    def pause(self) -> None:
        """Nothing will be written for a while."""


class Earlier(Protocol):
    """What an earlier process left in a sink: `held` bytes of one version."""

    held: int
    representation: Representation | None

    def kept(self) -> Iterable[bytes]:
        """The bytes, in blocks."""


class MemorySink:
    """Keeps the bytes, and the versions they were said to belong to."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.pinned: list[Representation] = []

    def pin(self, representation: Representation) -> None:
        self.pinned.append(representation)

    def write(self, data: memoryview) -> None:
        self.data += data

    def truncate(self) -> None:
        self.data.clear()

    def pause(self) -> None:
        pass


class StreamSink:
    """Holds the bytes of one read until a reader takes them. Handed on is kept."""

    def __init__(self) -> None:
        self.pending = memoryview(b"")

    def write(self, data: memoryview) -> None:
        self.pending = data

    def pin(self, representation: Representation) -> None:
        pass

    def truncate(self) -> None:
        """The machine empties a stream only before its first byte."""

    def pause(self) -> None:
        pass
