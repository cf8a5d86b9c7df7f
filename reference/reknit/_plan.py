"""Which range is fetched next when several are fetched at once. Pure: no thread, no clock, no file.

Ranges are handed out in ascending order and no further than a window ahead of the first missing byte, so the
prefix without a hole grows all the time. It is all that the journal claims and all that is hashed: what a
killed process loses is the window at most.
"""

from __future__ import annotations

from dataclasses import dataclass

from reknit._ranges import Slice


@dataclass
class _Open:
    at: int
    end: int


def range_size(total: int, most: int, workers: int) -> int:
    """How large each range is: two for each worker at least, so that all have work and finish together."""
    return max(1, min(most, -(-total // (2 * workers))))


class Plan:
    """`held` of `total` bytes are there; ranges of `size` bytes go to `workers` at once."""

    def __init__(self, held: int, total: int, size: int, workers: int) -> None:
        assert 0 <= held <= total
        assert size > 0
        assert workers > 0
        self._next, self._total, self._size = held, total, size
        self._window = 2 * workers * size
        self._open: list[_Open] = []  # ascending; the finished ones are kept until those before them are

    @property
    def frontier(self) -> int:
        """The first byte that is missing: all before it are there."""
        return next((one.at for one in self._open if one.at < one.end), self._next)

    @property
    def done(self) -> int:
        """How many bytes are there, wherever they lie."""
        return self._next - sum(one.end - one.at for one in self._open)

    @property
    def exhausted(self) -> bool:
        """Whether all ranges are handed out."""
        return self._next == self._total

    @property
    def complete(self) -> bool:
        """Whether every byte is there."""
        return self.frontier == self._total

    def take(self) -> Slice | None:
        """The next range to fetch; None when there is none, or none before the frontier moves."""
        if self.exhausted or self._next - self.frontier >= self._window:
            return None
        end = min(self._total, self._next + self._size)
        part = Slice(self._next, end - self._next)
        self._open.append(_Open(self._next, end))
        self._next = end
        return part

    def wrote(self, offset: int, count: int) -> None:
        """`count` bytes from `offset` on are there now. AssertionError unless a range goes on there."""
        one = next((one for one in self._open if one.at == offset and offset < one.end), None)
        assert one is not None, f"no range goes on at byte {offset}"
        assert offset + count <= one.end, f"{count} bytes from {offset} leave the range"
        one.at += count
        while self._open and self._open[0].at == self._open[0].end:
            self._open.pop(0)
