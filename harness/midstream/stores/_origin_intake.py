"""How the content of a request is taken in, piece by piece, without any I/O.

Whoever reads the connection asks the application for an `Intake` when a head is complete, sends the interim
answer it has, feeds it the content, and sends what `finish` gives. When the connection ends before the
content does, `finish` is never called: what counts only as a whole has then had no effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from midstream.stores._origin_answer import Answer, plain
from midstream.stores._origin_digests import Received

Later = Callable[[], Answer]  # an answer that takes long to find


class Intake(Protocol):
    """One request with content."""

    @property
    def interim(self) -> Answer | None:
        """A 1xx answer to send before the content is waited for."""

    def abort_by(self, abort: Callable[[], None]) -> None:
        """Learn how to end this request, should it have to yield to a later one."""

    def take(self, data: bytes) -> None:
        """More content."""

    def finish(self) -> Answer | Later:
        """All content has come: the final answer."""


class Whole:
    """Keeps the content until it is complete, and only then looks at it."""

    interim: Answer | None = None

    def __init__(self, answer: Callable[[Received], Answer | Later]) -> None:
        self._received = Received()
        self._answer = answer

    def abort_by(self, abort: Callable[[], None]) -> None:
        """Nobody comes before this request."""

    def take(self, data: bytes) -> None:
        self._received.add(data)

    def finish(self) -> Answer | Later:
        return self._answer(self._received)


class Ignored:
    """Content nobody wants, read so that the connection stays in use; the answer was known before."""

    interim: Answer | None = None

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def abort_by(self, abort: Callable[[], None]) -> None:
        """Nobody comes before this request."""

    def take(self, data: bytes) -> None:
        """Dropped."""

    def finish(self) -> Answer | Later:
        return self.answer


def mismatch(algorithm: str, status: int = 400) -> Answer:
    """The answer to content that is not what the request says it is."""
    return plain(status, detail=f"the content's {algorithm} digest is not the one declared")
