"""Work on blocks that nobody has to wait for: a thread does it while the next block comes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

# To hand a block over takes about 0.1 ms, in which SHA-256 gets through some 100 KiB.
_WORTH = 256 << 10


class Behind:
    """Does `work` with one block after the other: a small one at once, a large one behind the caller's back.

    A block may be read until the next call of any method returns.
    """

    def __init__(self, work: Callable[[memoryview | bytes], None]) -> None:
        self._work = work
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: Future[None] | None = None

    def take(self, block: memoryview | bytes, *, quick: bool = False) -> bool:
        """False when the block is not done yet. Work that is `quick` is never handed over."""
        self.settle()
        if quick or len(block) < _WORTH:
            self._work(block)
            return True
        self._thread = self._thread or ThreadPoolExecutor(1, "reknit-behind")
        self._under_way = self._thread.submit(self._work, block)
        return False

    def settle(self) -> None:
        """All blocks are done then."""
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            under_way.result()

    def close(self) -> None:
        """End the thread; another block would begin a new one."""
        self.settle()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
